/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * guard_exit: tcx egress on a port of a bridge of pods that is no pod's, where a machine or a network is. It judges what the bridge
 * switches there past every netfilter hook: ARP, other protocols than IP, frames that came with a VLAN tag. Of a pod that
 * the agent does not know none of them leaves (safety rule 6): it would take addresses at the machines there, and
 * speak to them. from_pod judges the frames of known pods.
 */
#ifndef TANDEM_GUARD_EXIT_H
#define TANDEM_GUARD_EXIT_H

#include <tandem/counters.h>
#include <tandem/switched.h>

SEC("tcx/egress")
int guard_exit(struct __sk_buff *skb)
{
	struct net_device *bridge;

	if (!is_of_stranger(skb))
		return TD_TCX_NEXT;
	bridge = switching_bridge(skb);
	if (!bridge || !is_pod_bridge(bridge))
		return TD_TCX_NEXT;
	count(TD_COUNT_DROP_UNKNOWN_POD);
	return TD_TCX_DROP;
}

#endif /* TANDEM_GUARD_EXIT_H */
