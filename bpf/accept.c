/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * accept, fallback: sk_lookup, where the kernel looks for a listener on behalf of
 * a SYN. A rejected peer gets a reset. Each network namespace has an instance of
 * its own, because the program has no other way to know where it runs.
 *
 * The hook also runs for ports on which nobody listens; the registry keeps
 * those out, so a port scan is not a thousand accept requests. Where the whole
 * host is governed and the registry has had no room for a listener, every SYN is
 * judged until the agent has made room, those without an entry as for nobody
 * known (the entry with the empty key). A SYN that is sent again is judged again.
 */
#include "found.h"
#include "judge.h"

/* The namespace of this instance: the agent writes its place over the mark (agent/bytecode.py). */
static __always_inline u32 sr_here(void)
{
	u64 place = SR_PLACE_MARK;
	u32 *netns;

	asm volatile("" : "+r"(place));
	netns = places.lookup((u32 *)&place);
	return netns ? *netns : 0;
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

	/* nothing known to the verifier, or that of Linux 6.1 follows each kind of key to the end */
	key.netns = sr_here() ^ (u32)c->zero;
	key.port = ctx->local_port ^ (u32)c->zero;
	key.hi = w[SR_W_LOCAL_HI] ^ c->zero;
	key.lo = w[SR_W_LOCAL_LO] ^ c->zero;
	listener = sr_listener_at(&key);
	if (!listener)
		return SK_PASS;
	if (sr_is_shut(listener))
		return SK_DROP;
	return sr_judge(ctx, SR_ACCEPT, SR_HOOK_SK_LOOKUP, w, &listener->owner, key.netns) == SR_ALLOW ?
		       SK_PASS :
		       SK_DROP;
}
