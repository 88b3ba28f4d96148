/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps. Capacities are given by the agent: SR_ENTRIES, SR_SLOTS, SR_BOUNDS
 * and SR_RULES are per generation, there are two; SR_STEPS bounds the walk.
 *
 * `listeners` and `totals` are pinned (agent/loader.py) and shared by one agent
 * and the next: which sockets listen, and what was counted while no agent ran,
 * is lost otherwise. The rest is made anew by each agent and replaced together
 * with the programs.
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

BPF_HASH(listeners, struct sr_listener_key, struct sr_listener, SR_LISTENERS);
BPF_ARRAY(no_listener, struct sr_listener, 1); /* always zero: what an entry begins as */
BPF_TABLE("lru_hash", u64, u32, binds, 16384);

BPF_TABLE("lru_hash", struct sr_inode, struct sr_path, paths, 2048);
BPF_ARRAY(no_path, struct sr_path, 1);

BPF_PERF_OUTPUT(events);

#endif
