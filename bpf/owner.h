/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who asks: user, group, program and service of the current task.
 *
 * A program is the inode of its executable, and it lies below every directory
 * that a climb from its dentry to the root of the mount tree passes, so neither
 * comm nor argv, which any process can set, has a say. Offsets (SR_OFF_*) come
 * from the running kernel's BTF. A task without an executable (a kernel thread)
 * has program number 0, unknown. User, group and comm are read from the task as
 * well: in older kernels (Linux 5.10, 6.1) sockops has no helpers for them.
 *
 * Where the verifier knows the type of the current task in every kind of hook
 * (SR_HAS_TYPED_TASK, found by trying: agent/features.py), what is known of it is followed by
 * plain loads. Elsewhere, and on a climb, each is a call of bpf_probe_read_kernel, which
 * takes some 20 to 80 ns.
 *
 * How deep a climb is stands in the map, not in a register: the verifier would
 * follow every combination of iteration and depth.
 *
 * Known gap: a path of more than SR_DEPTH directories is seen from its end only.
 */
#ifndef SOCKRULES_OWNER_H
#define SOCKRULES_OWNER_H

#include "below.h"
#include "maps.h"

static __always_inline u64 sr_read64(u64 base, u32 offset)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

static __always_inline u32 sr_read32(u64 base, u32 offset)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

/*
 * The address in a pointer that the verifier has a type for. Such a pointer is not
 * readable at any offset, and not everywhere a kernel pointer in its eyes; what is
 * read from the stack is a number.
 */
#define sr_address(pointer)                                                        \
	({                                                                         \
		const void *_slot = (const void *)(pointer);                       \
		u64 _address = 0;                                                  \
		bpf_probe_read_kernel(&_address, sizeof(_address), (void *)&_slot); \
		_address;                                                          \
	})

/*
 * Members of what the current task leads to. The base is a pointer that has its type
 * from the task: no arithmetic with it, and sr_address() of it for a climb.
 */
#if SR_HAS_TYPED_TASK
#define sr_task() ((u64)bpf_get_current_task_btf())
#define sr_member64(base, offset)                                              \
	({                                                                     \
		u64 _value;                                                    \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                          \
			     : "=r"(_value)                                    \
			     : "r"((u64)(base)), "i"(offset));                 \
		_value;                                                        \
	})
#define sr_member32(base, offset)                                              \
	({                                                                     \
		u64 _value;                                                    \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                          \
			     : "=r"(_value)                                    \
			     : "r"((u64)(base)), "i"(offset));                 \
		(u32)_value;                                                   \
	})
#else
#define sr_task() bpf_get_current_task()
#define sr_member64(base, offset) sr_read64(base, offset)
#define sr_member32(base, offset) sr_read32(base, offset)
#endif

/* The network namespace of a socket, and that of the current task: address, inode number. */
static __always_inline u64 sr_socket_net(u64 sk)
{
	return sr_read64(sk, SR_OFF_SK_NET);
}

static __always_inline u32 sr_socket_netns(u64 sk)
{
	return sr_read32(sr_socket_net(sk), SR_OFF_NET_INUM);
}

/*
 * Whether sk_lookup is attached in a network namespace, and not in one that had its
 * number before. Where the kernel does not tell the agent cookies (before Linux 5.14)
 * nothing is certain, and the answer is no.
 */
static __always_inline int sr_is_covered(u64 net)
{
	u32 inum = sr_read32(net, SR_OFF_NET_INUM);
	u64 *cookie = namespaces.lookup(&inum);

	return cookie && *cookie && *cookie == sr_read64(net, SR_OFF_NET_COOKIE);
}

static __always_inline u32 sr_current_netns(void)
{
	u64 proxy = sr_member64(sr_task(), SR_OFF_TASK_NSPROXY), net;

	if (!proxy)
		return 0;
	net = sr_member64(proxy, SR_OFF_NSPROXY_NET);
	return net ? sr_member32(net, SR_OFF_NET_INUM) : 0;
}

static __always_inline u32 sr_tgid(void)
{
	return sr_member32(sr_task(), SR_OFF_TASK_TGID);
}

/* A kernel thread asks for nobody in particular (MPTCP opens subflows by one): unknown, not root. */
static __always_inline void sr_ids(u32 *uid, u32 *gid)
{
	u64 task = sr_task(), cred = sr_member64(task, SR_OFF_TASK_CRED);

	*uid = sr_member32(cred, SR_OFF_CRED_UID);
	*gid = sr_member32(cred, SR_OFF_CRED_GID);
	if (!sr_member64(task, SR_OFF_TASK_MM)) {
		*uid = 0xffffffff;
		*gid = 0xffffffff;
	}
}

static __always_inline void sr_comm(u8 *comm)
{
#if SR_HAS_TYPED_TASK
	u64 task = sr_task();

	((u64 *)comm)[0] = sr_member64(task, SR_OFF_TASK_COMM);
	((u64 *)comm)[1] = sr_member64(task, SR_OFF_TASK_COMM + 8);
#else
	bpf_probe_read_kernel(comm, SR_COMM, (void *)(bpf_get_current_task() + SR_OFF_TASK_COMM));
#endif
}

static __always_inline u32 sr_read16(u64 base, u32 offset)
{
	u16 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

static __always_inline u64 sr_exe_file(void)
{
	u64 mm = sr_member64(sr_task(), SR_OFF_TASK_MM);

	return mm ? sr_member64(mm, SR_OFF_MM_EXE_FILE) : 0;
}

static __always_inline u32 sr_device(u64 inode)
{
	return sr_read32(sr_read64(inode, SR_OFF_INODE_SB), SR_OFF_SB_DEV);
}

/* The program of an executable file; its inode's own generation tells a reused number apart. */
static __always_inline void sr_program(u64 file, struct sr_inode *program)
{
	u64 inode = file ? sr_member64(file, SR_OFF_FILE_INODE) : 0;

	program->number = 0;
	program->device = 0;
	program->generation = 0;
	if (!inode)
		return;
	program->number = sr_member64(inode, SR_OFF_INODE_INO);
	program->device = sr_member32(sr_member64(inode, SR_OFF_INODE_SB), SR_OFF_SB_DEV);
	program->generation = sr_member32(inode, SR_OFF_INODE_GENERATION);
}

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

/* Remember where a program lies, the first time it is seen there, for whoever reads the audit. */
static __always_inline void sr_remember_path(u64 file, struct sr_inode *program)
{
	struct sr_climb at;
	struct sr_path *path;
	u64 hash;
	int zero = 0;
	u32 i;

	if (!file || !program->number)
		return;
	hash = sr_hash_len(sr_member64(file, SR_OFF_FILE_DENTRY));
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

/* The id of a cgroup: kernfs_node.id (since Linux 5.5), what stat(2) shows of its directory. */
static __always_inline u64 sr_cgroup_id(u64 cgroup)
{
	return sr_read64(sr_read64(cgroup, SR_OFF_CGROUP_KN), SR_OFF_KERNFS_ID);
}

/* The current task's cgroup v2. No helper for it is in every kind of program on Linux 5.10. */
static __always_inline u64 sr_current_cgroup(void)
{
	u64 set = sr_member64(sr_task(), SR_OFF_TASK_CGROUPS);
	u64 cgroup = sr_member64(set, SR_OFF_CSS_SET_DFL_CGRP);

	return sr_member64(sr_member64(cgroup, SR_OFF_CGROUP_KN), SR_OFF_KERNFS_ID);
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
	u32 uid, gid;

	sr_ids(&uid, &gid);
	w[SR_W_IDS] = (u64)uid << 32 | gid;
	if (h->needs & SR_NEED_SERVICE)
		sr_gather_service(sr_current_cgroup(), generation, w);
	if (h->needs & (SR_NEED_PROGRAM | SR_NEED_DIRECTORIES)) {
		u64 file = sr_exe_file();
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
