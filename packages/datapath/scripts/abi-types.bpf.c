/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Names every type of abi.h once, so that its BTF tells their layouts; generate-abi.ts reads them. */
#include <linux/bpf.h>
#include "../../../bpf/include/tandem/abi.h"

#define NAME(kind, type) kind type type##_;

NAME(struct, td_addr)
NAME(struct, td_endpoint)
NAME(struct, td_class_key)
NAME(struct, td_class)
NAME(struct, td_pod_mac)
NAME(struct, td_device_name)
NAME(struct, td_policy_key)
NAME(struct, td_policy)
NAME(struct, td_dns_server_key)
NAME(struct, td_dns_server)
NAME(struct, td_fqdn_key)
NAME(struct, td_fqdn_slot)
NAME(struct, td_fqdn)
NAME(struct, td_fqdn_live_key)
NAME(struct, td_fqdn_live)
NAME(struct, td_quota)
NAME(struct, td_pair)
NAME(struct, td_space)
NAME(struct, td_order)
NAME(struct, td_share_args)
NAME(struct, td_learn_request)
NAME(struct, td_learn_batch)
NAME(struct, td_learn_args)
NAME(struct, td_member)
NAME(struct, td_group)
NAME(struct, td_journal_header)
NAME(struct, td_journal_slot)
NAME(struct, td_pod_pace)
NAME(struct, td_event)
NAME(struct, td_nat64)
NAME(struct, td_config)
NAME(enum, td_endpoint_flags)
NAME(enum, td_class_flags)
NAME(enum, td_verdict)
NAME(enum, td_learn_op)
NAME(enum, td_learn_result)
NAME(enum, td_member_state)
NAME(enum, td_journal_state)
NAME(enum, td_listener_kind)
NAME(enum, td_counter)
NAME(enum, td_live_counter)
NAME(enum, td_pair_state)

/* Constants: enumerators are in BTF, macros are not. */
enum constant {
	CONSTANT_TD_ABI_VERSION = TD_ABI_VERSION,
	CONSTANT_TD_MEMBERS_MAX = TD_MEMBERS_MAX,
	CONSTANT_TD_WRITERS_MAX = TD_WRITERS_MAX,
	CONSTANT_TD_ENDPOINTS_MAX = TD_ENDPOINTS_MAX,
	CONSTANT_TD_CLASSES_MAX = TD_CLASSES_MAX,
	CONSTANT_TD_POLICY_MAX = TD_POLICY_MAX,
	CONSTANT_TD_DNS_SERVERS_MAX = TD_DNS_SERVERS_MAX,
	CONSTANT_TD_FQDN_MAX = TD_FQDN_MAX,
	CONSTANT_TD_FQDN_PAGES_MAX = TD_FQDN_PAGES_MAX,
	CONSTANT_TD_FQDN_SELECTORS_MAX = TD_FQDN_SELECTORS_MAX,
	CONSTANT_TD_FQDN_LIVE_MAX = TD_FQDN_LIVE_MAX,
	CONSTANT_TD_QUOTAS_MAX = TD_QUOTAS_MAX,
	CONSTANT_TD_PAIRS_MAX = TD_PAIRS_MAX,
	CONSTANT_TD_PLACES_MAX = TD_PLACES_MAX,
	CONSTANT_TD_EXTRA_PAGES_MAX = TD_EXTRA_PAGES_MAX,
	CONSTANT_TD_SPACES_MAX = TD_SPACES_MAX,
	CONSTANT_TD_NAT64_MAX = TD_NAT64_MAX,
	CONSTANT_TD_PACE_LIGHT_SHARE = TD_PACE_LIGHT_SHARE,
	CONSTANT_TD_PACE_LIGHT_BURST = TD_PACE_LIGHT_BURST,
	CONSTANT_TD_SLOT_OWNED = TD_SLOT_OWNED,
	CONSTANT_TD_SLOT_SPACE_SHIFT = TD_SLOT_SPACE_SHIFT,
	CONSTANT_TD_SLOT_SPACE_MASK = TD_SLOT_SPACE_MASK,
	CONSTANT_TD_SLOT_PLACE_MASK = TD_SLOT_PLACE_MASK,
	CONSTANT_TD_LEARN_BATCH_MAX = TD_LEARN_BATCH_MAX,
	CONSTANT_TD_EVENTS_BYTES = TD_EVENTS_BYTES,
	CONSTANT_TD_EVENTS_PER_SECOND = TD_EVENTS_PER_SECOND,
	CONSTANT_TD_EVENTS_PER_ENDPOINT = TD_EVENTS_PER_ENDPOINT,
	CONSTANT_TD_JOURNAL_VERSION = TD_JOURNAL_VERSION,
	CONSTANT_TD_JOURNAL_MEMBERS = TD_JOURNAL_MEMBERS,
	CONSTANT_TD_JOURNAL_CELL_BYTES = TD_JOURNAL_CELL_BYTES,
	CONSTANT_TD_JOURNAL_SLOTS = TD_JOURNAL_SLOTS,
	CONSTANT_TD_JOURNAL_STATE_CELLS = TD_JOURNAL_STATE_CELLS,
	CONSTANT_TD_JOURNAL_SCRATCH_CELLS = TD_JOURNAL_SCRATCH_CELLS,
	CONSTANT_TD_JOURNAL_REGION_CELLS = TD_JOURNAL_REGION_CELLS,
	CONSTANT_TD_JOURNAL_MESSAGE_BYTES = TD_JOURNAL_MESSAGE_BYTES,
	CONSTANT_TD_PEER_ANY = TD_PEER_ANY,
	CONSTANT_TD_CLASS_NONE = TD_CLASS_NONE,
	CONSTANT_TD_INGRESS = TD_INGRESS,
	CONSTANT_TD_EGRESS = TD_EGRESS,
	CONSTANT_TD_VERDICT_DECIDED = TD_VERDICT_DECIDED,
	CONSTANT_TD_POLICY_BITS_PEER = TD_POLICY_BITS_PEER,
	CONSTANT_TD_POLICY_BITS_PROTO = TD_POLICY_BITS_PROTO,
	CONSTANT_TD_POLICY_BITS_PORT = TD_POLICY_BITS_PORT,
	CONSTANT_TD_HEARTBEAT_STALE_NS = TD_HEARTBEAT_STALE_NS,
};
enum constant constant_;

_Static_assert(sizeof(union td_journal_cell) == TD_JOURNAL_CELL_BYTES, "a cell is what its parts are");
_Static_assert(TD_JOURNAL_STATE_CELLS * TD_JOURNAL_CELL_BYTES >= TD_JOURNAL_SLOTS * 4,
	       "a word for each slot");
_Static_assert(TD_JOURNAL_REGION_CELLS * TD_JOURNAL_CELL_BYTES % 4096 == 0, "a region is whole pages");
_Static_assert(TD_JOURNAL_REGION_CELLS == 1 + TD_JOURNAL_STATE_CELLS + TD_JOURNAL_SLOTS +
						  TD_JOURNAL_SCRATCH_CELLS,
	       "a region is the sum of its parts");
