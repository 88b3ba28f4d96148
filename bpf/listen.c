/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * listen, fallback: cgroup/post_bind4 and post_bind6 reject at bind(2), and
 * sockops TCP_LISTEN sees what was not judged there.
 *
 * No hook that every kernel has can refuse listen(2) itself. A socket bound to
 * a port of its choice is judged at bind(). One that asked for port 0, as
 * clients with a source address do, or that never bound, is judged when it
 * listens; listen() then succeeds, and a rejected listener is shut: no peer is
 * let in (accept.c).
 *
 * Known gap: a client that binds a port of its choice and then connects is
 * judged as if it were going to listen there.
 */
#include "judge.h"

static __always_inline void sr_note_bind(struct bpf_sock_addr *ctx)
{
	u64 cookie;
	u32 ephemeral = SR_BIND_EPHEMERAL;

	if (!sr_is_tcp(ctx->type, ctx->protocol))
		return;
	cookie = bpf_get_socket_cookie(ctx);
	if (ctx->user_port) /* what an earlier bind() asked for, and did not get or gave up */
		binds.delete(&cookie);
	else
		binds.update(&cookie, &ephemeral);
}

int sr_bind4(struct bpf_sock_addr *ctx)
{
	sr_note_bind(ctx);
	return 1;
}

int sr_bind6(struct bpf_sock_addr *ctx)
{
	sr_note_bind(ctx);
	return 1;
}

static __always_inline int sr_post_bind(struct bpf_sock *ctx, u32 hook, u64 *w)
{
	u64 cookie = bpf_get_socket_cookie(ctx);
	u32 *how = binds.lookup(&cookie), judged = SR_BIND_JUDGED;

	if (how && *how == SR_BIND_EPHEMERAL)
		return SR_ALLOW;
	w[SR_W_BITS] = SR_BIT_LOCAL_KNOWN;
	w[SR_W_PORTS] = (u64)(ctx->src_port & 0xffff) << 16;
	if (sr_judge(ctx, SR_LISTEN, hook, w, NULL, 0) == SR_DENY)
		return SR_DENY;
	binds.update(&cookie, &judged);
	return SR_ALLOW;
}

int sr_post_bind4(struct bpf_sock *ctx)
{
	u64 w[SR_WORDS] = {};

	if (!sr_is_tcp(ctx->type, ctx->protocol))
		return 1;
	w[SR_W_LOCAL_LO] = sr_ip4(ctx->src_ip4);
	return sr_post_bind(ctx, SR_HOOK_POST_BIND4, w) == SR_ALLOW;
}

int sr_post_bind6(struct bpf_sock *ctx)
{
	u64 w[SR_WORDS] = {};

	if (!sr_is_tcp(ctx->type, ctx->protocol))
		return 1;
	w[SR_W_LOCAL_HI] = sr_ip6_half(ctx->src_ip6[0], ctx->src_ip6[1]);
	w[SR_W_LOCAL_LO] = sr_ip6_half(ctx->src_ip6[2], ctx->src_ip6[3]);
	return sr_post_bind(ctx, SR_HOOK_POST_BIND6, w) == SR_ALLOW;
}
