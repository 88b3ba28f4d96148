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
 * that it matches hashes to its slot; the full check removes the rest. A request
 * visits the tables that hold something for its class, in the order of their first
 * rules, and ends as soon as no table can win. One flat loop does it all, a step
 * being a table opened or an entry checked; the compiler proved steps <= SR_STEPS.
 * Uncertainty falls on the safe side: running out of steps is a rejection that is
 * counted.
 *
 * What is asked seldom is kept apart: the second part of a box (struct sr_rest) is
 * looked at when the first holds, four of the seven words are hashed where a table's
 * mask has them. Both cost a well-predicted branch.
 *
 * The verifier follows every path that it can tell apart, and it tells apart
 * what it knows. So nothing is known to it: what a step assigns is read from the
 * map (`zero` and `next` are constants, but not in its eyes), the request's words
 * are made unknown at the door, and a branch asks for one sign bit whose making
 * clang cannot look into, so that the paths are alike where they meet again.
 * Linux 6.18 accepts 900 steps of every hook with 530 000 of its 1 000 000
 * instructions at most (LLVM 14; docs/performance.md has them all).
 */
#ifndef SOCKRULES_DECIDE_H
#define SOCKRULES_DECIDE_H

#include "below.h"
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
static __always_inline u64 sr_search(const struct sr_region *region, u32 gen, u64 server, u64 hi,
				     u64 lo)
{
	u64 cell, inside, base, n;
	struct sr_bound *bound;
	struct sr_slot *slot;
	u64 i;

	if (!(region->servers >> server & 1))
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

/* The word of memberships in the long sets that rules of the server ask for. */
static __always_inline u64 sr_memberships(const struct sr_header *h, u32 gen, u64 server,
					  const u64 *w)
{
	u64 local, remote, bits;

	if (!h->regions)
		return 0;
	/* an unknown address is in no set */
	local = -((w[SR_W_BITS] / SR_BIT_LOCAL_KNOWN) & 1);
	remote = -((w[SR_W_BITS] / SR_BIT_REMOTE_KNOWN) & 1);
	bits = sr_search(&h->region[SR_F_REMOTE_ADDRESS], gen, server, w[SR_W_REMOTE_HI],
			 w[SR_W_REMOTE_LO]) & remote;
	bits |= sr_search(&h->region[SR_F_LOCAL_ADDRESS], gen, server, w[SR_W_LOCAL_HI],
			  w[SR_W_LOCAL_LO]) & local;
	bits |= sr_search(&h->region[SR_F_REMOTE_PORT], gen, server, 0, w[SR_W_PORTS] & 0xffff);
	bits |= sr_search(&h->region[SR_F_LOCAL_PORT], gen, server, 0, w[SR_W_PORTS] >> 16);
	bits |= sr_search(&h->region[SR_F_UID], gen, server, 0, w[SR_W_IDS] >> 32);
	bits |= sr_search(&h->region[SR_F_GID], gen, server, 0, w[SR_W_IDS] & 0xffffffff);
	return bits;
}

/* One comparison after the other: clang would begin all at once and spill what it began. */
#define SR_THEN(statement)                             \
	do {                                           \
		asm volatile("" : "+r"(misses));       \
		statement;                             \
	} while (0)

/* The sign bit of the result says whether the first part of a box does not match. */
static __always_inline u64 sr_misses(const struct sr_entry *e, const u64 *w, u64 ports)
{
	u64 bits = (w[SR_W_BITS] & e->bits_mask) ^ e->bits_value;
	u64 uid = w[SR_W_IDS] >> 32;
	u64 misses = bits | -bits, inside;

	SR_THEN(misses |= sr_above(w[SR_W_REMOTE_LO] - e->remote_lo, e->remote_lo_span));
	inside = ((ports | SR_GUARDS) - e->ports_lo) & (e->ports_hi - ports);
	SR_THEN(misses |= ~(inside & inside << 32));
	SR_THEN(misses |= SR_OUTSIDE(uid, e->uid_lo, e->uid_hi));
	return misses;
}

/* The same of the second part. */
static __always_inline u64 sr_rest_misses(const struct sr_rest *r, const u64 *w)
{
	u64 program = w[SR_W_PROGRAM] >> 32, service = w[SR_W_PROGRAM] & 0xffffffff;
	u64 gid = w[SR_W_IDS] & 0xffffffff;
	u64 misses = SR_OUTSIDE(program, r->program_lo, r->program_hi);

	SR_THEN(misses |= SR_OUTSIDE(service, r->service_lo, r->service_hi));
	SR_THEN(misses |= SR_OUTSIDE(gid, r->gid_lo, r->gid_hi));
	SR_THEN(misses |= sr_above(w[SR_W_REMOTE_HI] - r->remote_hi, r->remote_hi_span));
	SR_THEN(misses |= sr_above(w[SR_W_LOCAL_LO] - r->local_lo, r->local_lo_span));
	SR_THEN(misses |= sr_above(w[SR_W_LOCAL_HI] - r->local_hi, r->local_hi_span));
	return misses;
}

/* SR_BIT_REMOTE_V4 where the remote address is an IPv4 one; an unknown one is zero. */
static __always_inline u64 sr_remote_v4(const u64 *w)
{
	u64 differ = w[SR_W_REMOTE_HI] | (w[SR_W_REMOTE_LO] >> 32 ^ 0xffff);

	return (~(differ | -differ) >> 63) * SR_BIT_REMOTE_V4;
}

/*
 * The rule word (index << SR_RULE_SHIFT | flags) that decides the request w
 * under the generation gen whose header is h, or SR_EXHAUSTED.
 */
static __always_inline u32 sr_decide(const struct sr_header *h, u32 gen, u64 *w)
{
	u64 server = w[SR_W_BITS] & 3, class, ports, best, t, at = SR_ZERO(h), end = SR_ZERO(h);
	u64 i;

	w[SR_W_BITS] |= sr_remote_v4(w);
	class = (server << 1 | (w[SR_W_BITS] / SR_BIT_REMOTE_V4 & 1)) & 7;
	w[SR_W_BITS] |= sr_memberships(h, gen, server, w);
	ports = (w[SR_W_PORTS] << 16 | (w[SR_W_PORTS] & 0xffff)) & 0x0000ffff0000ffff;
	best = h->defaults[SR_BELOW(4, server)];
	t = h->start[SR_BELOW(8, class)];

#pragma clang loop unroll(disable)
	for (i = 0; i < SR_STEPS; i++) {
		if (at < end) {
			u64 index = SR_AT(gen, SR_ENTRIES) + at, misses, later;
			struct sr_entry *e = entries.lookup((u32 *)&index);

			if (!e)
				return SR_EXHAUSTED;
			at++;
			later = best - 1 - e->rule; /* its sign: the best so far comes first */
			misses = sr_misses(e, w, ports) | later;
			later = (later >> 63) - 1;
			asm volatile("" : "+r"(later));
			end &= later; /* then leave the bucket */
			asm volatile("" : "+r"(misses));
			if ((s64)misses < 0)
				continue;
			if (e->rest) {
				struct sr_rest *rest;

				index = SR_AT(gen, SR_RESTS) + e->rest;
				rest = rests.lookup((u32 *)&index);
				if (!rest)
					return SR_EXHAUSTED;
				misses = sr_rest_misses(rest, w);
				asm volatile("" : "+r"(misses));
				if ((s64)misses < 0)
					continue;
			}
			best = e->rule;
			end = SR_ZERO(h);
		} else {
			const struct sr_table *table = &h->table[SR_BELOW(SR_MAX_TABLES, t)];
			struct sr_slot *slot;
			u64 hash, index;

			if (table->first[SR_BELOW(8, class)] > best >> SR_RULE_SHIFT)
				return best;
			hash = ((w[SR_W_PORTS] | server << 32) & table->ports) * SR_ODD_1 +
			       (w[SR_W_IDS] & table->ids) * SR_ODD_2 +
			       (w[SR_W_REMOTE_LO] & table->remote_lo) * SR_ODD_7;
			if (table->wide)
				hash += (w[SR_W_PROGRAM] & table->program) * SR_ODD_3 +
					(w[SR_W_LOCAL_HI] & table->local_hi) * SR_ODD_4 +
					(w[SR_W_LOCAL_LO] & table->local_lo) * SR_ODD_5 +
					(w[SR_W_REMOTE_HI] & table->remote_hi) * SR_ODD_6 +
					(w[SR_W_BITS] & table->bits) * SR_ODD_0;
			index = SR_AT(gen, SR_SLOTS) + table->base + (hash >> (table->shift & 63));
			slot = slots.lookup((u32 *)&index);
			if (!slot)
				return SR_EXHAUSTED;
			at = slot->start;
			end = slot->end;
			t = table->next[SR_BELOW(8, class)];
		}
	}
	return SR_EXHAUSTED;
}

#endif
