/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision: which rule of the loaded table decides a request.
 *
 * Rules of this file. It reads one generation, chosen by the caller, and
 * writes nothing but the request on its caller's stack: no scratch that another
 * task or a softirq on the same CPU could overwrite. The same text is compiled
 * into every hook and into the test program, so the test facility is the
 * decision itself.
 *
 * Theory. Every rule's condition is a union of boxes (struct sr_entry). A box
 * is stored once, under a mask no longer than its own prefixes, so each request
 * that it matches hashes to its slot; the full check removes the rest. Tables
 * stand in the order of their first rule, and a walk ends as soon as no table
 * can win. One flat loop does it all, a step being a table opened or an entry
 * checked; the compiler proved steps <= SR_STEPS. Uncertainty falls on the safe
 * side: running out of steps is a rejection that is counted.
 *
 * The verifier follows every path that it can tell apart, and it tells apart
 * what it knows. So nothing is known to it: what a step assigns is read from the
 * map (`zero` and `next` are constants, but not in its eyes), the request's words
 * are made unknown at the door, and a box is checked without branches.
 * Linux 6.18 accepts 900 steps of every hook with 610 000 of its 1 000 000
 * instructions at most (connect6 by LLVM 19; by LLVM 14 438 000).
 */
#ifndef SOCKRULES_DECIDE_H
#define SOCKRULES_DECIDE_H

#include "maps.h"

#define SR_EXHAUSTED 0xffffffff

/* 0, each time anew unknown to the verifier */
#define SR_ZERO(h) (*(volatile const u64 *)&(h)->zero)

/* Where a generation begins in a map; computed where it is used, or clang keeps it on the stack. */
#define SR_AT(gen, size)                          \
	({                                        \
		u64 _gen = (gen);                 \
		asm volatile("" : "+r"(_gen));    \
		_gen * (size);                    \
	})

/* The sign bit of the result says whether x lies outside lo..hi (all below 2^63). */
#define SR_OUTSIDE(x, lo, hi) (((x) - (u64)(lo)) | ((u64)(hi) - (x)))

/* The sign bit of the result says whether a > b: the borrow of b - a. */
static __always_inline u64 sr_above(u64 a, u64 b)
{
	return (a & ~b) | ((a | ~b) & (b - a));
}

/*
 * The word of memberships that one region yields for a key: the key's cell of the
 * window names the few bounds that are left to search. That a bound or a slot lies
 * outside its map cannot be: the compiler counted them, the agent made room.
 */
static __always_inline u64 sr_search(const struct sr_region *region, u32 gen, u64 hi, u64 lo)
{
	u64 cell, inside, base, n;
	struct sr_bound *bound;
	struct sr_slot *slot;
	u32 i;

	if (!region->count)
		return 0;
	cell = (lo - region->lo) >> (region->shift & 63);
	inside = hi ^ region->hi;
	inside = (inside | -inside | sr_above(cell, region->cells - 1)) >> 63;
	inside -= 1; /* all ones where the key lies in the window */
	asm volatile("" : "+r"(inside));
	cell = SR_AT(gen, SR_SLOTS) + region->index + ((cell + 1) & inside);
	slot = slots.lookup((u32 *)&cell);
	if (!slot)
		return 0;
	if (slot->end & SR_FINER) {
		cell = (lo - region->lo) & ((1UL << (region->shift & 63)) - 1);
		cell = SR_AT(gen, SR_SLOTS) + slot->start + (cell >> (slot->end & 63));
		slot = slots.lookup((u32 *)&cell);
		if (!slot)
			return 0;
	}
	base = slot->start;
	n = slot->end - base;
	base += SR_AT(gen, SR_BOUNDS) + region->base;
#pragma clang loop unroll(disable)
	for (i = 0; i < SR_MAX_SEARCH && n > 1; i++) {
		u64 half = n >> 1, middle = base + half, differ, above;

		bound = bounds.lookup((u32 *)&middle);
		if (!bound)
			return 0;
		differ = bound->hi ^ hi;
		above = sr_above(bound->hi, hi) |
			(~(differ | -differ) & sr_above(bound->lo, lo));
		above = (above >> 63) - 1; /* all ones where the bound is not above the key */
		asm volatile("" : "+r"(above));
		base += half & above;
		n -= half;
	}
	bound = bounds.lookup((u32 *)&base);
	return bound ? bound->mask : 0;
}

/* The word of memberships in all long sets. */
static __always_inline u64 sr_memberships(const struct sr_header *h, u32 gen, const u64 *w)
{
	u64 local, remote, bits;

	if (!h->regions)
		return 0;
	/* an unknown address is in no set */
	local = -((w[SR_W_BITS] / SR_BIT_LOCAL_KNOWN) & 1);
	remote = -((w[SR_W_BITS] / SR_BIT_REMOTE_KNOWN) & 1);
	bits = sr_search(&h->region[SR_F_REMOTE_ADDRESS], gen, w[SR_W_REMOTE_HI], w[SR_W_REMOTE_LO]);
	bits &= remote;
	bits |= sr_search(&h->region[SR_F_LOCAL_ADDRESS], gen, w[SR_W_LOCAL_HI], w[SR_W_LOCAL_LO]) &
		local;
	bits |= sr_search(&h->region[SR_F_REMOTE_PORT], gen, 0, w[SR_W_PORTS] & 0xffff);
	bits |= sr_search(&h->region[SR_F_LOCAL_PORT], gen, 0, w[SR_W_PORTS] >> 16);
	bits |= sr_search(&h->region[SR_F_UID], gen, 0, w[SR_W_IDS] >> 32);
	bits |= sr_search(&h->region[SR_F_GID], gen, 0, w[SR_W_IDS] & 0xffffffff);
	return bits;
}

/* One comparison after the other: clang would begin all at once and spill what it began. */
#define SR_THEN(statement)                             \
	do {                                           \
		asm volatile("" : "+r"(misses));       \
		statement;                             \
	} while (0)

/* The sign bit of the result says whether the box does not match: no branches (see above). */
static __always_inline u64 sr_misses(const struct sr_entry *e, const u64 *w)
{
	u64 local_port = w[SR_W_PORTS] >> 16, remote_port = w[SR_W_PORTS] & 0xffff;
	u64 uid = w[SR_W_IDS] >> 32, gid = w[SR_W_IDS] & 0xffffffff;
	u64 program = w[SR_W_PROGRAM] >> 32, service = w[SR_W_PROGRAM] & 0xffffffff;
	u64 bits = (w[SR_W_BITS] & e->bits_mask) ^ e->bits_value;

	u64 misses = bits | -bits;

	SR_THEN(misses |= SR_OUTSIDE(remote_port, e->remote_port_lo, e->remote_port_hi));
	SR_THEN(misses |= SR_OUTSIDE(local_port, e->local_port_lo, e->local_port_hi));
	SR_THEN(misses |= SR_OUTSIDE(uid, e->uid_lo, e->uid_hi));
	SR_THEN(misses |= SR_OUTSIDE(gid, e->gid_lo, e->gid_hi));
	SR_THEN(misses |= SR_OUTSIDE(program, e->program_lo, e->program_hi));
	SR_THEN(misses |= SR_OUTSIDE(service, e->service_lo, e->service_hi));
	SR_THEN(misses |= sr_above(w[SR_W_REMOTE_LO] - e->remote_lo, e->remote_lo_span));
	SR_THEN(misses |= sr_above(w[SR_W_REMOTE_HI] - e->remote_hi, e->remote_hi_span));
	SR_THEN(misses |= sr_above(w[SR_W_LOCAL_LO] - e->local_lo, e->local_lo_span));
	SR_THEN(misses |= sr_above(w[SR_W_LOCAL_HI] - e->local_hi, e->local_hi_span));
	return misses;
}

/*
 * The rule word (index << SR_RULE_SHIFT | flags) that decides the request w
 * under the generation gen whose header is h, or SR_EXHAUSTED.
 */
static __always_inline u32 sr_decide(const struct sr_header *h, u32 gen, u64 *w)
{
	u64 best = ((u64)SR_NO_RULE << SR_RULE_SHIFT) | 0xff;
	u64 t = SR_ZERO(h), at = SR_ZERO(h), end = SR_ZERO(h);
	u32 i, server;

	server = w[SR_W_BITS] & 3;

	w[SR_W_BITS] |= sr_memberships(h, gen, w);

#pragma clang loop unroll(disable)
	for (i = 0; i < SR_STEPS; i++) {
		if (at < end) {
			u64 index = SR_AT(gen, SR_ENTRIES) + at;
			struct sr_entry *e = entries.lookup((u32 *)&index);

			u64 misses, later, won;

			if (!e)
				return SR_EXHAUSTED;
			misses = sr_misses(e, w);
			later = best - 1 - e->rule; /* its sign: the best so far comes first */
			won = ~(misses | later) >> 63;
			later >>= 63;
			asm volatile("" : "+r"(won));
			asm volatile("" : "+r"(later));
			best ^= (best ^ e->rule) & -won; /* if (won) best = e->rule */
			end &= (won | later) - 1; /* if (won || later) end = 0: leave the bucket */
			at++;
		} else {
			const struct sr_table *table = &h->table[t & (SR_MAX_TABLES - 1)];
			struct sr_slot *slot;
			u64 hash, index;

			if (t >= h->tables || table->first > (best >> SR_RULE_SHIFT)) {
				if (best >> SR_RULE_SHIFT != SR_NO_RULE)
					return best;
				return server < SR_SERVERS ? h->defaults[server] : SR_EXHAUSTED;
			}
			hash = (w[0] & table->mask[0]) * SR_ODD_0 + (w[1] & table->mask[1]) * SR_ODD_1 +
			       (w[2] & table->mask[2]) * SR_ODD_2 + (w[3] & table->mask[3]) * SR_ODD_3 +
			       (w[4] & table->mask[4]) * SR_ODD_4 + (w[5] & table->mask[5]) * SR_ODD_5 +
			       (w[6] & table->mask[6]) * SR_ODD_6 + (w[7] & table->mask[7]) * SR_ODD_7;
			index = SR_AT(gen, SR_SLOTS) + table->base + (hash >> (table->shift & 63));
			slot = slots.lookup((u32 *)&index);
			if (!slot)
				return SR_EXHAUSTED;
			at = slot->start;
			end = slot->end;
			t = table->next;
		}
	}
	return SR_EXHAUSTED;
}

#endif
