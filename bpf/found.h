/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The listener that a peer comes to, by place.
 *
 * The registry is a large hash map: a lookup in a connect() finds none of its memory in
 * the nearest caches. So every CPU keeps a copy of what it found last, by port, and uses
 * it as long as `changes` says that the registry is the same. That is read before the
 * lookup, and counted after a change, so a copy of what was being changed is void at once.
 *
 * For a peer sk_lookup runs in softirq, where nothing of its kind interrupts it; for socket
 * diagnostics in a task, where a softirq may. Who is interrupted while it writes a copy
 * leaves it void until it is whole; who comes between finds `finding` and writes to the
 * element that nobody reads later. That takes atomic operations that return what was there
 * before (SR_HAS_FETCH, stage.h), and softirqs that do not take turns on a CPU, as they may
 * with PREEMPT_RT (SR_IS_REALTIME). Elsewhere all look into the registry.
 */
#ifndef SOCKRULES_FOUND_H
#define SOCKRULES_FOUND_H

#include "below.h"
#include "stage.h"

static __always_inline struct sr_listener *sr_find(const struct sr_listener_key *key)
{
	struct sr_listener *listener = listeners.lookup((struct sr_listener_key *)key);

	return listener && listener->count ? listener : NULL;
}

static __always_inline int sr_has_overflowed(void)
{
	u32 zero = 0, *flag = overflowed.lookup(&zero);

	return flag && *flag;
}

/* The kernel prefers the exact address, then its family's wildcard, then :: */
static __always_inline struct sr_listener *sr_look_up(struct sr_listener_key key)
{
	struct sr_listener *listener = sr_find(&key);

	if (!listener && !key.hi && key.lo >> 32 == 0xffff) {
		key.lo = 0x0000ffff00000000ULL;
		listener = sr_find(&key);
	}
	if (!listener) {
		key.hi = 0;
		key.lo = 0;
		listener = sr_find(&key);
	}
	if (!listener && sr_has_overflowed()) { /* perhaps one that found no room */
		struct sr_listener_key nobody = {};

		listener = sr_find(&nobody);
	}
	return listener;
}

#if SR_HAS_FETCH && !SR_IS_REALTIME
static __always_inline int sr_is_of(const struct sr_found *found, const struct sr_listener_key *key,
				    u64 changes)
{
	return found->changes == changes && found->asked.lo == key->lo &&
	       found->asked.hi == key->hi && found->asked.port == key->port &&
	       found->asked.netns == key->netns;
}

/* Keep a copy; the place where it is. No branch on it: the verifier would follow both to the end. */
static __always_inline u64 sr_keep(struct sr_stage *stage, u64 place, const struct sr_listener_key *key,
				   const struct sr_listener *listener, u64 changes)
{
	u64 alone = __sync_fetch_and_add(&stage->finding, 1) - 1;
	struct sr_found *found;

	asm volatile("" : "+r"(alone));
	place = SR_BELOW(SR_FOUND, place & (u64)((s64)alone >> 63)); /* 0 where others write */
	found = &stage->found[place];
	*(volatile u64 *)&found->changes = 0;
	asm volatile("" ::: "memory");
	found->asked = *key;
	found->listener = *listener;
	asm volatile("" ::: "memory");
	*(volatile u64 *)&found->changes = changes;
	__sync_fetch_and_add(&stage->finding, -1);
	return place;
}

/* The listener, NULL where nobody listens. */
static __always_inline struct sr_listener *sr_listener_at(const struct sr_listener_key *key)
{
	u64 programs = 0, agents = 1; /* of eight bytes (docs/performance.md) */
	u64 *by_programs = changes.lookup((u32 *)&programs);
	u64 *by_agents = changes.lookup((u32 *)&agents);
	struct sr_stage *stage = sr_own_stage();
	u64 now, place = SR_BELOW(SR_FOUND, 1 + key->port % (SR_FOUND - 1));

	if (!by_programs || !by_agents || !stage)
		return NULL;
	now = *(volatile u64 *)by_programs + *(volatile u64 *)by_agents + 1;
	if (!sr_is_of(&stage->found[place], key, now)) {
		struct sr_listener *listener = sr_look_up(*key);

		if (!listener)
			return NULL;
		place = sr_keep(stage, place, key, listener, now);
	}
	return &stage->found[SR_BELOW(SR_FOUND, place)].listener;
}
#else
static __always_inline struct sr_listener *sr_listener_at(const struct sr_listener_key *key)
{
	return sr_look_up(*key);
}
#endif

#endif
