/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Two lanes of datagrams to the members: each has a receive buffer of its own, so that a pod that asks little never waits behind
 * pods that ask much. from_pod knows what a pod has sent and sets the lane; select_member puts the datagram into the member's
 * socket of that lane (docs/adr/0022-lanes.md).
 *
 * A pod asks little while it stays within the TD_PACE_LIGHT_SHARE-th part of its rate, and TD_PACE_LIGHT_BURST queries at once. What it
 * sends beyond counts as well, unlike that of a pace: a pod that goes on asking much has no part in the light lane, and is
 * there again when it has asked little for as long as that burst lasts.
 *
 * Between the two programs the lane is in skb->priority. A pod cannot write it, because a packet that leaves its network namespace
 * loses it, and from_pod sets it for every steered datagram. If the node's rules write it, the datagram is in the light lane.
 */
#ifndef TANDEM_LANE_H
#define TANDEM_LANE_H

#include <tandem/maps.h>
#include <tandem/pace.h>

#define TD_LANE_LIGHT 0u
/* No class of a queueing discipline (major and minor number) that anybody makes. */
#define TD_LANE_HEAVY 0x5444ffffu

static __always_inline void lane_set(struct __sk_buff *skb, __u32 lane)
{
	skb->priority = lane;
}

/* `cost`: what the pod sends now, and `interval`: one query of its full rate, in ns. Counts it. */
static __always_inline bool lane_is_light(struct td_pod_pace *pod, __u64 cost, __u64 interval)
{
	__u64 burst = interval * TD_PACE_LIGHT_SHARE * TD_PACE_LIGHT_BURST;
	__u64 now = bpf_ktime_get_ns();

	cost *= TD_PACE_LIGHT_SHARE;
	for (int i = 0; i < TD_PACE_TRIES; i++) {
		__u64 seen = READ_ONCE(pod->spent_light);
		__u64 ahead = (__s64)(seen - now) > 0 ? seen - now : 0;
		__u64 spent = ahead + cost < 2 * burst ? ahead + cost : 2 * burst;

		if (__sync_val_compare_and_swap(&pod->spent_light, seen, now + spent) == seen)
			return ahead + cost <= burst;
	}
	/* A pod that loses the race against other CPUs so often sends much. */
	return false;
}

/* Says whether a datagram that select_member chooses a socket for is in the heavy lane. */
static __always_inline bool lane_is_heavy(struct sk_reuseport_md *packet)
{
	struct sk_reuseport_kern *kernel = bpf_cast_to_kern_ctx(packet);

	return packet->ip_protocol == IPPROTO_UDP && kernel->skb->priority == TD_LANE_HEAVY;
}

#endif /* TANDEM_LANE_H */
