/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who asks: user, group, program and service.
 *
 * A program is the inode of its executable, and it lies below every directory
 * that a climb from its dentry to the root of the mount tree passes, so neither
 * comm nor argv, which any process can set, has a say. A task without an executable
 * (a kernel thread) has program number 0, unknown.
 */
#ifndef SOCKRULES_OWNER_H
#define SOCKRULES_OWNER_H

#include "climb.h"

static __always_inline u32 sr_known_program(const struct sr_inode *program, u32 generation)
{
	struct sr_inode key = {};
	struct sr_known *found;

	if (!program->number)
		return 0;
	key.number = program->number;
	key.device = program->device;
	key.generation = generation;
	found = known.lookup(&key);
	if (!found || !found->program || !sr_is_known(found, program->generation))
		return 1;
	return found->program;
}

/*
 * SR_W_PROGRAM, the number of a service without a program's, and the bits of its cgroup.
 * One that is not in the map is none that a rule names. The word is the key as well: the
 * stack of some hooks has no room for another.
 */
static __always_inline void sr_gather_service(u64 cgroup, u32 generation, u64 *w)
{
	struct sr_service *found;

	w[SR_W_PROGRAM] = cgroup;
	found = cgroups.lookup(&w[SR_W_PROGRAM]);
	w[SR_W_PROGRAM] = cgroup != 0;
	if (!found)
		return;
	w[SR_W_BITS] |= found->bits[generation & 1];
	if (found->unit[generation & 1])
		w[SR_W_PROGRAM] = found->unit[generation & 1];
}

/* Words of the current task: SR_W_IDS, SR_W_PROGRAM, bits of directories and cgroups. */
static __always_inline void sr_gather_caller(const struct sr_header *h, u32 generation, u64 *w)
{
	u64 task = sr_task();

	w[SR_W_IDS] = SR_ZERO(h);
	if (h->needs & SR_NEED_IDS) {
		u32 uid, gid;

		sr_ids(task, &uid, &gid);
		w[SR_W_IDS] = (u64)uid << 32 | gid;
	}
	if (h->needs & SR_NEED_SERVICE)
		sr_gather_service(sr_cgroup(task), generation, w);
	if (h->needs & (SR_NEED_PROGRAM | SR_NEED_DIRECTORIES)) {
		u64 file = sr_exe_file(task);
		struct sr_inode program;

		sr_program(file, &program);
		w[SR_W_PROGRAM] |= (u64)sr_known_program(&program, generation) << 32;
		if (file && (h->needs & SR_NEED_DIRECTORIES))
			w[SR_W_BITS] |= sr_directories_above(file, generation);
	}
}

/* The same words of a listener's owner. */
static __always_inline void sr_gather_owner(const struct sr_header *h, u32 generation,
					    const struct sr_owner *owner, u64 *w)
{
	u32 i;

	w[SR_W_IDS] = (u64)owner->uid << 32 | owner->gid;
	if (h->needs & SR_NEED_SERVICE)
		sr_gather_service(owner->cgroup, generation, w);
	if (h->needs & (SR_NEED_PROGRAM | SR_NEED_DIRECTORIES))
		w[SR_W_PROGRAM] |= (u64)sr_known_program(&owner->program, generation) << 32;
	if (!(h->needs & SR_NEED_DIRECTORIES))
		return;
#pragma clang loop unroll(disable)
	for (i = 0; i < SR_DEPTH; i++) {
		struct sr_inode key = {};
		struct sr_known *found;

		if (i >= owner->depth)
			break;
		key.number = owner->above[i].number;
		key.device = owner->above[i].device;
		key.generation = generation;
		found = known.lookup(&key);
		if (found && sr_is_known(found, owner->above[i].generation))
			w[SR_W_BITS] |= found->directory;
	}
}

#endif
