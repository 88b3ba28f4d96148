/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which service a new cgroup is: raw tracepoints cgroup_mkdir and cgroup_rmdir.
 *
 * A unit that is started again has a new cgroup, and may connect before anything
 * in user space has run. So the cgroup is entered while it is made: the tracepoint
 * fires before its directory can be seen, let alone be joined (cgroup_mkdir,
 * kernel/cgroup/cgroup.c, Linux 5.10 and 6.18). What existed before is entered by
 * the agent.
 *
 * The rules are those of control/services.py: from the root down, slices are
 * passed over, the first other component is the unit. Names are found by
 * themselves, not by a hash of theirs, so nobody can make one that passes for
 * another.
 *
 * The tracepoint holds a spinlock with interrupts off: the per-CPU scratch is its
 * own. What a step assigns stands in the scratch, not in registers, where the
 * verifier would tell every combination apart; and the letters are gone through
 * with as little as can be done for each, the components then with all the rest.
 */
#include "owner.h"

/* ".slice" as the first six bytes of a word in memory */
#define SR_DOT_SLICE                                                              \
	(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0x6563696c732eULL :          \
						     0x2e736c6963650000ULL)

/* Only the default hierarchy, which has number 0, is cgroup v2. */
static __always_inline int sr_is_v2(u64 cgroup)
{
	return sr_read32(sr_read64(cgroup, SR_OFF_CGROUP_ROOT), SR_OFF_HIERARCHY_ID) == 0;
}

/* Add what the tables say of the first `size` letters of the path. */
static __always_inline void sr_add_place(struct sr_new_cgroup *made, const struct sr_new_cgroup *none,
					 u32 size, int whole)
{
	struct sr_named *named;

	bpf_probe_read_kernel(&made->name, sizeof(made->name), &none->name);
	bpf_probe_read_kernel(&made->name, size & (SR_CGROUP_PATH - 1), &made->path);
	named = names.lookup(&made->name);
	if (!named)
		return;
	made->service.bits[0] |= named->below[0];
	made->service.bits[1] |= named->below[1];
	if (whole) {
		made->service.bits[0] |= named->exact[0];
		made->service.bits[1] |= named->exact[1];
	}
}

/* Find the unit if the component from `start` to `end` is the first that is no slice. */
static __always_inline void sr_add_unit(struct sr_new_cgroup *made,
					const struct sr_new_cgroup *none, u32 start, u32 end)
{
	struct sr_named *named;
	u64 last = 0;

	bpf_probe_read_kernel(&last, 6, &made->path.text[(end - 6) & (SR_CGROUP_PATH - 1)]);
	if (end - start > 6 && last == SR_DOT_SLICE)
		return;
	made->inner = 1;
	if (made->path.text[start & (SR_CGROUP_PATH - 1)] == '_')
		start++; /* escaped, see cg_unescape of systemd */
	bpf_probe_read_kernel(&made->name, sizeof(made->name), &none->name);
	bpf_probe_read_kernel(&made->name, (end - start) & 255,
			      &made->path.text[start & (SR_CGROUP_PATH - 1)]);
	named = names.lookup(&made->name);
	if (!named)
		return;
	made->service.unit[0] = named->unit[0];
	made->service.unit[1] = named->unit[1];
}

int sr_cgroup_mkdir(struct bpf_raw_tracepoint_args *ctx)
{
	u64 cgroup = ctx->args[0], id;
	u32 zero = 0, i, count;
	struct sr_new_cgroup *made = new_cgroup.lookup(&zero), *none = no_cgroup.lookup(&zero);
	struct sr_tracking *track = tracking.lookup(&zero);

	if (!made || !none || !track || !sr_is_v2(cgroup))
		return 0;
	id = sr_cgroup_id(cgroup);
	bpf_probe_read_kernel(made, sizeof(*made), none);
	bpf_probe_read_kernel_str(&made->path, sizeof(made->path), (void *)ctx->args[1]);

	/* where the components end; what lies deeper than SR_CGROUP_DEPTH no rule can name */
#pragma clang loop unroll(disable)
	for (i = 1; i < SR_CGROUP_PATH; i++) {
		u8 letter = *(volatile u8 *)&made->path.text[i];

		if (!letter || letter == '/') {
			count = *(volatile u32 *)&made->count;
			made->end[count & (SR_CGROUP_DEPTH - 1)] = i;
			*(volatile u32 *)&made->count = count + 1;
			made->whole = !letter;
			if (!letter || count + 1 >= SR_CGROUP_DEPTH)
				break;
		}
	}

	sr_add_place(made, none, 1, 0);
#pragma clang loop unroll(disable)
	for (i = 0; i < SR_CGROUP_DEPTH; i++) {
		u32 end = *(volatile u32 *)&made->end[i];
		u32 start = *(volatile u32 *)&made->start;

		count = *(volatile u32 *)&made->count;
		if (i >= count)
			break;
		sr_add_place(made, none, end, made->whole && i + 1 == count);
		if (!*(volatile u32 *)&made->inner)
			sr_add_unit(made, none, start + 1, end);
		made->start = end;
	}
	cgroup_paths.update(&id, &made->path);
	__sync_fetch_and_add(&track->made, 1);
	if ((made->service.unit[0] | made->service.unit[1] | made->service.bits[0] |
	     made->service.bits[1]) &&
	    cgroups.update(&id, &made->service))
		__sync_fetch_and_add(&track->overflow, 1);
	return 0;
}

int sr_cgroup_rmdir(struct bpf_raw_tracepoint_args *ctx)
{
	u64 cgroup = ctx->args[0], id;

	if (!sr_is_v2(cgroup))
		return 0;
	id = sr_cgroup_id(cgroup);
	cgroups.delete(&id);
	return 0;
}
