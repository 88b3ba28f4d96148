/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * listen and accept, preferred: the security hooks socket_listen and
 * inet_conn_request, which refuse listen(2) itself and drop a peer's SYN; and
 * task_prctl, which keeps programs from forging what they are.
 *
 * Each of the first two serves two ways. As fmod_ret it is attached to the function
 * security_..., which the kernel always calls; as an LSM program it is called only
 * where bpf is in the list of active security modules. Both get the function's
 * arguments as an array of u64; what they point to is read by the kernel's own
 * offsets, since the two kinds of program see the arguments under different types
 * and 5.10's verifier follows fewer of them.
 *
 * These hooks see the whole host. socket_listen judges the tasks of the governed
 * cgroup, inet_conn_request the listeners that sockops or the agent entered in
 * `owners`; where the whole host is governed, an entry with cookie 0 stands for every
 * other listener, such as the kernel's own.
 *
 * Linux skips an fmod_ret program that is already running on the same CPU. For listen
 * that costs nothing: what was not judged here is judged by sockops. For accept it
 * takes a SYN that interrupts the processing of another, which happens with
 * PREEMPT_RT only.
 */
#include "judge.h"

/* What both programs return to reject. Clang would compute it from the verdict, beyond the verifier. */
#define SR_REFUSE                                 \
	({                                        \
		int _refuse = -1; /* -EPERM */    \
		asm volatile("" : "+r"(_refuse)); \
		_refuse;                          \
	})

/* An IPv6 address in kernel memory, as two words. */
static __always_inline void sr_read_ip6(u64 address, u64 *hi, u64 *lo)
{
	*hi = sr_ip6_half(sr_read32(address, 0), sr_read32(address, 4));
	*lo = sr_ip6_half(sr_read32(address, 8), sr_read32(address, 12));
}

/* The local address and port of a struct sock_common: a socket or a request. */
static __always_inline void sr_local_of(u64 common, u32 family, u64 *w)
{
	w[SR_W_BITS] |= SR_BIT_LOCAL_KNOWN;
	w[SR_W_PORTS] |= (u64)sr_read16(common, SR_OFF_COMMON_NUM) << 16;
	if (family == 2 /* AF_INET */)
		w[SR_W_LOCAL_LO] = sr_ip4(sr_read32(common, SR_OFF_COMMON_RCV_SADDR));
	else
		sr_read_ip6(common + SR_OFF_COMMON_V6_RCV_SADDR, &w[SR_W_LOCAL_HI],
			    &w[SR_W_LOCAL_LO]);
}

static __always_inline void sr_remote_of(u64 common, u32 family, u64 *w)
{
	w[SR_W_BITS] |= SR_BIT_REMOTE_KNOWN;
	w[SR_W_PORTS] |= bpf_ntohs(sr_read16(common, SR_OFF_COMMON_DPORT));
	if (family == 2 /* AF_INET */)
		w[SR_W_REMOTE_LO] = sr_ip4(sr_read32(common, SR_OFF_COMMON_DADDR));
	else
		sr_read_ip6(common + SR_OFF_COMMON_V6_DADDR, &w[SR_W_REMOTE_HI],
			    &w[SR_W_REMOTE_LO]);
}

/* (struct socket *sock, int backlog) */
int sr_socket_listen(u64 *ctx)
{
	u64 w[SR_WORDS] = {}, socket = sr_address(ctx[0]), thread = bpf_get_current_task();
	u64 sk = sr_read64(socket, SR_OFF_SOCKET_SK);
	u32 family = sr_read16(sk, SR_OFF_COMMON_FAMILY), port = sr_read16(sk, SR_OFF_COMMON_NUM);

	if ((family != 2 /* AF_INET */ && family != 10 /* AF_INET6 */) ||
	    !sr_is_tcp(sr_read16(socket, SR_OFF_SOCKET_TYPE), sr_read16(sk, SR_OFF_SK_PROTOCOL)) ||
	    governed.check_current_task(0) != 1)
		return 0;
	if ((sr_read16(sk, SR_OFF_COMMON_STATE) & 0xff) == BPF_TCP_LISTEN)
		return 0; /* only the backlog changes */
	passed.delete(&thread);
	if (!port)
		return 0; /* sockops will know the port, and judge */
	sr_local_of(sk, family, w);
	if (sr_judge(ctx, SR_LISTEN, SR_HOOK_SOCKET_LISTEN, w, NULL, 0) == SR_DENY)
		return SR_REFUSE;
	passed.update(&thread, &port);
	return 0;
}

/*
 * Whether sk_lookup has judged the SYN, as it does where peers are to get a reset:
 * it is attached in the listener's namespace, and knows the listener's place.
 */
static __always_inline int sr_is_judged_in_front(u64 sk, struct sr_listener *listener)
{
	struct sr_listener_key place = listener->place;
	struct sr_listener *there;

	if (!sr_is_covered(sr_socket_net(sk)))
		return 0;
	there = listeners.lookup(&place);
	return there && there->count;
}

/* (const struct sock *sk, struct sk_buff *skb, struct request_sock *req) */
int sr_conn_request(u64 *ctx)
{
	u64 w[SR_WORDS] = {}, sk = sr_address(ctx[0]), request = sr_address(ctx[2]);
	u64 cookie = sr_read64(sk, SR_OFF_COMMON_COOKIE);
	struct sr_listener *listener;
	u32 family, zero = 0;
	struct sr_control *c = control.lookup(&zero);

	if (sr_read16(sk, SR_OFF_SK_PROTOCOL) != 6 /* TCP, of MPTCP too; not DCCP */)
		return 0;
	listener = owners.lookup(&cookie);
	if (!listener) {
		cookie = 0;
		listener = owners.lookup(&cookie);
	}
	if (!listener)
		return 0;
	if (c && cookie && sr_is_judged_in_front(sk, listener)) {
		sr_is_proof(c, SR_HOOK_CONN_REQUEST, &listener->owner);
		return 0;
	}
	if (sr_is_shut(listener))
		return SR_REFUSE;
	/* that of the SYN: a listener of both families has one request for either */
	family = sr_read32(sr_read64(request, SR_OFF_REQUEST_OPS), SR_OFF_REQUEST_OPS_FAMILY);
	sr_local_of(request, family, w);
	sr_remote_of(request, family, w);
	if (sr_judge(ctx, SR_ACCEPT, SR_HOOK_CONN_REQUEST, w, &listener->owner,
		     sr_socket_netns(sk)) == SR_DENY)
		return SR_REFUSE;
	return 0;
}

#define SR_PR_SET_MM 35 /* include/uapi/linux/prctl.h */
#define SR_PR_SET_MM_EXE_FILE 13
#define SR_PR_SET_MM_MAP 14

/*
 * The guard of program identity, attached to security_task_prctl by fmod_ret, which sees
 * (int option, unsigned long arg2, ...). With CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE in its
 * own user namespace, which anybody can make, a process could name any file that it may
 * execute as the one that it runs (prctl_set_mm, kernel/sys.c, Linux 6.18). Whoever is
 * privileged on the host still can, as CRIU does.
 */
int sr_task_prctl(u64 *ctx)
{
	u64 cred = sr_read64(bpf_get_current_task(), SR_OFF_TASK_CRED);
	u64 user = sr_read64(cred, SR_OFF_CRED_USER_NS);
	u32 option = ctx[0];

	if (option != SR_PR_SET_MM ||
	    (ctx[1] != SR_PR_SET_MM_EXE_FILE && ctx[1] != SR_PR_SET_MM_MAP) ||
	    !sr_read32(user, SR_OFF_USER_NS_LEVEL) || governed.check_current_task(0) != 1)
		return 0;
	return SR_REFUSE;
}
