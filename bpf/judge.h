/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What every hook does with a request: gather, decide, count, emit, return.
 *
 * `owner` is who asks: NULL is the current task, otherwise a listener's owner.
 * Uncertainty: a walk that runs out of steps, or out of the entries and slots, is
 * a rejection in enforce mode, and counted as exhausted. `control`, `totals`,
 * `headers` and `stages` are arrays asked for elements that they always have; the
 * branches for their absence, which let through, are there because the verifier demands
 * them.
 * An event that cannot be delivered is counted as lost and changes nothing.
 */
#ifndef SOCKRULES_JUDGE_H
#define SOCKRULES_JUDGE_H

#include "decide.h"
#include "owner.h"
#include "stage.h"

#define SR_ALLOW 0
#define SR_DENY 1

#define SR_ADD(counter) __sync_fetch_and_add(&(counter), 1)

static __always_inline u64 sr_ip4(u32 network_order)
{
	return 0x0000ffff00000000ULL | bpf_ntohl(network_order);
}

/* Two words of an address that a context holds. Contexts are read by four bytes; clang would merge. */
static __always_inline u64 sr_ip6_half(u32 first, u32 second)
{
	asm volatile("" : "+r"(first));
	asm volatile("" : "+r"(second));
	return (u64)bpf_ntohl(first) << 32 | bpf_ntohl(second);
}

/*
 * The agent proves a hook by a request of its own; it is counted and let through.
 * The probe has an end of its own, or an agent killed meanwhile would leave whoever
 * gets the process number next unjudged.
 */
static __always_inline int sr_is_proof(const struct sr_control *c, u32 hook,
				       const struct sr_owner *owner)
{
	u64 *seen;

	if (!c->probe_tgid || bpf_ktime_get_ns() > c->probe_until)
		return 0;
	if ((owner ? owner->pid : sr_tgid(sr_task())) != c->probe_tgid)
		return 0;
	seen = proofs.lookup(&hook);
	if (seen)
		SR_ADD(*seen);
	return 1;
}

/* Whether nobody is let in to a listener, because its own listen was rejected. */
static __always_inline int sr_is_shut(const struct sr_listener *listener)
{
	u32 server = SR_LISTEN;
	struct sr_totals *total = totals.lookup(&server);

	if (!(listener->flags & SR_SHUT))
		return 0;
	if (total)
		SR_ADD(total->shut);
	return 1;
}

/* A wake-up takes microseconds: the first event after a pause pays for it, no other. */
static __always_inline void sr_ring(void *ctx)
{
	u32 zero = 0, *sleeps = asleep.lookup(&zero);

	if (!sleeps || !*sleeps)
		return;
	*sleeps = 0;
	doorbell.perf_submit(ctx, &zero, sizeof(zero));
}

static __always_inline void sr_emit(void *ctx, const struct sr_header *h, u32 server, u32 rule,
				    u32 mode, u32 hook, const u64 *w, const struct sr_owner *owner,
				    u32 netns, struct sr_totals *total)
{
	struct sr_stage *stage = sr_own_stage();
	struct sr_event event = {};
	u32 lost;

	if (!stage)
		return;
	event.version = SR_ABI_VERSION;
	event.size = sizeof(event);
	event.server = server;
	event.mode = mode;
	event.hook = hook;
	event.flags = rule & 0xff;
	event.monotonic = bpf_ktime_get_ns();
	event.revision = h->revision;
	event.local_hi = w[SR_W_LOCAL_HI];
	event.local_lo = w[SR_W_LOCAL_LO];
	event.remote_hi = w[SR_W_REMOTE_HI];
	event.remote_lo = w[SR_W_REMOTE_LO];
	event.local_port = w[SR_W_PORTS] >> 16;
	event.remote_port = w[SR_W_PORTS] & 0xffff;
	event.known = w[SR_W_BITS] & (SR_BIT_LOCAL_KNOWN | SR_BIT_REMOTE_KNOWN);
	event.rule = rule >> SR_RULE_SHIFT;
	if (owner) {
		event.uid = owner->uid;
		event.gid = owner->gid;
		event.pid = owner->pid;
		event.netns = netns;
		event.cgroup = owner->cgroup;
		event.program.number = owner->program.number;
		event.program.device = owner->program.device;
		event.program.generation = owner->program.generation;
		__builtin_memcpy(event.comm, owner->comm, SR_COMM);
	} else {
		u64 task = sr_task(), file = sr_exe_file(task);

		sr_ids(task, &event.uid, &event.gid);
		event.pid = sr_tgid(task);
		event.netns = sr_netns(task);
		event.cgroup = sr_cgroup(task);
		sr_comm(task, event.comm);
		sr_program(file, &event.program);
		sr_remember_path(stage, file, &event.program, event.monotonic);
	}
	lost = sr_hand_over(ctx, stage, &event);
	if (lost)
		__sync_fetch_and_add(&total->lost, lost);
	sr_ring(ctx);
}

/*
 * Judge a request whose addresses and ports are in w. Returns SR_DENY only where
 * the server enforces. `netns` is the listener's network namespace; a caller's is
 * its own.
 */
static __always_inline int sr_judge(void *ctx, u32 server, u32 hook, u64 *w,
				    const struct sr_owner *owner, u32 netns)
{
	u32 zero = 0, row = server, generation, mode, rule, index;
	struct sr_control *c = control.lookup(&zero);
	struct sr_totals *total = totals.lookup(&row);
	struct sr_header *h;
	u64 *hit;

	if (!c || !total)
		return SR_ALLOW;
#pragma unroll
	for (int i = 0; i < SR_WORDS; i++)
		w[i] ^= c->zero;
	w[SR_W_BITS] |= server;
	if (sr_is_proof(c, hook, owner))
		return SR_ALLOW;
	mode = c->mode[server];
	if (mode == SR_OFF)
		return SR_ALLOW;
	generation = *(volatile u32 *)&c->generation & 1;
	h = headers.lookup(&generation);
	if (!h)
		return SR_ALLOW;
	if (owner)
		sr_gather_owner(h, generation, owner, w);
	else
		sr_gather_caller(h, generation, w);

	/* What was gathered on different paths looks alike to the verifier: one walk is followed. */
#pragma unroll
	for (int i = 0; i < SR_WORDS; i++)
		w[i] ^= SR_ZERO(h);
	rule = sr_decide(h, generation, w);

	SR_ADD(total->decisions);
	/*
	 * For the verifier: a call, which it makes a load, after which it forgets what differs
	 * from one end of the walk to the next. Linux 6.1 refuses listen at 900 steps without.
	 */
	bpf_jiffies64();
	if (rule == SR_EXHAUSTED) {
		SR_ADD(total->exhausted);
		rule = SR_NO_RULE << SR_RULE_SHIFT | SR_REJECT | SR_AUDIT;
	}
	index = generation * SR_RULES + (rule >> SR_RULE_SHIFT);
	hit = hits.lookup(&index);
	if (hit && rule >> SR_RULE_SHIFT != SR_NO_RULE)
		SR_ADD(*hit);
	if (rule & SR_REJECT) {
		if (mode == SR_ENFORCE)
			SR_ADD(total->rejections);
		else
			SR_ADD(total->simulated);
	}
	if (rule & (SR_REJECT | SR_AUDIT | SR_MESSAGE | SR_CAPTURE))
		sr_emit(ctx, h, server, rule, mode, hook, w, owner, netns, total);
	return (rule & SR_REJECT) && mode == SR_ENFORCE ? SR_DENY : SR_ALLOW;
}

static __always_inline int sr_is_tcp(u32 type, u32 protocol)
{
	return type == 1 /* SOCK_STREAM */ && (protocol == 6 /* TCP */ || protocol == 262 /* MPTCP */);
}

#endif
