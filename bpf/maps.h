/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps. Capacities are given by the agent: SR_ENTRIES, SR_SLOTS, SR_BOUNDS
 * and SR_RULES are per generation, there are two; SR_STEPS bounds the walk.
 *
 * `listeners`, `owners`, `namespaces` and `totals` are pinned (agent/loader.py) and
 * shared by one agent and the next: which sockets listen, where sk_lookup is
 * attached, and what was counted while no agent ran, is lost otherwise. The rest is
 * made anew by each agent and replaced together with the programs.
 */
#ifndef SOCKRULES_MAPS_H
#define SOCKRULES_MAPS_H

#include "abi.h"

BPF_ARRAY(control, struct sr_control, 1);
BPF_ARRAY(headers, struct sr_header, 2);
BPF_ARRAY(entries, struct sr_entry, 2 * SR_ENTRIES);
BPF_ARRAY(slots, struct sr_slot, 2 * SR_SLOTS);
BPF_ARRAY(bounds, struct sr_bound, 2 * SR_BOUNDS);
BPF_HASH(known, struct sr_inode, struct sr_known, SR_KNOWN);

BPF_PERCPU_ARRAY(totals, struct sr_totals, SR_SERVERS);
BPF_PERCPU_ARRAY(hits, struct sr_hits, 2 * SR_RULES);

BPF_PERCPU_ARRAY(proofs, u64, SR_HOOKS);

/* Room for all listeners of a large host; memory is taken for those that there are. */
BPF_F_TABLE("hash", struct sr_listener_key, struct sr_listener, listeners, SR_LISTENERS,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", u64, struct sr_listener, owners, SR_LISTENERS, BPF_F_NO_PREALLOC);

/* Instance of sk_lookup -> the namespace it is attached to (inode number), 0 for none. */
BPF_ARRAY(places, u32, SR_PLACES);
/* Namespaces with an instance, by inode number -> cookie; 0 where the kernel does not tell. */
BPF_HASH(namespaces, u32, u64, SR_PLACES);

/* 1 since a listener found no room: until the agent has made some, who is not found is judged too. */
BPF_ARRAY(overflowed, u32, 1);
BPF_ARRAY(no_listener, struct sr_listener, 1); /* always zero: what an entry begins as */
BPF_TABLE("lru_hash", u64, u32, binds, 16384);
BPF_TABLE("lru_hash", u64, u32, passed, 16384);
BPF_CGROUP_ARRAY(governed, 1);

BPF_TABLE("lru_hash", struct sr_inode, struct sr_path, paths, 2048);
BPF_ARRAY(no_path, struct sr_path, 1);

BPF_PERF_OUTPUT(events);
BPF_PERF_OUTPUT(arrivals);

#endif
