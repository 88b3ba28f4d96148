/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Run by the reader (BPF_PROG_TEST_RUN) when it has emptied the rings: hand over the
 * events that are gathered on a CPU, by taking the places that are left.
 */
#include "stage.h"

int sr_flush(struct bpf_raw_tracepoint_args *ctx)
{
#if SR_HAS_FETCH
	u32 cpu = ctx->args[0], zero = 0;
	struct sr_stage *stage = stages.lookup(&cpu);
	struct sr_totals *total = totals.lookup(&zero);
	u64 place, lost;

	if (!stage || !total || !*(volatile u64 *)&stage->taken)
		return 0;
	place = __sync_fetch_and_add(&stage->taken, SR_BATCH);
	if (place >= SR_BATCH)
		return 0; /* it is being handed over */
	stage->batch.absent = SR_BATCH - place;
	lost = sr_staged(ctx, stage, SR_BATCH - place);
	if (lost)
		__sync_fetch_and_add(&total->lost, lost);
#endif
	return 0;
}
