/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * A rate for each pod, within a rate of the node. All pods together have TD_PACE_NODE_SHARE times the rate of one. Beyond it
 * each pod still has the TD_PACE_GUARANTEED_SHARE-th part of its own rate.
 */
#ifndef TANDEM_POD_PACE_H
#define TANDEM_POD_PACE_H

#include <tandem/maps.h>
#include <tandem/pace.h>

/* By the id itself: an id is a digest of the pod's name, so pods whose ids are equal in part are easily made. */
static __always_inline struct td_pod_pace *pod_pace_of(void *pod_paces, __u32 endpoint_id)
{
	struct td_pod_pace *pace = bpf_map_lookup_elem(pod_paces, &endpoint_id);
	struct td_pod_pace unspent = {};

	if (pace)
		return pace;
	bpf_map_update_elem(pod_paces, &endpoint_id, &unspent, BPF_NOEXIST);
	return bpf_map_lookup_elem(pod_paces, &endpoint_id);
}

/*
 * `pod`: NULL if the map has no room. `cost`: ns that what the pod sends now takes of its own rate. A pod may send a second's worth at once; of all pods'
 * rate, `node_burst` ns are taken at once.
 */
static __always_inline bool pod_pace_take(struct td_pod_pace *pod, void *node_pace, __u64 cost, __u64 node_burst)
{
	__u32 zero = 0;
	__u64 *node = bpf_map_lookup_elem(node_pace, &zero);
	__u64 now = bpf_ktime_get_ns();
	bool is_guaranteed;

	if (!pod || !node || !pace_take(&pod->spent, cost, TD_NS_PER_S, now))
		return false;
	is_guaranteed = pace_take(&pod->spent_guaranteed, cost * TD_PACE_GUARANTEED_SHARE, TD_NS_PER_S,
				  now);
	return pace_take(node, cost / TD_PACE_NODE_SHARE, node_burst, now) || is_guaranteed;
}

#endif /* TANDEM_POD_PACE_H */
