/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Every map. Names, keys and values are the contract of abi.h, except for maps that belong to the programs alone: judge_slot,
 * guard_entry_slot, event_pace, payer_pace, connect_pace, node_connect_pace, connect_queues, query_pace, node_query_pace, fqdn_hints, fqdn_denials,
 * flood_told, learn_scratch, classes_inner.
 */
#ifndef TANDEM_MAPS_H
#define TANDEM_MAPS_H

#include <tandem/kernel.h>
#include <tandem/abi.h>

/* Set before load by its BTF name; constants to the verifier. */
const volatile struct td_config td_config = {};

/*
 * Unused by the programs. It keeps types in the object's BTF that no key or value of a map mentions, because user space
 * reads numbers and layouts there.
 */
const volatile union td_types {
	enum td_endpoint_flags endpoint_flags;
	enum td_class_flags class_flags;
	enum td_verdict verdict;
	enum td_learn_op learn_op;
	enum td_learn_result learn_result;
	enum td_member_state member_state;
	enum td_journal_state journal_state;
	enum td_listener_kind listener_kind;
	enum td_counter counter;
	enum td_live_counter live_counter;
	enum td_pair_state pair_state;
	struct td_share_args share_args;
	struct td_event event;
	struct td_learn_args learn_args;
} td_types = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct td_addr);
	__type(value, struct td_endpoint);
	__uint(max_entries, TD_ENDPOINTS_MAX);
} endpoints SEC(".maps");

struct classes_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct td_class_key);
	__type(value, struct td_class);
	__uint(max_entries, TD_CLASSES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} classes SEC(".maps");

/*
 * The same trie, once more in an array: sleepable programs (`learn`) may not name a trie, but may look
 * into one that an array of maps holds, inside bpf_rcu_read_lock().
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 1);
	__array(values, struct classes_map);
} classes_inner SEC(".maps") = {
	.values = { (void *)&classes },
};

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, TD_POD_DEVICES_MAX);
} pod_devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, TD_TRUSTED_DEVICES_MAX);
} trusted_devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct td_pod_mac);
	__uint(max_entries, TD_POD_DEVICES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pod_macs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct td_device_name);
	__type(value, __u32);
	__uint(max_entries, TD_POD_BRIDGES_MAX);
} pod_bridges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, TD_TUNNEL_PORTS_MAX);
} tunnel_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct td_policy_key);
	__type(value, struct td_policy);
	__uint(max_entries, TD_POLICY_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} policy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct td_dns_server_key);
	__type(value, struct td_dns_server);
	__uint(max_entries, TD_DNS_SERVERS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} dns_servers SEC(".maps");

/*
 * Preallocated: learning never fails for want of atomic memory, and an element's lock stays a lock for
 * as long as the map exists, so that a writer with a stale pointer may take it safely.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct td_fqdn_key);
	__type(value, struct td_fqdn);
	__uint(max_entries, TD_FQDN_MAX);
} fqdn SEC(".maps");
/* The part of last_used_ns that names slots. */
#define TD_USED_SLOTS ((1ull << TD_FQDN_SELECTORS_MAX) - 1)

/* Allocated as needed: a packet that finds no memory notes nothing, and the next one tries again. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct td_fqdn_live_key);
	__type(value, struct td_fqdn_live);
	__uint(max_entries, TD_FQDN_LIVE_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} fqdn_live SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, TD_LIVE_COUNTERS);
} fqdn_live_counters SEC(".maps");

/* See fqdn_hint.h. Of all CPUs: a hint that one of them found serves the others. */
#define TD_HINTS_MAX 8192u /* a power of two */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, TD_HINTS_MAX);
} fqdn_hints SEC(".maps");

/* See fqdn_denial.h. Of all CPUs, as hints. */
#define TD_DENIALS_MAX 4096u /* a power of two */
struct denial {
	__u32 sequence; /* odd while it is written */
	__u32 stamp;	/* fills_stamp() before the search */
	__u32 time;	/* of the search, denial_time() */
	__u32 policy_id;
	__u32 asked; /* direction, protocol and port */
	struct td_addr address;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct denial);
	__uint(max_entries, TD_DENIALS_MAX);
} fqdn_denials SEC(".maps");

/* No lock is in it, so that user space may read it by mmap: learned_order's guards it. */
struct all_pairs {
	struct td_pair pair[TD_PAIRS_MAX];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct all_pairs);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} learned_pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct td_order);
	__uint(max_entries, 1);
} learned_order SEC(".maps");

/* Namespace id to its space in learned_order. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, TD_SPACES_MAX);
} learned_spaces SEC(".maps");

/* Data of each writer for which the stack has no room; it has a meaning within one request only. */
struct learn_scratch {
	__u64 page[sizeof(struct td_fqdn) / sizeof(__u64)]; /* a new page; its slots stay zero */
	__u8 count[TD_SPACES_MAX]; /* how many slots of an address each space has */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct learn_scratch);
	__uint(max_entries, TD_WRITERS_MAX);
} learn_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct td_quota);
	__uint(max_entries, TD_QUOTAS_MAX);
} quotas SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct td_learn_batch);
	__uint(max_entries, TD_WRITERS_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
} learn_requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct td_group);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} group SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, union td_journal_cell);
	__uint(max_entries, TD_JOURNAL_MEMBERS *TD_JOURNAL_REGION_CELLS);
	__uint(map_flags, BPF_F_MMAPABLE);
} journal2 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, TD_KINDS *TD_MEMBERS_MAX);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, (TD_KINDS_OF_ALL_LANES - TD_KINDS) * TD_MEMBERS_MAX);
} heavy_listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, TD_COUNTER_COUNT);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TD_EVENTS_BYTES);
} events SEC(".maps");

/* The time up to which this CPU has spent its events (events.h). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} event_pace SEC(".maps");

/* The same, by payer: an endpoint's id, or an interface. Who has caused none for long is replaced. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__type(key, __u32);
	__type(value, struct td_pod_pace);
	__uint(max_entries, TD_EVENT_PAYERS);
} payer_pace SEC(".maps");

/* The frame that a bridge floods on this CPU, with the port that made its event (flood.h). */
struct flood {
	__u64 frame; /* a digest; 0: none */
	__u64 time_ns;
	__u32 port;
	__u32 reserved;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct flood);
	__uint(max_entries, 1);
} flood_told SEC(".maps");

/* How fast pods open TCP connections (connect_pace.h), by endpoint id. One that no endpoint has any more is replaced. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u32);
	__type(value, struct td_pod_pace);
	__uint(max_entries, TD_POD_PACES);
} connect_pace SEC(".maps");

/* The same, of all pods together. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} node_connect_pace SEC(".maps");

/*
 * When a SYN last found a queue of a member's TCP listener filling up, CLOCK_MONOTONIC in ns; 0: the last one did not (connect_queue.h).
 * By member, over IPv4 and then over IPv6.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2 * TD_MEMBERS_MAX);
} connect_queues SEC(".maps");

/* How fast pods send datagrams to the shared socket (query_pace.h); as connect_pace. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u32);
	__type(value, struct td_pod_pace);
	__uint(max_entries, TD_POD_PACES);
} query_pace SEC(".maps");

/* The same, of all pods together. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} node_query_pace SEC(".maps");

/* Slot 0: the judge that judge_root calls. Filled before the root is attached. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} judge_slot SEC(".maps");

/* As judge_slot, for guard_entry_root. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} guard_entry_slot SEC(".maps");

#endif /* TANDEM_MAPS_H */
