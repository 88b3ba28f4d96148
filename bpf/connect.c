/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connect: cgroup/connect4 and cgroup/connect6, before a route is looked up.
 *
 * Covers connect(2), non-blocking and io_uring connects, Fast Open by sendto
 * and by TCP_FASTOPEN_CONNECT, MPTCP, kernel sockets. A connect to 0.0.0.0 or
 * :: reaches loopback, or the address that the socket is bound to
 * (ip_route_output_key_hash_rcu, net/ipv4/route.c; tcp_v6_connect,
 * net/ipv6/tcp_ipv6.c; Linux 6.18), and is judged as that.
 */
#include "judge.h"

#define SR_LOOPBACK4 0x0000ffff7f000001ULL

static __always_inline void sr_bound_to(u64 *w, u64 hi, u64 lo, u32 port)
{
	w[SR_W_PORTS] |= (u64)(port & 0xffff) << 16;
	if (!hi && (!lo || lo == 0x0000ffff00000000ULL))
		return; /* bound to no address: unknown */
	w[SR_W_LOCAL_HI] = hi;
	w[SR_W_LOCAL_LO] = lo;
	w[SR_W_BITS] |= SR_BIT_LOCAL_KNOWN;
}

int sr_connect4(struct bpf_sock_addr *ctx)
{
	u64 w[SR_WORDS] = {};

	if (!sr_is_tcp(ctx->type, ctx->protocol))
		return 1;
	w[SR_W_BITS] = SR_BIT_REMOTE_KNOWN;
	w[SR_W_PORTS] = bpf_ntohs(ctx->user_port);
	if (ctx->sk)
		sr_bound_to(w, 0, sr_ip4(ctx->sk->src_ip4), ctx->sk->src_port);
	w[SR_W_REMOTE_LO] = sr_ip4(ctx->user_ip4);
	if (!ctx->user_ip4)
		w[SR_W_REMOTE_LO] = w[SR_W_LOCAL_LO] ? w[SR_W_LOCAL_LO] : SR_LOOPBACK4;
	return sr_judge(ctx, SR_CONNECT, SR_HOOK_CONNECT4, w, NULL, 0) == SR_ALLOW;
}

int sr_connect6(struct bpf_sock_addr *ctx)
{
	u64 w[SR_WORDS] = {};

	if (!sr_is_tcp(ctx->type, ctx->protocol))
		return 1;
	w[SR_W_BITS] = SR_BIT_REMOTE_KNOWN;
	w[SR_W_PORTS] = bpf_ntohs(ctx->user_port);
	if (ctx->sk)
		sr_bound_to(w, sr_ip6_half(ctx->sk->src_ip6[0], ctx->sk->src_ip6[1]),
			    sr_ip6_half(ctx->sk->src_ip6[2], ctx->sk->src_ip6[3]),
			    ctx->sk->src_port);
	w[SR_W_REMOTE_HI] = sr_ip6_half(ctx->user_ip6[0], ctx->user_ip6[1]);
	w[SR_W_REMOTE_LO] = sr_ip6_half(ctx->user_ip6[2], ctx->user_ip6[3]);
	if (!w[SR_W_REMOTE_HI]) {
		int mapped = !w[SR_W_LOCAL_HI] && w[SR_W_LOCAL_LO] >> 32 == 0xffff;

		if (!w[SR_W_REMOTE_LO]) /* :: */
			w[SR_W_REMOTE_LO] = mapped ? SR_LOOPBACK4 : 1;
		else if (w[SR_W_REMOTE_LO] == 0x0000ffff00000000ULL) /* ::ffff:0.0.0.0 */
			w[SR_W_REMOTE_LO] = mapped ? w[SR_W_LOCAL_LO] : SR_LOOPBACK4;
	}
	return sr_judge(ctx, SR_CONNECT, SR_HOOK_CONNECT6, w, NULL, 0) == SR_ALLOW;
}
