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

#include <tandem/flood.h>
#include <tandem/parse_frame.h>
#include <tandem/switched.h>

/* Facts of the frame that an event shows: none of one that has a VLAN tag, is cut short, or of another protocol. */
static __always_inline void guard_exit_parse(struct __sk_buff *skb, struct packet *p)
{
	const struct arp_ipv4 *arp;
	__be16 type = 0;

	if (frame_type(skb, &type))
		return;
	if (type == bpf_htons(ETH_P_IP)) {
		parse_frame_ipv4(skb, p);
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		parse_frame_ipv6(skb, p);
	} else if (type == bpf_htons(ETH_P_ARP)) {
		arp = frame_arp(skb);
		if (!arp)
			return;
		p->family = 4;
		arp_sender(arp, &p->source);
	}
}

/* Equal for the copies of a flooded frame, and for no frames to two machines: most have nothing else that tells them apart. */
static __always_inline __u64 guard_exit_digest(struct __sk_buff *skb, const struct packet *p)
{
	const struct ethhdr *ethernet = header_at(skb, 0, sizeof(*ethernet));
	__u64 digest = flood_digest(p, frame_ingress(skb), TD_COUNT_DROP_UNKNOWN_POD);
	__u64 mac = 0;

	if (!ethernet || ethernet->h_dest[0] & 1)
		return digest;
	__builtin_memcpy(&mac, ethernet->h_dest, ETH_ALEN);
	return digest ^ mac << 1;
}

/* The interface of the event is that of the pod that is not known. */
static __always_inline void guard_exit_report(struct __sk_buff *skb)
{
	__u32 ingress = frame_ingress(skb);
	struct event_facts facts = {
		.payer = ingress | TD_PAYER_DEVICE,
		.ifindex = ingress,
		.direction = TD_EGRESS,
		.verdict = TD_VERDICT_DENY,
		.reason = TD_COUNT_DROP_UNKNOWN_POD,
		.hook = TD_HOOK_GUARD_EXIT,
	};
	struct packet p = {};

	guard_exit_parse(skb, &p);
	if (!flood_is_told(guard_exit_digest(skb, &p), skb->ifindex))
		event_emit(&p, &facts);
}

SEC("tcx/egress")
int guard_exit(struct __sk_buff *skb)
{
	struct net_device *bridge;

	if (!is_of_stranger(skb))
		return TD_TCX_NEXT;
	bridge = frame_bridge(skb);
	if (!bridge || !is_pod_bridge(bridge) || !is_switched_by(bridge, skb))
		return TD_TCX_NEXT;
	count(TD_COUNT_DROP_UNKNOWN_POD);
	guard_exit_report(skb);
	return TD_TCX_DROP;
}

#endif /* TANDEM_GUARD_EXIT_H */
