/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * accept, fallback: sk_lookup in one network namespace, where the kernel looks
 * for a listener on behalf of a SYN. A rejected peer gets a reset.
 *
 * The hook also runs for ports on which nobody listens; the registry keeps
 * those out, so a port scan is not a thousand accept requests. A SYN that is
 * sent again is judged again.
 */
#include "judge.h"

static __always_inline struct sr_listener *sr_find(struct sr_listener_key *key)
{
	struct sr_listener *listener = listeners.lookup(key);

	return listener && listener->count ? listener : NULL;
}

int sr_sk_lookup(struct bpf_sk_lookup *ctx)
{
	u64 w[SR_WORDS] = {};
	struct sr_listener_key key = {};
	struct sr_listener *listener;
	u32 zero = 0;
	struct sr_control *c = control.lookup(&zero);

	if (ctx->protocol != 6 /* TCP */ || !c)
		return SK_PASS;
	w[SR_W_BITS] = SR_BIT_LOCAL_KNOWN | SR_BIT_REMOTE_KNOWN;
	w[SR_W_PORTS] = (u64)(ctx->local_port & 0xffff) << 16 | bpf_ntohs(ctx->remote_port);
	if (ctx->family == 2 /* AF_INET */) {
		w[SR_W_LOCAL_LO] = sr_ip4(ctx->local_ip4);
		w[SR_W_REMOTE_LO] = sr_ip4(ctx->remote_ip4);
	} else {
		w[SR_W_LOCAL_HI] = sr_ip6_half(ctx->local_ip6[0], ctx->local_ip6[1]);
		w[SR_W_LOCAL_LO] = sr_ip6_half(ctx->local_ip6[2], ctx->local_ip6[3]);
		w[SR_W_REMOTE_HI] = sr_ip6_half(ctx->remote_ip6[0], ctx->remote_ip6[1]);
		w[SR_W_REMOTE_LO] = sr_ip6_half(ctx->remote_ip6[2], ctx->remote_ip6[3]);
	}

	/* the kernel prefers the exact address, then its family's wildcard, then :: */
	key.netns = c->netns;
	key.port = ctx->local_port;
	key.hi = w[SR_W_LOCAL_HI];
	key.lo = w[SR_W_LOCAL_LO];
	listener = sr_find(&key);
	if (!listener && ctx->family == 2) {
		key.lo = sr_ip4(0);
		listener = sr_find(&key);
	}
	if (!listener) {
		key.hi = 0;
		key.lo = 0;
		listener = sr_find(&key);
	}
	if (!listener)
		return SK_PASS;
	if (listener->flags & SR_SHUT) {
		u32 server = SR_LISTEN;
		struct sr_totals *total = totals.lookup(&server);

		if (total)
			SR_ADD(total->shut);
		return SK_DROP;
	}
	return sr_judge(ctx, SR_ACCEPT, SR_HOOK_SK_LOOKUP, w, &listener->owner, c->netns) == SR_ALLOW ?
		       SK_PASS :
		       SK_DROP;
}
