/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The contract between the BPF programs and user space: every map's key and value, every number that
 * both sides name. Plain C without kernel headers, so that BPF, the addons and test tools include it.
 *
 * Byte order: addresses and fields named *_be are in network order, all else in host order.
 * Layouts of the maps in the stable pin directory (group, journal2, fqdn, fqdn_live, learned_order, learned_pairs,
 * learned_spaces, quotas, listeners, heavy_listeners, learn_requests) are frozen: members of different versions share them. They grow only
 * into what is marked reserved.
 */
#ifndef TANDEM_ABI_H
#define TANDEM_ABI_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define TD_ABI_VERSION 2u

/* ---- limits -------------------------------------------------------------------------------- */
#define TD_MEMBERS_MAX           4u
#define TD_ENDPOINTS_MAX         8192u   /* pod addresses of one node */
#define TD_CLASSES_MAX           524288u /* prefixes; memory is taken for those alone that are there */
#define TD_POLICY_MAX            262144u /* entries of all policies of a node */
#define TD_DNS_SERVERS_MAX       65536u
#define TD_POD_DEVICES_MAX       8192u   /* interfaces of pods */
#define TD_TRUSTED_DEVICES_MAX   1024u   /* interfaces of a node that are no pod's */
#define TD_POD_BRIDGES_MAX       64u     /* bridges of CNIs */
#define TD_TUNNEL_PORTS_MAX      256u
#define TD_FQDN_MAX              131072u /* pages of addresses */
#define TD_FQDN_PAGES_MAX        4u      /* pages of one address */
#define TD_FQDN_SELECTORS_MAX    16u     /* selectors of one page */
#define TD_FQDN_LIVE_MAX         131072u /* (address, selector) pairs in use by connections */
#define TD_QUOTAS_MAX            65536u  /* selectors that ever learned addresses */
#define TD_PAIRS_MAX             131072u /* places of learned pairs, of which 0 is never used; a power of two */
/*
 * Places in use. A pair takes a page of `fqdn` at most, and what is left holds second to fourth pages of addresses: so
 * a pair that has a place has room, however others lay out theirs.
 */
#define TD_PLACES_MAX            98303u
#define TD_EXTRA_PAGES_MAX       32000u
#define TD_SPACES_MAX            4096u   /* namespaces with learned pairs, and the pool of offers; a power of two */
#define TD_LEARN_BATCH_MAX       128u    /* requests of one run of `learn` */
#define TD_EVENTS_BYTES          (1u << 20)
#define TD_EVENTS_PER_SECOND     2000u   /* drop events per CPU, beyond it they are only counted */
#define TD_EVENTS_PER_ENDPOINT   250u    /* the same, of one endpoint */
#define TD_EVENTS_GUARANTEED     4u      /* of one endpoint, which come before those of endpoints with more */
#define TD_EVENT_PAYERS          4096u   /* endpoints and interfaces of which a pace of events is kept */
#define TD_POD_PACES             16384u  /* endpoints of which a pace is kept: twice what there may be */
#define TD_PACE_NODE_SHARE       4u      /* pods that may send as fast as each may, at one time */
#define TD_PACE_GUARANTEED_SHARE 16u     /* part of a pod's own pace that others cannot take */
#define TD_PACE_LIGHT_SHARE      32u     /* part of a pod's own pace, within which it asks little */
#define TD_PACE_LIGHT_BURST      64u     /* queries at once, of a pod that asks little */

/* ---- addresses ----------------------------------------------------------------------------- */
/* IPv4 as ::ffff:a.b.c.d, network order. */
struct td_addr {
	__u32 a[4];
};

/* ---- endpoints: td_addr -> td_endpoint ------------------------------------------------------- */
enum td_endpoint_flags {
	TD_EP_ENFORCE_INGRESS = 1 << 0, /* default deny on ingress */
	TD_EP_ENFORCE_EGRESS = 1 << 1,  /* default deny on egress */
	TD_EP_HOLD = 1 << 2,            /* known pod, policy not computed yet: pod traffic is dropped */
	TD_EP_WILD_INGRESS = 1 << 3,    /* policy has entries of peer TD_PEER_ANY on ingress */
	TD_EP_WILD_EGRESS = 1 << 4,
	TD_EP_FQDN = 1 << 5,            /* policy has entries of FQDN selectors */
	TD_EP_DNS = 1 << 6,             /* policy has DNS rules: look in dns_servers */
	TD_EP_AUDIT = 1 << 7,           /* policy drops are events only */
	TD_EP_BRIDGED = 1 << 8,         /* the veth is a bridge port: redirects rewrite the destination MAC */
};

struct td_endpoint {
	__u32 id;            /* 1.. ; equal for all addresses of one pod */
	__u32 policy_id;     /* content-addressed, immutable; 0 = none known */
	__u32 veth_ifindex;  /* host side of the pod's veth */
	__u32 l3_ifindex;    /* TD_EP_BRIDGED: the bridge; else veth_ifindex */
	__u32 class_id;      /* class of the pod's own address */
	__u32 flags;         /* td_endpoint_flags */
	__u32 namespace_id;  /* quota of learned addresses */
	__u8 bridge_mac[6];  /* TD_EP_BRIDGED */
	__u8 mac[6];         /* TD_EP_BRIDGED: the pod's own; zero: not known, so not compared */
	__u32 reserved[3];
};

/* ---- classes: td_class_key (LPM) -> td_class ------------------------------------------------- */
struct td_class_key {
	__u32 prefixlen; /* 0..128, IPv4 prefixes are 96 + n */
	struct td_addr addr;
};

enum td_class_flags {
	TD_CLASS_CLUSTER = 1 << 0,        /* pod, node, service, API server: FQDN selectors never apply */
	TD_CLASS_NODE = 1 << 1,           /* no pod may claim it; with CLUSTER: an address of a node */
	TD_CLASS_SERVICE = 1 << 2,
	TD_CLASS_LINK_LOCAL = 1 << 3,     /* link-local, loopback, metadata */
	/*
	 * This node's pod CIDR, but for what in it is known to be somewhere else. Never learned, and what
	 * judge_root drops while it has no judge to call. It does not decide whose a packet is.
	 */
	TD_CLASS_LOCAL_PODS = 1 << 4,
	TD_CLASS_HOST = 1 << 5,           /* an address of this node's interfaces: as a source of what this node made alone */
};
/*
 * The owner of the address: the meaning of each combination of these three flags that the agent writes; it writes no other. Combinations
 * of the other flags mean what their flags mean. abi-version.test.ts of packages/datapath compares this table too, so that a
 * combination that gets a meaning, or another one, raises TD_ABI_VERSION.
 */
#define TD_CLASS_OWNER (TD_CLASS_CLUSTER | TD_CLASS_NODE | TD_CLASS_HOST)
enum td_class_owner {
	TD_OWNER_WORLD = 0,
	TD_OWNER_CLUSTER = TD_CLASS_CLUSTER,
	TD_OWNER_A_NODE = TD_CLASS_CLUSTER | TD_CLASS_NODE,
	TD_OWNER_THIS_NODE = TD_CLASS_CLUSTER | TD_CLASS_NODE | TD_CLASS_HOST,
	/* in policy the world's, because on another link another host may have it */
	TD_OWNER_WORLD_AND_NO_POD_MAY_CLAIM_IT = TD_CLASS_NODE,
};
/* FQDN selectors are ignored for, and `learn` refuses, addresses of these classes. */
#define TD_CLASS_NEVER_LEARN \
	(TD_CLASS_CLUSTER | TD_CLASS_NODE | TD_CLASS_SERVICE | TD_CLASS_LINK_LOCAL | TD_CLASS_LOCAL_PODS)

struct td_class {
	__u32 id;    /* 2.. ; node-local: the set of selectors that match the peer */
	__u32 flags; /* td_class_flags */
};
#define TD_PEER_ANY   0u /* peer of a policy entry that holds for every peer */
#define TD_CLASS_NONE 1u /* no prefix matched */

/* ---- pod_devices, trusted_devices: __u32 ifindex -> __u32 ifindex (DEVMAP_HASH) ----------------- */
/*
 * Interfaces by whom they lead to. The kernel itself removes an entry together with its interface, so that
 * another one with the same index is never taken for it, whether the agent runs or not (ADR 12).
 *
 * pod_devices: from_pod and to_pod are attached, endpoints name it. trusted_devices: no pod's; what comes
 * in there is what it says it is, an endpoint's address excepted.
 */

/* ---- pod_macs: __u32 ifindex -> td_pod_mac ------------------------------------------------------ */
/* The one Ethernet address that the pod behind a bridge port may claim. */
struct td_pod_mac {
	__u8 mac[6];
	__u16 reserved;
};

/* ---- pod_bridges: td_device_name -> __u32 1 ------------------------------------------------------ */
/* By name, so that it outlives the bridge: CNIs make it with the first pod. */
struct td_device_name {
	char name[16];
};

/* ---- tunnel_ports: __u32 port, host order -> __u32 1 ---------------------------------------------- */
/* UDP ports at which a node believes the source inside a packet; no endpoint may send to them. */

/* ---- policy: td_policy_key (LPM) -> td_policy ------------------------------------------------ */
#define TD_INGRESS 0
#define TD_EGRESS  1
/* prefixlen counts the bits after itself: policy 32, peer 32, direction 8, protocol 8, port 16. */
#define TD_POLICY_BITS_PEER  72u /* any protocol */
#define TD_POLICY_BITS_PROTO 80u /* any port */
#define TD_POLICY_BITS_PORT  96u /* one port; 80 + n = a range that is a port prefix */

struct td_policy_key {
	__u32 prefixlen;
	__u32 policy_id;
	__u32 peer;      /* class id, FQDN selector id (bit 31 set), or TD_PEER_ANY */
	__u8 direction;  /* TD_INGRESS, TD_EGRESS */
	__u8 protocol;   /* IPPROTO_* */
	__u16 port_be;   /* destination port; ICMP: type in the high byte */
};
#define TD_SELECTOR_BIT 0x80000000u

enum td_verdict { TD_VERDICT_NONE = 0, TD_VERDICT_ALLOW = 1, TD_VERDICT_DENY = 2, TD_VERDICT_L7_DNS = 3 };
/*
 * Beside a verdict, NONE included, in an entry of a class: it includes what the rules for every peer say, so TD_PEER_ANY is not
 * asked. For rules that have an order (docs/adr/0021-cluster-network-policy.md).
 */
#define TD_VERDICT_DECIDED 0x80u

struct td_policy {
	__u8 verdict; /* td_verdict, and TD_VERDICT_DECIDED */
	__u8 reserved0[3];
	__u32 rule_id; /* for events and `policy explain`; 0 = several */
};

/* ---- dns_servers: td_dns_server_key -> td_dns_server ------------------------------------------ */
/* The server's address as the pod sees it, before service translation. The port is 53. */
struct td_dns_server_key {
	__u32 policy_id;
	struct td_addr server;
	__u8 protocol; /* IPPROTO_UDP, IPPROTO_TCP */
	__u8 reserved[3];
};
struct td_dns_server {
	__u32 rule_set_id;
	__u32 flags;
};

/* ---- fqdn: td_fqdn_key -> td_fqdn ------------------------------------------------------------- */
struct td_fqdn_key {
	struct td_addr addr;
	__u32 page; /* 0 .. TD_FQDN_PAGES_MAX - 1; used from 0 upwards without holes */
};
struct td_fqdn_slot {
	__u32 selector;     /* 0 = free */
	__u32 expires_s;    /* CLOCK_BOOTTIME, seconds; grace included */
	__u32 namespace_id; /* TD_SLOT_OWNED | space << TD_SLOT_SPACE_SHIFT | place of its pair; see below */
};
/*
 * A slot is one namespace's: several namespaces that name a selector have a slot each. A word without
 * TD_SLOT_OWNED is the place of an offered pair (below TD_PAIRS_MAX), or of a version before: a namespace id, which
 * has 31 bits.
 */
#define TD_SLOT_OWNED       0x80000000u
#define TD_SLOT_SPACE_SHIFT 17u
#define TD_SLOT_SPACE_MASK  ((TD_SPACES_MAX - 1u) << TD_SLOT_SPACE_SHIFT)
#define TD_SLOT_PLACE_MASK  (TD_PAIRS_MAX - 1u)

struct td_fqdn {
	/* Page 0's lock guards all pages of its address; every writer is `learn`. */
#ifdef __bpf__
	struct bpf_spin_lock lock;
#else
	__u32 lock;
#endif
	__u32 dead;         /* 1 while the page is created or deleted: writers retry, readers ignore */
	struct td_addr self; /* copy of the key's address: a reader compares it, elements are reused at once */
	/*
	 * CLOCK_BOOTTIME; renewed at most once a second. Its low TD_FQDN_SELECTORS_MAX bits, 65 us, are
	 * judge's own: the slots whose use it has noted in `fqdn_live` in that second.
	 */
	__u64 last_used_ns;
	__u32 more;         /* another page exists */
	__u32 page;         /* copy of the key's page */
	struct td_fqdn_slot slot[TD_FQDN_SELECTORS_MAX];
};

/* ---- fqdn_live: td_fqdn_live_key -> td_fqdn_live ----------------------------------------------- */
/*
 * Addresses that established connections use: written by `judge`, deleted by `learn` with the slot, and by the sweep of a
 * member once it is past. Opens nothing without an occupied slot of the same pair in `fqdn`.
 */
struct td_fqdn_live_key {
	struct td_addr addr;
	__u32 selector;
};
struct td_fqdn_live {
	__u32 until_s; /* CLOCK_BOOTTIME, seconds: last use + fqdn_live_idle_s */
	__u32 check;   /* of the key: a reader compares it, elements are reused at once */
};

/* ---- fqdn_live_counters: __u32 -> __u64 per CPU, index td_live_counter -------------------------- */
enum td_live_counter {
	TD_LIVE_PASSED = 0, /* new connections to an address whose name expired, while another one uses it */
	TD_LIVE_FULL = 1,   /* uses that were not noted because fqdn_live is full */
	TD_LIVE_COUNTERS = 2,
};

#include "abi_learned.h"

/* ---- quotas: __u32 -> td_quota ---------------------------------------------------------------- */
/*
 * Key: a selector id (bit 31 set); of versions before also a namespace id. Counts of occupied slots, kept right by
 * `learn` for the version before, which refuses by them; this one asks td_space.
 */
struct td_quota {
	__u32 used; /* slots of fqdn */
	__u32 limit;
	__u64 refused;
};

/* ---- learn_requests: writer -> td_learn_batch, mmap-able -------------------------------------- */
/* One batch per writing thread: the DNS worker of member i is writer i, its main thread i + MEMBERS. */
#define TD_WRITERS_MAX (2u * TD_MEMBERS_MAX)
enum td_learn_op {
	TD_LEARN_ADD = 1,    /* add the selector or extend its expiry, never shorten it */
	TD_LEARN_REMOVE = 2, /* remove one selector from the address, if it expires no later than the request says */
	TD_LEARN_EXPIRE = 3, /* remove what expired before now - idle seconds and was not used since */
};
enum td_learn_result {
	TD_LEARN_OK = 0,
	TD_LEARN_UNCHANGED = 1,
	TD_LEARN_ABSENT = 2,
	TD_LEARN_KEPT = 3, /* REMOVE: it expires later, expires_s says when */
	TD_LEARN_REFUSED_ADDRESS = -1,   /* never-learn class, v4-mapped AAAA, multicast, unspecified */
	TD_LEARN_REFUSED_SELECTORS = -2, /* TD_FQDN_PAGES_MAX full pages, and no owner there has to give */
	TD_LEARN_REFUSED_NAMESPACE = -3, /* no place in the order: the namespace has no pair to give, or it is an offer */
	TD_LEARN_REFUSED_SELECTOR = -4,  /* of the version before */
	TD_LEARN_REFUSED_FULL = -5,      /* map full */
	TD_LEARN_REFUSED_BUSY = -6,      /* lost a race too often: ask again */
	TD_LEARN_REFUSED_REQUEST = -7,   /* unknown op, or a selector without TD_SELECTOR_BIT */
};
struct td_learn_request {
	struct td_addr addr;
	__u32 selector;
	__u32 expires_s;    /* ADD: new expiry. REMOVE: the latest expiry that goes, 0: any. EXPIRE: "now" minus
			       idle seconds for last_used */
	__u32 namespace_id;
	__u16 op;           /* td_learn_op */
	__s16 result;       /* td_learn_result, written by `learn` */
	__u32 aaaa;         /* 1: from an AAAA record, so a v4-mapped address is refused */
	__u32 offered;      /* ADD: 1: no policy of the namespace wants it, others may; charged to the pool of offers */
	__u32 reserved[2];
};
struct td_learn_batch {
	struct td_learn_request request[TD_LEARN_BATCH_MAX];
};
/* ctx of the SYSCALL program `learn`. */
struct td_learn_args {
	__u32 writer;
	__u32 count;
	__u32 failed; /* out: requests with a negative result */
	__u32 evicted; /* out: pairs that made room */
};

/* ---- group: 0 -> td_group, mmap-able ---------------------------------------------------------- */
enum td_member_state { TD_MEMBER_NONE = 0, TD_MEMBER_LIVE = 1, TD_MEMBER_DRAIN = 2, TD_MEMBER_DEAD = 3 };
#define TD_HEARTBEAT_STALE_NS 100000000ull

struct td_member {
	__u64 beat_ns;   /* CLOCK_MONOTONIC */
	__u32 state;     /* td_member_state */
	__u32 pid;       /* in the pid namespace of the member */
	__u64 epoch;     /* CLOCK_BOOTTIME ns of its start: distinguishes two runs of one index */
	__u32 revision;  /* policy revision that it serves */
	__u32 role;      /* 0 agent, 1 dns-proxy */
	__u32 abi_version; /* TD_ABI_VERSION of the member; 0 before there was this field */
	__u32 reserved0;
	__u64 reserved[11];
};
struct td_group {
	__u32 abi_version;
	__u32 required_revision; /* members below it are chosen only when no other is LIVE */
	__u32 generation;        /* +1 before and after a change of endpoints: odd in between, members cache nothing */
	__u32 drain_token;       /* 0 free, else member index + 1 */
	__u32 removals;          /* incremented after pairs were removed from fqdn before their time */
	__u32 applied_revision;  /* policy revision that the datapath enforces; 0 before the first */
	/*
	 * Reader of `events`: bits 0..7 member index + 1, 0 no reader; above them a number that grows with each change. Every
	 * change is a compare-and-swap.
	 */
	__u32 events_lease;
	__u32 events_beat_ms;    /* CLOCK_MONOTONIC of the holder's last look, wraps */
	__u32 events_lost_told;  /* how much of counters EVENTS_LOST and EVENTS_LIMITED was reported, wraps */
	__u32 events_limited_told;
	__u32 loads;             /* incremented after an agent swapped its programs in: members open pins again */
	__u32 agent_abi;         /* ABI version whose maps the agent writes; 0 before the first load */
	__u32 kept_abi;          /* the oldest ABI version whose maps it keeps in step with its own */
	/*
	 * Settings with which the programs were loaded, for members to compare their own settings with. It counts while
	 * settings_load == loads: an agent of before there were these words moves `loads` alone.
	 */
	__u32 mark;
	__u32 port;              /* P, host order */
	__u32 owner_uid;
	__u32 settings_load;
	__u32 policies;          /* incremented after entries were added to `policy`, wraps */
	__u64 reserved[7];
	struct td_member member[TD_MEMBERS_MAX];
};

#include "abi_journal.h"

/* ---- listeners: REUSEPORT_SOCKARRAY, kind * TD_MEMBERS_MAX + member ---------------------------- */
/* ---- heavy_listeners: REUSEPORT_SOCKARRAY, (kind - TD_KINDS) * TD_MEMBERS_MAX + member ----------- */
/* The kinds from TD_KINDS on are for the datagrams of pods that send much (lane.h). A member may have none of them. */
enum td_listener_kind {
	TD_UDP4 = 0,
	TD_TCP4 = 1,
	TD_UDP6 = 2,
	TD_TCP6 = 3,
	TD_KINDS = 4,
	TD_UDP4_HEAVY = 4,
	TD_UDP6_HEAVY = 5,
	TD_KINDS_OF_ALL_LANES = 6,
};

/* ---- counters: __u32 -> __u64 per CPU, index td_counter ---------------------------------------- */
/* Names are API: metrics and docs are generated from this list. */
#define TD_COUNTERS(X) \
	X(FORWARDED, forwarded, "packets that policy allows") \
	X(NO_ENDPOINT, no_endpoint, "packets that belong to no local endpoint and are not subject to policy") \
	X(HOST, host, "packets between the node itself and its pods") \
	X(REDIRECTED, redirected, "DNS packets steered to the shared socket") \
	X(RESTORED, restored, "replies whose source port was restored") \
	X(SELECTED, selected, "packets and connections given to a member") \
	X(SELECTED_STALE, selected_stale, "packets and connections given to the member with the newest heartbeat, because no heartbeat was fresh") \
	X(RELATED, related, "ICMP errors that quote a known flow") \
	X(DROP_POLICY_DENY, drop_policy_deny, "a deny rule matches") \
	X(DROP_NO_MATCH, drop_no_match, "no rule allows the packet (default deny)") \
	X(DROP_FQDN_EXPIRED, drop_fqdn_expired, "a new connection goes to a learned address whose name has expired") \
	X(DROP_HOLD, drop_hold, "the policy of the endpoint is not computed yet") \
	X(DROP_UNKNOWN_POD, drop_unknown_pod, "the packet passes an interface that belongs to no known pod, or leaves to a pod by another interface than its own") \
	X(DROP_NOT_REDIRECTED, drop_not_redirected, "a DNS query that DNS rules apply to was not steered to the shared socket") \
	X(DROP_SPOOFED, drop_spoofed, "the source address, MAC address or claimed neighbour does not belong to the pod of the interface") \
	X(DROP_UNVERIFIED, drop_unverified, "the source address belongs to a local endpoint or to the node, and the packet came in by another interface") \
	X(DROP_PARSE, drop_parse, "the headers are truncated or malformed, or a pod sends to a loopback address") \
	X(DROP_FRAGMENT, drop_fragment, "the packet is a fragment to a DNS server with DNS rules, or was not reassembled") \
	X(DROP_OPTIONS, drop_options, "the packet to a DNS server with DNS rules has IP options or extension headers") \
	X(DROP_VLAN, drop_vlan, "the frame from or to a pod has a VLAN tag") \
	X(DROP_ETHERTYPE, drop_ethertype, "the frame is neither IPv4, IPv6 nor ARP") \
	X(DROP_ND, drop_nd, "a pod sends a router advertisement, a redirect, a message of a multicast router, a link-local source or an address of the node; the first two also from other ports of its bridge") \
	X(DROP_NOT_FOR_POD, drop_not_for_pod, "the destination is not an address of the pod behind the interface") \
	X(DROP_TUNNEL, drop_tunnel, "an endpoint sends to a tunnel port or with a tunnel protocol to a node") \
	X(DROP_ICMP_ERROR, drop_icmp_error, "an endpoint sends an ICMP error about a flow of others") \
	X(DROP_PORT, drop_port, "a packet goes to port P without being steered") \
	X(DROP_NO_MEMBER, drop_no_member, "no member serves DNS") \
	X(DROP_NO_PROGRAM, drop_no_program, "the tail-call slot has no program") \
	X(BIND_REFUSED, bind_refused, "binds of port P by other processes, refused") \
	X(EVENTS_LOST, events_lost, "drop events lost because the ring buffer was full") \
	X(EVENTS_LIMITED, events_limited, "drop events not sent because they exceed the event rate") \
	X(LEARN_ADDED, learn_added, "selectors added to addresses in the fqdn map") \
	X(LEARN_EXTENDED, learn_extended, "expiries of selectors extended in the fqdn map") \
	X(LEARN_REMOVED, learn_removed, "selectors removed from addresses in the fqdn map") \
	X(LEARN_REFUSED, learn_refused, "requests of members that the learn program refused") \
	X(AUDITED, audited, "packets that policy denies and audit mode let pass") \
	X(FLOODED, flooded, "broadcast, multicast and flooded frames for other pods, dropped without a drop event") \
	X(NEIGHBOUR, neighbour, "ARP and link-local IPv6 messages of and to pods, which policy does not apply to") \
	X(DROP_CONNECT_RATE, drop_connect_rate, "a TCP connection to a DNS server exceeds the rate of the pod, or is one of many that the pod opens while connections wait for the members; the client sends the SYN again") \
	X(DROP_QUERY_RATE, drop_query_rate, "a datagram to a DNS server exceeds twice the query rate of the pod, or the share of the pod in the rate of the node") \
	X(SELECTED_HEAVY, selected_heavy, "datagrams of pods that send much, put into the second receive buffer of a member (part of selected)") \
	X(TAILS, tails, "fragments to pods after the first one of their packet; policy applied to the packet before it was cut")

enum td_counter {
#define TD_X(upper, lower, help) TD_COUNT_##upper,
	TD_COUNTERS(TD_X)
#undef TD_X
	TD_COUNTER_COUNT
};

/* ---- connect_pace, query_pace: __u32 endpoint id -> td_pod_pace; payer_pace ---------------------- */
/* CLOCK_MONOTONIC, of payer_pace CLOCK_BOOTTIME, ns, up to which all is spent (pace.h). */
struct td_pod_pace {
	__u64 spent;
	__u64 spent_guaranteed; /* of the part that is left when the node has spent its own */
	__u64 spent_light;	/* of what a pod that asks little sends, or opens (lane.h); may exceed the burst */
};

/* ---- events: ring buffer of td_event ------------------------------------------------------------ */
struct td_event {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u32 endpoint_id;
	__u32 peer_class;
	struct td_addr source;
	struct td_addr destination;
	struct td_addr original_destination; /* before DNAT; zero when the same or unknown */
	__u16 source_port;
	__u16 destination_port;
	__u16 original_destination_port;
	__u8 protocol;
	__u8 direction; /* TD_INGRESS, TD_EGRESS */
	__u8 verdict;   /* td_verdict; ALLOW here means an audited drop */
	__u8 reason;    /* td_counter */
	__u8 hook;      /* 0 from_pod, 1 to_pod, 2 LOCAL_IN, 3 POST_ROUTING, 4 PRE_ROUTING, 5 guard_exit */
	__u8 family;    /* 4, 6 */
	__u32 ifindex;
	__u32 rule_id;
	/* Written by the reader: */
	__u32 lost;     /* reasons EVENTS_LOST and EVENTS_LIMITED: so many events, and no packet */
	__u64 position; /* where in `events` it ended: its name in every process; 0 unknown */
	__u32 ring;     /* id of that map: versions with different ones may live side by side */
	__u32 reserved;
};

/* ---- configuration: read-only data, set before load ---------------------------------------------- */
#define TD_NAT64_MAX 8u
/* A prefix of a NAT64 gateway (RFC 6052, section 2.2), in host order. */
struct td_nat64 {
	__u64 high;
	__u64 low;
	__u32 bits; /* 32, 40, 48, 56, 64 or 96; 0: none */
	__u32 reserved;
};
struct td_config {
	__u32 mark;           /* one bit of skb->mark: steered to the shared socket. from_pod sets or clears it */
	__u32 datagrams_per_second; /* datagrams of one pod to the shared socket; 0: no bound */
	__u32 reserved1[2];
	__u16 port_be;        /* P, the port of the shared socket */
	__u16 reserved0;
	__u32 owner_uid;      /* uid of the sockets of the group */
	__u64 netns_cookie;   /* the node's network namespace, for guard_port */
	__u64 stale_ns;       /* age of a beat that is not fresh */
	__u32 fqdn_idle_s;
	__u32 quota_namespace; /* limit of a namespace that `share` has not set */
	__u32 quota_selector;  /* of the version before */
	__u32 fqdn_live_s;      /* how long after its expiry an address in use takes new connections; 0: never */
	__u32 fqdn_live_idle_s; /* how long after a packet its connection counts as using the address */
	__u32 pairs;            /* places of learned pairs that are used; 0: TD_PLACES_MAX */
	__u32 extra_pages;      /* pages beside the first of an address; 0: TD_EXTRA_PAGES_MAX */
	__u32 connects_per_second; /* new TCP connections of one pod to the shared socket; 0: no bound */
	__u64 hash_key;            /* random, of this load: pods choose what is hashed (fqdn_hint.h) */
	struct td_nat64 nat64[TD_NAT64_MAX]; /* beside 64:ff9b::/96: `learn` knows what its addresses lead to */
};

#endif /* TANDEM_ABI_H */
