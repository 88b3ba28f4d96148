/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The way from a program to the root of the mount tree: the directories that it lies
 * below, for the rules, and its path, for the audit log.
 *
 * How deep a climb is stands in the map, not in a register: the verifier would
 * follow every combination of iteration and depth.
 *
 * Known gap: a path of more than SR_DEPTH directories is seen from its end only.
 */
#ifndef SOCKRULES_CLIMB_H
#define SOCKRULES_CLIMB_H

#include "below.h"
#include "task.h"

/* A place in the mount tree. */
struct sr_climb {
	u64 dentry;
	u64 mount;
};

/* All ones for the level of the first user namespace, of which all others are below. */
static __always_inline u64 sr_is_host(u64 level)
{
	u64 host = ((level | -level) >> 63) - 1;

	asm volatile("" : "+r"(host));
	return host;
}

/*
 * All ones where the mounts are those of the host's own user namespace. Whoever has one of
 * his own may put any file below any directory there, so what lies above says nothing.
 */
static __always_inline u64 sr_is_mounted_by_host(u64 mount)
{
	u64 user = sr_read64(sr_read64(mount, SR_OFF_MOUNT_NS), SR_OFF_MNT_NS_USER);

	return sr_is_host(sr_read32(user, SR_OFF_USER_NS_LEVEL));
}

/* A climb from nowhere ends at once. */
static __always_inline void sr_climb_from(u64 executable, struct sr_climb *at)
{
	u64 file = sr_address(executable), host;

	at->dentry = sr_read64(file, SR_OFF_FILE_DENTRY);
	at->mount = sr_read64(file, SR_OFF_FILE_MNT) - SR_OFF_MOUNT_MNT;
	host = sr_is_mounted_by_host(at->mount);
	at->dentry &= host;
	at->mount &= host;
}

/* If at the root of a mount, step out to where it is mounted: 1 moved, 0 not needed, -1 at the end. */
static __always_inline int sr_leave_mount(struct sr_climb *at)
{
	u64 parent;

	if (at->dentry != sr_read64(at->mount, SR_OFF_MOUNT_MNT + SR_OFF_VFSMOUNT_ROOT))
		return 0;
	parent = sr_read64(at->mount, SR_OFF_MOUNT_PARENT);
	if (!parent || parent == at->mount)
		return -1;
	at->dentry = sr_read64(at->mount, SR_OFF_MOUNT_MOUNTPOINT);
	at->mount = parent;
	return 1;
}

/* Whether an inode of the right number and device is the one that is known. */
static __always_inline int sr_is_known(const struct sr_known *found, u32 generation)
{
	return !found->checked || found->generation == generation;
}

/* The bits of a directory; none, if no rule names it. */
static __always_inline u64 sr_directory(u64 number, u32 device, u32 inode_generation,
					u32 generation)
{
	struct sr_inode key = {};
	struct sr_known *found;

	key.number = number;
	key.device = device;
	key.generation = generation;
	found = known.lookup(&key);
	return found && sr_is_known(found, inode_generation) ? found->directory : 0;
}

#if SR_HAS_TYPED_TASK
/*
 * The first part of a climb, from an open file to the root of its mount, by plain loads:
 * the bits of what it passes. It goes on from where that mount is mounted, mostly nowhere.
 */
static __always_inline u64 sr_directories_in_mount(u64 file, u32 generation, struct sr_climb *at)
{
	u64 mount = sr_member64(file, SR_OFF_FILE_MNT), dentry = sr_member64(file, SR_OFF_FILE_DENTRY);
	u64 root = sr_member64(mount, SR_OFF_VFSMOUNT_ROOT), bits = 0, own, host, inode;
	u32 i;

	at->mount = sr_address(mount) - SR_OFF_MOUNT_MNT;
	own = sr_member64(sr_member64(sr_task(), SR_OFF_TASK_NSPROXY), SR_OFF_NSPROXY_MNT);
	host = sr_is_host(sr_member32(sr_member64(own, SR_OFF_MNT_NS_USER), SR_OFF_USER_NS_LEVEL));
	if (sr_read64(at->mount, SR_OFF_MOUNT_NS) != own)
		host = sr_is_mounted_by_host(at->mount);
	at->mount &= host;
	if (!at->mount)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < SR_DEPTH && dentry != root; i++) {
		dentry = sr_member64(dentry, SR_OFF_DENTRY_PARENT);
		inode = sr_member64(dentry, SR_OFF_DENTRY_INODE);
		bits |= sr_directory(sr_member64(inode, SR_OFF_INODE_INO),
				     sr_member32(sr_member64(inode, SR_OFF_INODE_SB), SR_OFF_SB_DEV),
				     sr_member32(inode, SR_OFF_INODE_GENERATION), generation);
	}
	mount = sr_read64(at->mount, SR_OFF_MOUNT_PARENT);
	if (mount == at->mount)
		mount = 0;
	at->dentry = mount ? sr_read64(at->mount, SR_OFF_MOUNT_MOUNTPOINT) : 0;
	at->mount = mount;
	return bits;
}

#endif

/* The bits of the directories, known to the table, that lie above an open file. */
static __always_inline u64 sr_directories_above(u64 file, u32 generation)
{
	struct sr_climb at;
	u64 bits = 0;
	u32 i;

#if SR_HAS_TYPED_TASK
	bits = sr_directories_in_mount(file, generation, &at);
#else
	sr_climb_from(file, &at);
#endif
#pragma clang loop unroll(disable)
	for (i = 0; i < SR_DEPTH + 8 && at.mount; i++) {
		int left = sr_leave_mount(&at);
		u64 inode;

		if (left < 0)
			break;
		if (left)
			continue;
		at.dentry = sr_read64(at.dentry, SR_OFF_DENTRY_PARENT);
		inode = sr_read64(at.dentry, SR_OFF_DENTRY_INODE);
		bits |= sr_directory(sr_read64(inode, SR_OFF_INODE_INO), sr_device(inode),
				     sr_read32(inode, SR_OFF_INODE_GENERATION), generation);
	}
	return bits;
}

/* Record the directories above an open file in an owner that lives in a map. */
static __always_inline void sr_record_above(u64 file, struct sr_owner *owner)
{
	struct sr_climb at;
	u32 i;

	owner->depth = 0;
	sr_climb_from(file, &at);
#pragma clang loop unroll(disable)
	for (i = 0; i < SR_DEPTH + 8; i++) {
		u32 depth = *(volatile u32 *)&owner->depth;
		int left = sr_leave_mount(&at);
		struct sr_inode *above;
		u64 inode;

		if (left < 0 || depth >= SR_DEPTH)
			break;
		if (left)
			continue;
		at.dentry = sr_read64(at.dentry, SR_OFF_DENTRY_PARENT);
		inode = sr_read64(at.dentry, SR_OFF_DENTRY_INODE);
		above = &owner->above[SR_BELOW(SR_DEPTH, depth)];
		above->number = sr_read64(inode, SR_OFF_INODE_INO);
		above->device = sr_device(inode);
		above->generation = sr_read32(inode, SR_OFF_INODE_GENERATION);
		owner->depth = depth + 1;
	}
}

/* qstr.hash_len by its halves: to the verifier of Linux 6.1 it is the first of them. */
static __always_inline u64 sr_hash_len(u64 dentry)
{
	u64 second = sr_member32(dentry, SR_OFF_DENTRY_HASH + 4);

	return second << 32 | sr_member32(dentry, SR_OFF_DENTRY_HASH);
}

#define SR_RECENTLY 1000000000 /* ns; then `paths` is asked again, and knows it is in use */

/*
 * Remember where a program lies, the first time it is seen there, for whoever reads the
 * audit. A lookup in the LRU map takes some 150 ns: what was found there a moment ago is
 * not looked up. Another program on this CPU may write the same element meanwhile; then
 * it names neither, and both are looked up again.
 */
static __always_inline void sr_remember_path(struct sr_stage *stage, u64 file,
					     struct sr_inode *program, u64 now)
{
	struct sr_climb at;
	struct sr_path *path;
	struct sr_recent *recent;
	u64 hash;
	u32 i;
	int zero = 0;

	if (!file || !program->number)
		return;
	hash = sr_hash_len(sr_member64(file, SR_OFF_FILE_DENTRY));
	recent = &stage->recent[SR_BELOW(SR_RECENT, program->number)];
	if (recent->program.number == program->number && recent->name_hash == hash &&
	    recent->program.device == program->device &&
	    recent->program.generation == program->generation && now < recent->until)
		return;
	recent->program = *program;
	recent->name_hash = hash;
	recent->until = now + SR_RECENTLY;
	path = paths.lookup(program);
	if (path && path->name_hash == hash)
		return;
	path = no_path.lookup(&zero);
	if (!path)
		return;
	paths.update(program, path);
	path = paths.lookup(program);
	if (!path)
		return;
	path->name_hash = hash;
	sr_climb_from(file, &at);
#pragma clang loop unroll(disable)
	for (i = 0; i < SR_DEPTH + 8; i++) {
		u32 depth = *(volatile u32 *)&path->depth;
		int left = sr_leave_mount(&at);

		if (left < 0)
			break;
		if (left)
			continue;
		if (depth >= SR_DEPTH) {
			path->truncated = 1;
			break;
		}
		bpf_probe_read_kernel_str(&path->name[SR_BELOW(SR_DEPTH, depth) * SR_NAME], SR_NAME,
					  (void *)sr_read64(at.dentry, SR_OFF_DENTRY_NAME));
		at.dentry = sr_read64(at.dentry, SR_OFF_DENTRY_PARENT);
		path->depth = depth + 1;
	}
}

#endif
