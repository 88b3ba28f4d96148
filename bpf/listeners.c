/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who listens, kept by sockops in two maps: by socket (`owners`), for the accept hook
 * that knows the listening socket, and by place (`listeners`), for the one that does
 * not.
 *
 * Entries are made when a socket starts to listen; the kernel calls back when it stops
 * (for close, shutdown and MPTCP alike). An entry of `owners` goes then. One of
 * `listeners` is counted down and stays at zero until the agent sweeps it, so that two
 * sockets of one SO_REUSEPORT group can come and go on two CPUs without losing the
 * entry: a stale entry only makes noise, a missing one would let peers in unjudged.
 *
 * Sockets are known by their cookie, in a map. BPF socket storage would be the place
 * for an owner, but fmod_ret programs have no helper for it in any kernel
 * (bpf_sk_storage_tracing_allowed, net/core/bpf_sk_storage.c, Linux 5.11 to 6.18), and
 * the cookie of a listener older than the agent is what socket diagnostics tell.
 *
 * Accepted sockets inherit the wish to be called back from their listener. Nobody needs
 * it, so it is taken back, unless another program may want to be called.
 *
 * Known gap: the kernel calls back just after the socket has begun to listen; a peer
 * that arrives between is not judged, or as a peer of nobody known.
 */
#include "judge.h"

static __always_inline void sr_place_of(struct bpf_sock_ops *ctx, struct sr_listener_key *place)
{
	place->netns = ctx->sk ? sr_socket_netns(sr_address(ctx->sk)) : 0;
	place->port = ctx->local_port;
	if (ctx->family == 2 /* AF_INET */) {
		place->lo = sr_ip4(ctx->local_ip4);
	} else {
		place->hi = sr_ip6_half(ctx->local_ip6[0], ctx->local_ip6[1]);
		place->lo = sr_ip6_half(ctx->local_ip6[2], ctx->local_ip6[3]);
	}
}

/* Whether this listen was judged already, at bind() or by security_socket_listen. */
static __always_inline int sr_is_judged(u64 cookie, u32 local_port)
{
	u64 thread = bpf_get_current_task();
	u32 *how = binds.lookup(&cookie), *port = passed.lookup(&thread), judged = 0;

	if (how)
		judged |= *how == SR_BIND_JUDGED;
	if (port) {
		judged |= *port == local_port;
		passed.delete(&thread);
	}
	return judged;
}

/* Judge a listen that no other hook could; the flags of the listener. */
static __always_inline u32 sr_judge_listener(struct bpf_sock_ops *ctx, struct sr_control *c,
					     u64 cookie, const struct sr_listener_key *place)
{
	u64 w[SR_WORDS] = {};

	if (sr_is_judged(cookie, place->port)) {
		sr_is_proof(c, SR_HOOK_TCP_LISTEN, NULL);
		return 0;
	}
	w[SR_W_BITS] = SR_BIT_LOCAL_KNOWN;
	w[SR_W_PORTS] = (u64)(place->port & 0xffff) << 16;
	w[SR_W_LOCAL_HI] = place->hi;
	w[SR_W_LOCAL_LO] = place->lo;
	if (sr_judge(ctx, SR_LISTEN, SR_HOOK_TCP_LISTEN, w, NULL, 0) == SR_DENY)
		return SR_UNBOUND | SR_SHUT;
	return SR_UNBOUND;
}

static __always_inline void sr_enter_owner(struct sr_listener *entry,
					   const struct sr_listener_key *place, u32 flags)
{
	u64 task = sr_task(), file = sr_exe_file(task);
	struct sr_stage *stage = sr_own_stage();

	entry->count = 1;
	entry->flags = flags;
	entry->place = *place;
	sr_ids(task, &entry->owner.uid, &entry->owner.gid);
	entry->owner.cgroup = sr_cgroup(task);
	entry->owner.pid = sr_tgid(task);
	sr_comm(task, entry->owner.comm);
	sr_program(file, &entry->owner.program);
	if (file) {
		sr_record_above(file, &entry->owner);
		if (stage)
			sr_remember_path(stage, file, &entry->owner.program,
					 bpf_ktime_get_ns());
	}
}

/* What CPUs remember of `listeners` is void (found.h). After the change, not before. */
static __always_inline void sr_listeners_changed(void)
{
	u32 programs = 0;
	u64 *count = changes.lookup(&programs);

	if (count)
		SR_ADD(*count);
}

static __always_inline void sr_listening(struct bpf_sock_ops *ctx)
{
	u64 cookie = bpf_get_socket_cookie(ctx);
	struct sr_listener_key place = {};
	struct sr_listener *none, *own, *there;
	u32 zero = 0, one = 1, server = SR_LISTEN, flags;
	struct sr_control *c = control.lookup(&zero);
	struct sr_totals *total = totals.lookup(&server);

	none = no_listener.lookup(&zero);
	if (!c || !none || !total)
		return;
	sr_place_of(ctx, &place);
	place.hi ^= c->zero; /* or the verifier follows IPv4 and IPv6 to the end (Linux 6.1) */
	place.lo ^= c->zero;
	flags = sr_judge_listener(ctx, c, cookie, &place);

	owners.insert(&cookie, none);
	own = owners.lookup(&cookie);
	listeners.insert(&place, none);
	there = listeners.lookup(&place);
	if (!own || !there) {
		SR_ADD(total->unregistered);
		overflowed.update(&zero, &one);
		return;
	}
	sr_enter_owner(own, &place, flags);
	if (!there->count)
		there->flags = 0;
	there->flags |= flags; /* who joins a group does not open what is shut */
	there->place = place;
	there->owner = own->owner;
	SR_ADD(there->count);
	sr_listeners_changed();
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Tell the agent of a listener where no sk_lookup is attached; it comes and attaches one. */
static __always_inline void sr_arrive(struct bpf_sock_ops *ctx)
{
	u64 net = ctx->sk ? sr_socket_net(sr_address(ctx->sk)) : 0;
	struct sr_arrival arrival = {};
	u32 zero = 0;
	struct sr_control *c = control.lookup(&zero);

	if (!net || !c || !c->arrivals || sr_is_covered(net))
		return;
	arrival.netns = sr_read32(net, SR_OFF_NET_INUM);
	arrival.pid = sr_tgid(sr_task());
	arrival.cookie = sr_read64(net, SR_OFF_NET_COOKIE);
	arrival.monotonic = bpf_ktime_get_ns();
	arrivals.perf_submit(ctx, &arrival, sizeof(arrival));
}

static __always_inline void sr_stopped_listening(struct bpf_sock_ops *ctx)
{
	u64 cookie = bpf_get_socket_cookie(ctx);
	struct sr_listener_key place = {};
	struct sr_listener *there;

	owners.delete(&cookie);
	sr_place_of(ctx, &place);
	there = listeners.lookup(&place);
	if (there && there->count)
		__sync_fetch_and_add(&there->count, -1);
	sr_listeners_changed();
}

/*
 * Take the inherited flag back. Every callback runs all programs of the socket's cgroup;
 * where this one is the only one, nobody else is called or has set a flag.
 */
static __always_inline void sr_accepted(struct bpf_sock_ops *ctx)
{
#if SR_HAS_TYPED_SOCKET
	u64 socket, cgroup, programs;

	if (ctx->bpf_sock_ops_cb_flags != BPF_SOCK_OPS_STATE_CB_FLAG || !ctx->sk)
		return;
	socket = (u64)bpf_skc_to_tcp_sock(ctx->sk);
	if (!socket)
		return;
	cgroup = sr_member64(socket, SR_OFF_SOCK_CGROUP);
	programs = sr_member64(cgroup, SR_OFF_CGROUP_SOCKOPS);
	if (!sr_member64(programs, SR_OFF_SECOND_PROGRAM))
		bpf_sock_ops_cb_flags_set(ctx, 0);
#endif
}

int sr_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB) {
		sr_listening(ctx);
		sr_arrive(ctx);
	} else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[0] == BPF_TCP_LISTEN) {
		sr_stopped_listening(ctx);
	} else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		sr_accepted(ctx);
	}
	return 1;
}
