/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The registry of listeners, kept by sockops: who owns which listening port.
 *
 * An entry is made when a socket starts to listen and counted down when one
 * stops (the kernel calls back for close, shutdown and MPTCP alike). Entries
 * that reach zero stay until the agent sweeps them, so that two sockets of one
 * SO_REUSEPORT group can come and go on two CPUs without losing the entry: a
 * stale entry only makes noise, a missing one would let peers in unjudged.
 */
#include "judge.h"

static __always_inline void sr_listener_of(struct bpf_sock_ops *ctx, struct sr_listener_key *key)
{
	key->netns = ctx->sk ? sr_socket_netns(sr_address(ctx->sk)) : 0;
	key->port = ctx->local_port;
	if (ctx->family == 2 /* AF_INET */) {
		key->lo = sr_ip4(ctx->local_ip4);
	} else {
		key->hi = sr_ip6_half(ctx->local_ip6[0], ctx->local_ip6[1]);
		key->lo = sr_ip6_half(ctx->local_ip6[2], ctx->local_ip6[3]);
	}
}

static __always_inline void sr_listening(struct bpf_sock_ops *ctx)
{
	u64 w[SR_WORDS] = {}, cookie = bpf_get_socket_cookie(ctx), file = sr_exe_file();
	struct sr_listener_key key = {};
	struct sr_listener *listener;
	u32 zero = 0, server = SR_LISTEN, *how, flags = 0;

	sr_listener_of(ctx, &key);
	how = binds.lookup(&cookie);
	if (!how || *how != SR_BIND_JUDGED) {
		flags = SR_UNBOUND;
		w[SR_W_BITS] = SR_BIT_LOCAL_KNOWN;
		w[SR_W_PORTS] = (u64)(ctx->local_port & 0xffff) << 16;
		w[SR_W_LOCAL_HI] = key.hi;
		w[SR_W_LOCAL_LO] = key.lo;
		if (sr_judge(ctx, SR_LISTEN, SR_HOOK_TCP_LISTEN, w, NULL, 0) == SR_DENY)
			flags |= SR_SHUT;
	}
	listener = listeners.lookup(&key);
	if (!listener) {
		struct sr_listener *none = no_listener.lookup(&zero);

		if (none)
			listeners.insert(&key, none);
		listener = listeners.lookup(&key);
	}
	if (!listener) {
		struct sr_totals *total = totals.lookup(&server);

		if (total)
			SR_ADD(total->unregistered);
		return;
	}
	listener->flags = flags;
	sr_ids(&listener->owner.uid, &listener->owner.gid);
	listener->owner.cgroup = sr_current_cgroup();
	listener->owner.pid = sr_tgid();
	sr_comm(listener->owner.comm);
	sr_program(file, &listener->owner.program);
	if (file) {
		sr_record_above(file, &listener->owner);
		sr_remember_path(file, &listener->owner.program);
	}
	SR_ADD(listener->count);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void sr_stopped_listening(struct bpf_sock_ops *ctx)
{
	struct sr_listener_key key = {};
	struct sr_listener *listener;

	sr_listener_of(ctx, &key);
	listener = listeners.lookup(&key);
	if (listener && listener->count)
		__sync_fetch_and_add(&listener->count, -1);
}

int sr_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB)
		sr_listening(ctx);
	else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[0] == BPF_TCP_LISTEN)
		sr_stopped_listening(ctx);
	return 1;
}
