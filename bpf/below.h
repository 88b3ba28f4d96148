/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An index below a power of two, masked where it is used. Without the barrier clang, which
 * knows that the index is that small, leaves the mask out, and the verifier does not know:
 * that of Linux 5.10 and 6.1 forgets the bounds of what has been on the stack in between.
 */
#ifndef SOCKRULES_BELOW_H
#define SOCKRULES_BELOW_H

#define SR_BELOW(size, index)                    \
	({                                       \
		u64 _index = (index);            \
		asm volatile("" : "+r"(_index)); \
		_index & ((size) - 1);           \
	})

#endif
