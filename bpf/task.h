/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is read of the current task, of files and of sockets. Offsets (SR_OFF_*) come from
 * the running kernel's BTF. User, group and comm are read from the task as well: in older
 * kernels (Linux 5.10, 6.1) sockops has no helpers for them.
 *
 * Where the verifier knows the type of the current task in every kind of hook
 * (SR_HAS_TYPED_TASK, found by trying: agent/features.py), what is known of it is followed by
 * plain loads. Elsewhere each is a call of bpf_probe_read_kernel, which takes some 20 to
 * 80 ns.
 */
#ifndef SOCKRULES_TASK_H
#define SOCKRULES_TASK_H

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

/* The network namespace of a socket: address, inode number. */
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

/* What follows is asked of sr_task(), which is a call: once for all of it. */

static __always_inline u32 sr_netns(u64 task)
{
	u64 proxy = sr_member64(task, SR_OFF_TASK_NSPROXY), net;

	if (!proxy)
		return 0;
	net = sr_member64(proxy, SR_OFF_NSPROXY_NET);
	return net ? sr_member32(net, SR_OFF_NET_INUM) : 0;
}

static __always_inline u32 sr_tgid(u64 task)
{
	return sr_member32(task, SR_OFF_TASK_TGID);
}

/* A kernel thread asks for nobody in particular (MPTCP opens subflows by one): unknown, not root. */
static __always_inline void sr_ids(u64 task, u32 *uid, u32 *gid)
{
	u64 cred = sr_member64(task, SR_OFF_TASK_CRED);

	*uid = sr_member32(cred, SR_OFF_CRED_UID);
	*gid = sr_member32(cred, SR_OFF_CRED_GID);
	if (!sr_member64(task, SR_OFF_TASK_MM)) {
		*uid = 0xffffffff;
		*gid = 0xffffffff;
	}
}

static __always_inline void sr_comm(u64 task, u8 *comm)
{
#if SR_HAS_TYPED_TASK
	((u64 *)comm)[0] = sr_member64(task, SR_OFF_TASK_COMM);
	((u64 *)comm)[1] = sr_member64(task, SR_OFF_TASK_COMM + 8);
#else
	bpf_probe_read_kernel(comm, SR_COMM, (void *)(task + SR_OFF_TASK_COMM));
#endif
}

static __always_inline u32 sr_read16(u64 base, u32 offset)
{
	u16 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

static __always_inline u64 sr_exe_file(u64 task)
{
	u64 mm = sr_member64(task, SR_OFF_TASK_MM);

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

/* The id of a cgroup: kernfs_node.id (since Linux 5.5), what stat(2) shows of its directory. */
static __always_inline u64 sr_cgroup_id(u64 cgroup)
{
	return sr_read64(sr_read64(cgroup, SR_OFF_CGROUP_KN), SR_OFF_KERNFS_ID);
}

/* A task's cgroup v2. No helper for it is in every kind of program on Linux 5.10. */
static __always_inline u64 sr_cgroup(u64 task)
{
	u64 set = sr_member64(task, SR_OFF_TASK_CGROUPS);
	u64 cgroup = sr_member64(set, SR_OFF_CSS_SET_DFL_CGRP);

	return sr_member64(sr_member64(cgroup, SR_OFF_CGROUP_KN), SR_OFF_KERNFS_ID);
}

#endif
