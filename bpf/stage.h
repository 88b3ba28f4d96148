/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Events on their way to the reader. A record in the kernel's perf buffer takes a connect()
 * 0.8 us with one event and 2 us with sixteen, so every CPU gathers SR_BATCH events and
 * hands them over as one record. What is gathered and not full yet the reader asks for
 * (flush.c) when it has emptied the rings; nothing waits longer than it does in a ring.
 *
 * A program may interrupt another one on its CPU, and the reader flushes from anywhere:
 * whoever gets a place from `taken` writes it and adds it to `done`; who makes that
 * SR_BATCH hands over, and begins anew. Meanwhile others find no place and hand over
 * their event alone. Atomic operations that return what was there before need Linux 5.12
 * (SR_HAS_FETCH, found by trying: agent/features.py); elsewhere all go alone.
 */
#ifndef SOCKRULES_STAGE_H
#define SOCKRULES_STAGE_H

#include "below.h"
#include "maps.h"

/* This CPU's stage. */
static __always_inline struct sr_stage *sr_own_stage(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return stages.lookup(&cpu);
}

#if SR_HAS_FETCH
#define SR_BATCH_OF_ONE (sizeof(struct sr_batch) - (SR_BATCH - 1) * sizeof(struct sr_event))

/* Hand over if these are the last of the batch; how many events were lost by that. */
static __always_inline u32 sr_staged(void *ctx, struct sr_stage *stage, u64 count)
{
	u64 others; /* events but the first */
	u32 lost = 0;

	if (__sync_fetch_and_add(&stage->done, count) + count != SR_BATCH)
		return 0;
	others = SR_BELOW(SR_BATCH, SR_BATCH - 1 - stage->batch.absent);
	if (events.perf_submit(ctx, &stage->batch,
			       SR_BATCH_OF_ONE + others * sizeof(struct sr_event)))
		lost = SR_BATCH - stage->batch.absent;
	stage->batch.absent = 0;
	stage->done = 0;
	__sync_lock_test_and_set(&stage->taken, 0);
	return lost;
}
#endif

/* Hand over an event; how many events were lost by that. */
static __always_inline u32 sr_hand_over(void *ctx, struct sr_stage *stage,
					struct sr_event *event)
{
#if SR_HAS_FETCH
	u64 place = __sync_fetch_and_add(&stage->taken, 1);

	if (place < SR_BATCH) {
		asm volatile("" : "+r"(place)); /* clang would leave out the mask */
		stage->batch.event[place & (SR_BATCH - 1)] = *event;
		return sr_staged(ctx, stage, 1);
	}
#endif
	return events.perf_submit(ctx, event, sizeof(*event)) != 0;
}

#endif
