/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Drop events. Each CPU may emit TD_EVENTS_PER_SECOND on average and as many in one burst, of which a quarter is kept for payers
 * with at most TD_EVENTS_GUARANTEED: else eight pods would hide the drops of all others. A drop beyond that, or with the ring
 * full, is only counted: a flood of drops must stay cheap.
 */
#ifndef TANDEM_EVENTS_H
#define TANDEM_EVENTS_H

#include <tandem/counters.h>
#include <tandem/pace.h>
#include <tandem/packet.h>

enum td_hook {
	TD_HOOK_FROM_POD = 0,
	TD_HOOK_TO_POD = 1,
	TD_HOOK_LOCAL_IN = 2,
	TD_HOOK_POST_ROUTING = 3,
	TD_HOOK_PRE_ROUTING = 4,
	TD_HOOK_GUARD_EXIT = 5,
};

/* Flag of a payer: the other bits are the index of an interface, not the id of an endpoint. */
#define TD_PAYER_DEVICE 0x80000000u

/* Facts of an event beside the packet. */
struct event_facts {
	__u32 endpoint_id;
	__u32 payer; /* whose share of the events this one spends: an endpoint, or TD_PAYER_DEVICE and an interface */
	__u32 peer_class;
	__u32 rule_id;
	__u32 ifindex;
	__u8 direction;
	__u8 verdict;
	__u8 reason;
	__u8 hook;
};

/*
 * By the payer itself: ids of endpoints are digests of names, so a tenant could name a pod so that it shared the pace
 * of another, if only a part of the id counted. NULL: no memory.
 */
static __always_inline struct td_pod_pace *payer_spent(__u32 payer)
{
	struct td_pod_pace *pace = bpf_map_lookup_elem(&payer_pace, &payer);
	struct td_pod_pace unspent = {};

	if (pace)
		return pace;
	bpf_map_update_elem(&payer_pace, &payer, &unspent, BPF_NOEXIST);
	return bpf_map_lookup_elem(&payer_pace, &payer);
}

/* The payer of a drop spends its own share first, so that the drops of one pod do not hide those of others. */
static __always_inline bool event_allowed(__u64 now, const struct event_facts *facts)
{
	struct td_pod_pace *own = payer_spent(facts->payer);
	__u32 zero = 0;
	__u64 *all = bpf_map_lookup_elem(&event_pace, &zero);
	bool is_guaranteed;

	if (!own || !all || !pace_take(&own->spent, TD_NS_PER_S / TD_EVENTS_PER_ENDPOINT, TD_NS_PER_S, now))
		return false;
	is_guaranteed = pace_take(&own->spent_guaranteed, TD_NS_PER_S / TD_EVENTS_GUARANTEED, TD_NS_PER_S, now);
	return pace_take(all, TD_NS_PER_S / TD_EVENTS_PER_SECOND,
			 is_guaranteed ? TD_NS_PER_S : TD_NS_PER_S / 4 * 3, now);
}

/* A reserved event with everything set but the original destination; NULL: limited or lost, counted. */
static __always_inline struct td_event *event_begin(const struct packet *p,
						    const struct event_facts *facts)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct td_event *event;

	if (!event_allowed(now, facts)) {
		count(TD_COUNT_EVENTS_LIMITED);
		return NULL;
	}
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(TD_COUNT_EVENTS_LOST);
		return NULL;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = now;
	event->endpoint_id = facts->endpoint_id;
	event->peer_class = facts->peer_class;
	event->source = p->source;
	event->destination = p->destination;
	event->source_port = bpf_ntohs(p->source_port);
	event->destination_port = bpf_ntohs(p->destination_port);
	event->protocol = p->protocol;
	event->direction = facts->direction;
	event->verdict = facts->verdict;
	event->reason = facts->reason;
	event->hook = facts->hook;
	event->family = p->family;
	event->ifindex = facts->ifindex;
	event->rule_id = facts->rule_id;
	return event;
}

static __always_inline void event_emit(const struct packet *p, const struct event_facts *facts)
{
	struct td_event *event = event_begin(p, facts);

	if (event)
		bpf_ringbuf_submit(event, 0);
}

#endif /* TANDEM_EVENTS_H */
