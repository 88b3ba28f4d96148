/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The test program of the benchmark, compiled in place of bpf/probe.c: the decision of
 * the hooks, on one request again and again or on many in turn, or all but the decision.
 *
 * The many stand in the map `entries`, where the generation that is not in force would
 * have its own: eight words at the start of each element.
 */
#include "judge.h"

#define SR_BENCH_DECIDE 1
#define SR_BENCH_IN_TURN 2

struct sr_bench {
	u64 word[8];
	u32 what; /* SR_BENCH_* */
	u32 count; /* requests to take in turn */
	u32 at; /* the next of them; the frame outlives a run */
	u32 rule; /* of the last one */
};

int sr_probe(struct __sk_buff *ctx)
{
	struct sr_bench *bench = (void *)(long)ctx->data;
	u32 zero = 0, generation;
	struct sr_control *c = control.lookup(&zero);
	struct sr_header *h;
	u64 w[SR_WORDS], mixed = 0;

	if ((void *)(bench + 1) > (void *)(long)ctx->data_end || !c)
		return -1;
	generation = *(volatile u32 *)&c->generation & 1;
	h = headers.lookup(&generation);
	if (!h)
		return -1;
	if (bench->what & SR_BENCH_IN_TURN) {
		u64 index = (1 - generation) * (u64)SR_ENTRIES + bench->at;
		u64 *from = (u64 *)entries.lookup((u32 *)&index);

		if (!from)
			return -1;
		bench->at = bench->at + 1 < bench->count ? bench->at + 1 : 0;
#pragma unroll
		for (int i = 0; i < SR_WORDS; i++)
			w[i] = from[i];
	} else {
#pragma unroll
		for (int i = 0; i < SR_WORDS; i++)
			w[i] = bench->word[i];
	}
	if (bench->what & SR_BENCH_DECIDE) {
		bench->rule = sr_decide(h, generation, w);
		return 0;
	}
#pragma unroll
	for (int i = 0; i < SR_WORDS; i++)
		mixed ^= w[i];
	bench->rule = mixed ^ mixed >> 32;
	return 0;
}
