/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The test facility in the kernel: a program that is never attached, only run
 * by BPF_PROG_TEST_RUN on a struct sr_probe, with the decision of the hooks.
 */
#include "judge.h"

int sr_probe(struct xdp_md *ctx)
{
	struct sr_probe *probe = (void *)(long)ctx->data;
	u32 zero = 0, generation;
	struct sr_control *c = control.lookup(&zero);
	struct sr_header *h;
	u64 w[SR_WORDS];

	if ((void *)(probe + 1) > (void *)(long)ctx->data_end || !c)
		return XDP_ABORTED;
	generation = *(volatile u32 *)&c->generation & 1;
	h = headers.lookup(&generation);
	if (!h)
		return XDP_ABORTED;
#pragma unroll
	for (int i = 0; i < SR_WORDS; i++)
		w[i] = probe->word[i];
	probe->rule = sr_decide(h, generation, w);
	probe->generation = generation;
	return XDP_PASS;
}
