/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What BCC's own headers need of a kernel tree, so that no kernel headers are needed. */
#ifndef SOCKRULES_STUB_KCONFIG_H
#define SOCKRULES_STUB_KCONFIG_H

typedef unsigned char u8, __u8;
typedef unsigned short u16, __u16, __be16, __le16, __sum16;
typedef unsigned int u32, __u32, __be32, __le32, __wsum;
typedef unsigned long long u64, __u64, __be64, __le64;
typedef signed char s8, __s8;
typedef short s16, __s16;
typedef int s32, __s32;
typedef long long s64, __s64;
typedef u64 __aligned_u64 __attribute__((aligned(8)));
typedef _Bool bool;
typedef unsigned long uintptr_t;
typedef unsigned long size_t;
typedef int pid_t;

#define NULL ((void *)0)
#define __always_inline inline __attribute__((always_inline))
#define CONFIG_BPF_SYSCALL 1

#endif
