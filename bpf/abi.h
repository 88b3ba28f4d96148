/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that crosses the boundary between the kernel and user space.
 *
 * This file is the one definition of the layout. The C compiler reads it as C;
 * Python reads it as text (control/abi.py), so it keeps to a small subset:
 * integer #defines, and structs of u8..u64, fixed arrays and earlier structs,
 * one member a line, every byte of padding written out.
 *
 * Byte order: every integer is in host order. An address is two u64 words,
 * high half first, each the big-endian value of its eight bytes; an IPv4
 * address a.b.c.d is the mapped ::ffff:a.b.c.d, so hi = 0 and
 * lo = 0x0000ffffaabbccdd.
 *
 * Unknown: port 0, uid and gid 0xffffffff, program 0 and service 0 are
 * "unknown"; an address is unknown when its KNOWN bit is clear.
 */
#ifndef SOCKRULES_ABI_H
#define SOCKRULES_ABI_H

#define SR_ABI_VERSION 3

/* servers */
#define SR_LISTEN 0
#define SR_ACCEPT 1
#define SR_CONNECT 2
#define SR_SERVERS 3

/* modes of a server */
#define SR_OFF 0
#define SR_SIMULATE 1
#define SR_ENFORCE 2

/* the words of a request */
#define SR_W_BITS 0
#define SR_W_PORTS 1
#define SR_W_IDS 2
#define SR_W_PROGRAM 3
#define SR_W_LOCAL_HI 4
#define SR_W_LOCAL_LO 5
#define SR_W_REMOTE_HI 6
#define SR_W_REMOTE_LO 7
#define SR_WORDS 8

/*
 * SR_W_BITS: bits 0-1 the server, then what is known, then whether the remote
 * address is an IPv4 one (found by the decision itself), then from bit 8 the
 * directories the program lies below (found while gathering), and above them
 * the memberships of long sets (found by the interval search). The compiler
 * hands out the bits above 8 as it needs them.
 */
#define SR_BIT_LOCAL_KNOWN 0x4
#define SR_BIT_REMOTE_KNOWN 0x8
#define SR_BIT_REMOTE_V4 0x10
#define SR_FIRST_SET_BIT 8

/*
 * A request's class, 2 * server + (the remote address is an IPv4 one): tables that
 * hold nothing for a class are not opened for it.
 */
#define SR_CLASSES 6

/* the low byte of an entry's and a default's rule word; the rule's index is above */
#define SR_REJECT 0x1
#define SR_AUDIT 0x2
#define SR_MESSAGE 0x4
#define SR_CAPTURE 0x8
#define SR_RULE_SHIFT 8

/* limits of one generation; the compiler proves them before anything is loaded */
#define SR_MAX_TABLES 32 /* a power of two */
#define SR_NO_TABLE 31 /* the end of every chain */
#define SR_MAX_REGIONS 6
#define SR_MAX_SEARCH 21
#define SR_NO_RULE 0xffffff

/* fields that have a region of bounds to search */
#define SR_F_LOCAL_ADDRESS 0
#define SR_F_REMOTE_ADDRESS 1
#define SR_F_LOCAL_PORT 2
#define SR_F_REMOTE_PORT 3
#define SR_F_UID 4
#define SR_F_GID 5

/*
 * One box: a product of intervals, in two parts. It matches a request when
 *   (bits & bits_mask) == bits_value, and for every scalar lo <= x <= hi, and
 *   for every half of an address half - lo <= span (unsigned, so a wrap fails).
 * "Any" is the whole range, unknown included: ports 0-65535, ids 0-0xffffffff,
 * addresses lo 0 and span all ones. The high half of an IPv4 address is in its bit.
 * The first part is what most rules ask for, 64 bytes, a cache line; the map begins
 * at a page. Most boxes have no second part.
 * Example: connect to 10.0.0.0/8 port 443 is bits_mask 0x1b (server, remote known and
 * IPv4), bits_value 0x1a, remote_lo 0x0000ffff0a000000 span 0x00ffffff, ports_lo 443,
 * ports_hi 0x8000ffff800001bb, rest 0.
 */
struct sr_entry {
	u64 bits_mask;
	u64 bits_value;
	u64 remote_lo;
	u64 remote_lo_span;
	u64 ports_lo; /* local << 32 | remote */
	u64 ports_hi; /* the same, and SR_GUARDS */
	u32 rule; /* index << SR_RULE_SHIFT | flags */
	u32 rest; /* index into this generation's rests, 0: all of it is "any" */
	u32 uid_lo;
	u32 uid_hi;
};

/* Bits above the two ports: none of these is lost when one side is subtracted. */
#define SR_GUARDS 0x8000000080000000

struct sr_rest {
	u64 remote_hi;
	u64 remote_hi_span;
	u64 local_hi;
	u64 local_hi_span;
	u64 local_lo;
	u64 local_lo_span;
	u32 gid_lo;
	u32 gid_hi;
	u32 program_lo;
	u32 program_hi;
	u32 service_lo;
	u32 service_hi;
};

/* A run of entries, in sequence order, that share one hash; or a run of bounds. */
struct sr_slot {
	u32 start; /* index into this generation's entries; of bounds, from their region's base */
	u32 end; /* one past the last */
};

/*
 * A tuple: requests are hashed under the masks. The slot is base + (sum over words of
 * (word & mask) * SR_ODD[word]) >> shift; the word of the ports has the server above
 * them, from bit 32 on. Every class has a chain of tables, ordered by the smallest rule
 * that each holds for it; the last table in every chain is SR_NO_TABLE.
 */
struct sr_table {
	u32 base; /* of its slots, in this generation's slots */
	u32 shift; /* 64 - log2(number of slots), 32..63 */
	u64 ports;
	u64 ids;
	u64 remote_lo;
	u32 first[6]; /* smallest rule index in it, by class; 0xffffffff without one */
	u8 next[8]; /* the table that follows, by class */
	u64 wide; /* 0: the masks below are */
	u64 program;
	u64 local_hi;
	u64 local_lo;
	u64 remote_hi;
	u64 bits; /* of SR_W_BITS, memberships included */
	u64 pad[2];
};

/*
 * Lower bounds of intervals, ascending; the first of a region is zero. The
 * mask of the last bound that is not above the key is OR-ed into SR_W_BITS.
 */
struct sr_bound {
	u64 hi; /* 0 for scalars */
	u64 lo;
	u64 mask;
};

/*
 * A field's bounds, and where in them to search. Keys hi, lo to lo + (cells << shift) - 1
 * lie in the region's window: slot index + 1 + ((key - lo) >> shift) holds the bounds that
 * can be a key's, counted from base. Slot index itself holds all, for the keys outside.
 * A slot whose end has SR_FINER names finer cells instead: they begin at slot start and
 * are 1 << (end & 63) wide.
 */
#define SR_FINER 0x80000000
struct sr_region {
	u64 hi; /* 0 for scalars */
	u64 lo;
	u32 base; /* into this generation's bounds */
	u32 count; /* at most 2^SR_MAX_SEARCH */
	u32 index; /* into this generation's slots */
	u32 cells; /* at least 1 */
	u32 shift; /* 0..63 */
	u32 servers; /* bit n: rules of server n ask for its sets; 0: nothing to search */
};

/* What has to be gathered of who asks. */
#define SR_NEED_PROGRAM 0x1
#define SR_NEED_DIRECTORIES 0x2
#define SR_NEED_SERVICE 0x4
#define SR_NEED_IDS 0x8

struct sr_header {
	u64 revision;
	u64 zero; /* always 0; the verifier must not know (see decide.h) */
	u32 tables;
	u32 regions; /* how many are not empty */
	u32 needs; /* SR_NEED_* */
	u32 rules; /* without the defaults; these follow at rules + server */
	u32 defaults[4]; /* rule words, indexed by server; of the server that is none all ones */
	u8 start[8]; /* the first table, by class */
	struct sr_region region[6]; /* indexed by SR_F_* */
	struct sr_table table[32];
};

/* multipliers of the tuple hash: odd, from the fractional bits of sqrt(2,3,5,7,11,13,17,19) */
#define SR_ODD_0 0x6a09e667f3bcc909
#define SR_ODD_1 0xbb67ae8584caa73b
#define SR_ODD_2 0x3c6ef372fe94f82b
#define SR_ODD_3 0xa54ff53a5f1d36f1
#define SR_ODD_4 0x510e527fade682d1
#define SR_ODD_5 0x9b05688c2b3e6c1f
#define SR_ODD_6 0x1f83d9abfb41bd6b
#define SR_ODD_7 0x5be0cd19137e2179

/* ---- state that outlives an agent ---- */

/*
 * Read once per decision. The generation is 0 or 1 and a mode 0, 1 or 2, so an
 * update changes one byte of each and a torn copy cannot exist.
 */
struct sr_control {
	u32 generation;
	u32 mode[3]; /* SR_OFF.., indexed by server */
	u32 probe_tgid; /* the process that proves the hooks, 0 when none does */
	u32 arrivals; /* 1: report listeners where the map `namespaces` knows nothing */
	u64 zero; /* always 0; the verifier must not know (see decide.h) */
	u64 probe_until; /* CLOCK_MONOTONIC, ns: a forgotten probe ends by itself */
};

/* Per CPU and server. */
struct sr_totals {
	u64 decisions;
	u64 rejections; /* enforced */
	u64 simulated; /* would have been rejections */
	u64 exhausted; /* ran out of steps or of table: rejected */
	u64 lost; /* events that found no room or no reader */
	u64 shut; /* peers turned away from a listener whose listen was rejected */
	u64 unregistered; /* listeners for which the registry had no room */
};

/* An inode: what a program or a directory is, whatever it is called. */
struct sr_inode {
	u64 number;
	u32 device; /* major << 20 | minor, of the superblock */
	u32 generation; /* of the table for sr_known; of the inode for sr_path; else 0 */
};

/*
 * What the table knows of an inode, keyed by sr_inode with the table's generation. File
 * systems use numbers again; where the agent could ask for the inode's own generation,
 * another inode of the same number is not known.
 */
struct sr_known {
	u32 program; /* id, or 0 */
	u32 checked; /* whether the inode's generation is known */
	u32 generation; /* the inode's */
	u32 pad;
	u64 directory; /* bits of SR_W_BITS */
};

/* Deepest directory that is climbed; the longest path on a Debian 12 desktop has 12. */
#define SR_DEPTH 16
#define SR_NAME 40
#define SR_COMM 16

/* Where an executable was found, last component first; anew when its name is another. */
struct sr_path {
	u64 name_hash; /* qstr.hash_len of the dentry, another one once it is renamed */
	u32 depth; /* components */
	u32 truncated; /* deeper than SR_DEPTH */
	u8 name[640]; /* SR_DEPTH names of SR_NAME bytes, NUL-terminated; a full one was cut */
};

/* ---- services ---- */

#define SR_CGROUP_PATH 512
#define SR_CGROUP_DEPTH 32

/*
 * The key of a name that the tables ask for: a unit's, or a cgroup's path from the
 * root of the hierarchy. Filled up with zeroes; what is longer is asked for by none.
 */
struct sr_cgroup_path {
	u8 text[512];
};

/* What the two tables, by generation, make of a name; 0 where they do not ask for it. */
struct sr_named {
	u32 unit[2]; /* number of the unit */
	u64 below[2]; /* bits of SR_W_BITS for the cgroup of this path and all below it */
	u64 exact[2]; /* and for that cgroup alone */
};

/* What the two tables know of a cgroup, keyed by its id; a cgroup of which they ask nothing has none. */
struct sr_service {
	u32 unit[2]; /* number, or 0 */
	u64 bits[2]; /* of SR_W_BITS */
};

struct sr_tracking {
	u64 made; /* cgroups that were made since the programs were loaded */
	u64 overflow; /* of these, those for which the map had no room */
};

/* Who asks: the caller, or a listener's owner. */
struct sr_owner {
	u32 uid;
	u32 gid;
	u32 pid;
	u32 depth; /* directories in above */
	u64 cgroup; /* id: the inode number of its directory; 0 unknown */
	u8 comm[16];
	struct sr_inode program; /* number 0: unknown */
	struct sr_inode above[16]; /* directories that hold it, innermost first */
};

/* A wildcard listener has address 0 (IPv6) or ::ffff:0.0.0.0 (IPv4). */
struct sr_listener_key {
	u64 hi;
	u64 lo;
	u32 netns; /* inode number of its network namespace, as lsns(8) shows it */
	u32 port;
};

#define SR_SHUT 0x1 /* its listen was rejected: no peer is let in */
#define SR_UNBOUND 0x2 /* judged at listen(), not at bind() */

/*
 * Who listens: at a place (`listeners`, the last one to begin), or with a socket
 * (`owners`, keyed by its cookie; cookie 0 is whoever is not known).
 */
struct sr_listener {
	u32 count; /* listening sockets; 0: none any more */
	u32 flags;
	struct sr_listener_key place;
	struct sr_owner owner;
};

/* Instances of sk_lookup, one a network namespace; each has its number in place of the mark. */
#define SR_PLACES 4096
#define SR_PLACE_MARK 0x736f636b72756c65

/* Somebody listens in a network namespace that is not covered. */
struct sr_arrival {
	u32 netns; /* inode number */
	u32 pid;
	u64 cookie; /* the kernel's own for the namespace */
	u64 monotonic; /* CLOCK_MONOTONIC, ns */
};

/* what a socket went through before it listens; keyed by its cookie */
#define SR_BIND_EPHEMERAL 1 /* asked for port 0, as clients do: judged when it listens */
#define SR_BIND_JUDGED 2 /* judged at bind(): not judged again when it listens */

/* hooks, as events name them and proofs are counted */
#define SR_HOOK_CONNECT4 0
#define SR_HOOK_CONNECT6 1
#define SR_HOOK_POST_BIND4 2
#define SR_HOOK_POST_BIND6 3
#define SR_HOOK_TCP_LISTEN 4
#define SR_HOOK_SK_LOOKUP 5
#define SR_HOOK_SOCKET_LISTEN 6
#define SR_HOOK_CONN_REQUEST 7
#define SR_HOOKS 8

struct sr_event {
	u16 version; /* SR_ABI_VERSION */
	u16 size;
	u8 server;
	u8 mode;
	u8 hook;
	u8 flags; /* SR_REJECT.. */
	u64 monotonic; /* CLOCK_MONOTONIC, ns */
	u64 revision;
	u64 local_hi;
	u64 local_lo;
	u64 remote_hi;
	u64 remote_lo;
	u16 local_port;
	u16 remote_port;
	u32 known; /* SR_BIT_LOCAL_KNOWN, SR_BIT_REMOTE_KNOWN */
	u32 rule; /* index; SR_NO_RULE when the walk was exhausted */
	u32 netns; /* inode number, as lsns(8) shows it; 0 unknown */
	u32 uid;
	u32 gid;
	u32 pid;
	u32 pad;
	u64 cgroup; /* id; 0 unknown */
	struct sr_inode program;
	u8 comm[16];
};

/* Events that one CPU hands over together, and programs and listeners that it keeps; powers of two. */
#define SR_BATCH 64
#define SR_RECENT 64
#define SR_FOUND 32

/* A record of the ring is this without its absent events, or one struct sr_event alone. */
struct sr_batch {
	u64 absent; /* how many of the last events did not come */
	struct sr_event event[64]; /* SR_BATCH */
};

/* A program whose path was seen to be in `paths` a moment ago (climb.h). */
struct sr_recent {
	struct sr_inode program;
	u64 name_hash;
	u64 until; /* CLOCK_MONOTONIC, ns */
};

/* Who listens where a peer of a moment ago came to (found.h). */
struct sr_found {
	u64 changes; /* of the registry before it was looked up, and 1; 0 while this is written */
	struct sr_listener_key asked; /* where the peer came to; the listener's may be a wildcard */
	struct sr_listener listener; /* a copy */
};

/* What a CPU keeps from one request to the next (stage.h, climb.h, found.h). */
struct sr_stage {
	u64 taken; /* places given away; SR_BATCH and above: it is being handed over */
	u64 done; /* of these, those that are written */
	struct sr_recent recent[64]; /* SR_RECENT: at the inode's number modulo that */
	struct sr_batch batch;
	u64 finding; /* how many write to `found` just now */
	struct sr_found found[32]; /* SR_FOUND: by port; the first is for who comes between */
};

/* The test run: a frame of SR_WORDS words, then room for the rule word. */
struct sr_probe {
	u64 word[8];
	u32 rule;
	u32 generation;
};

#endif
