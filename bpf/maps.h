/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps. Capacities are given by the agent: SR_ENTRIES, SR_SLOTS, SR_BOUNDS
 * and SR_RULES are per generation, there are two; SR_STEPS bounds the walk.
 *
 * `listeners`, `changes`, `owners`, `namespaces`, `totals`, `stages` and `paths` are pinned
 * (agent/loader.py) and shared by one agent and the next: which sockets listen, where
 * sk_lookup is attached, what was counted while no agent ran, the last events of then and
 * what their programs are called are lost otherwise. The rest is made anew by each agent
 * and replaced together with the programs.
 */
#ifndef SOCKRULES_MAPS_H
#define SOCKRULES_MAPS_H

#include "abi.h"

/* A cgroup whose path is being looked at (services.c); too large for a stack. */
struct sr_new_cgroup {
	struct sr_cgroup_path path;
	u8 room[256]; /* that a name read at the end of the path stays inside */
	struct sr_cgroup_path name; /* what is looked up */
	struct sr_service service;
	u32 end[32]; /* of the components, in letters of the path */
	u32 count; /* of these */
	u32 whole; /* the last of them is that of the path */
	u32 start; /* where the slash before the component stands */
	u32 inner; /* a component that is no slice has been passed */
};

BPF_ARRAY(control, struct sr_control, 1);
BPF_ARRAY(headers, struct sr_header, 2);
/* Mappable arrays begin at a page, so an entry is one cache line, and they are filled by writing to memory. */
BPF_F_TABLE("array", u32, struct sr_entry, entries, 2 * SR_ENTRIES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct sr_rest, rests, 2 * SR_RESTS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct sr_slot, slots, 2 * SR_SLOTS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct sr_bound, bounds, 2 * SR_BOUNDS, BPF_F_MMAPABLE);
BPF_HASH(known, struct sr_inode, struct sr_known, SR_KNOWN);

BPF_TABLE("hash", struct sr_cgroup_path, struct sr_named, names, SR_NAMES);
BPF_HASH(cgroups, u64, struct sr_service, SR_CGROUPS);
BPF_TABLE("lru_hash", u64, struct sr_cgroup_path, cgroup_paths, 2048);
BPF_ARRAY(tracking, struct sr_tracking, 1);
BPF_PERCPU_ARRAY(new_cgroup, struct sr_new_cgroup, 1);
BPF_ARRAY(no_cgroup, struct sr_new_cgroup, 1); /* always zero */

BPF_PERCPU_ARRAY(totals, struct sr_totals, SR_SERVERS);
BPF_PERCPU_ARRAY(hits, u64, 2 * SR_RULES); /* how often each rule decided */

BPF_PERCPU_ARRAY(proofs, u64, SR_HOOKS);

/* Room for all listeners of a large host; memory is taken for those that there are. */
BPF_F_TABLE("hash", struct sr_listener_key, struct sr_listener, listeners, SR_LISTENERS,
	    BPF_F_NO_PREALLOC);
/* How often `listeners` changed: [0] by programs, [1] by agents, each writes its own. */
BPF_ARRAY(changes, u64, 2);
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
/* As many as CPUs (agent/loader.py); the reader sees in memory which of them hold something. */
BPF_F_TABLE("array", u32, struct sr_stage, stages, 1, BPF_F_MMAPABLE);
/* Wakes the reader of `events`, which asks for it by 1 in `asleep` when long nothing came. */
BPF_PERF_OUTPUT(doorbell);
BPF_ARRAY(asleep, u32, 1);
BPF_PERF_OUTPUT(arrivals);

#endif
