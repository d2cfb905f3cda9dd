/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * to_pod: tcx egress on the host side of a pod's veth; the last program before the pod.
 *
 * It restores source port 53 of replies from the shared socket, and passes only frames that are
 * addressed to the pod itself: broadcast, multicast and link-local frames of a bridge have no
 * endpoint as destination, so `judge` could not have applied the pod's ingress policy to them. Of ARP and neighbour discovery
 * it drops messages that claim an address of another interface.
 */
#ifndef TANDEM_TO_POD_H
#define TANDEM_TO_POD_H

#include <tandem/devices.h>
#include <tandem/flood.h>
#include <tandem/pod_frame.h>
#include <tandem/switched.h>

/* Reply of the shared socket: the port, also in the first fragment of a reply over the MTU. */
static __always_inline __u32 restore_port(struct __sk_buff *skb, const struct packet *p)
{
	__u32 reason;

	if (!is_udp_or_tcp(p) || p->is_tail || p->source_port != td_config.port_be)
		return TD_PASS;
	reason = rewrite_port(skb, p, offsetof(struct udphdr, source), td_config.port_be,
			      bpf_htons(TD_PORT_DNS));
	if (reason == TD_PASS)
		count(TD_COUNT_RESTORED);
	return reason;
}

/* Neighbour discovery; of listener discovery the queries: reports are for routers and bridges. */
static __always_inline bool is_for_every_neighbour(const struct packet *p)
{
	if (p->is_fragment || p->is_cut)
		return false;
	return is_neighbour_discovery(p) ||
	       (is_multicast_listener(p) && p->icmp_type == TD_MLD_QUERY);
}

/*
 * May the interface by which the frame came in claim that address? Messages between neighbours are judged by
 * no netfilter hook (ARP), or by none that knows the claim. 0 is the node itself; an unknown port of the bridge
 * may claim nothing, a pod no address of a node, and a trusted port none of this node: a router behind it has the
 * flag NODE without HOST.
 */
static __always_inline __u32 to_pod_claim(struct __sk_buff *skb, const struct td_addr *claimed)
{
	__u32 ingress = frame_ingress(skb);
	struct td_endpoint *endpoint;
	__u32 of_others = TD_CLASS_HOST;

	if (ingress == 0)
		return TD_PASS;
	if (is_pod_device(ingress))
		of_others = TD_CLASS_NODE;
	else if (!is_trusted_device(ingress))
		return TD_COUNT_DROP_UNKNOWN_POD;
	if (class_of(claimed).flags & of_others)
		return TD_COUNT_DROP_SPOOFED;
	endpoint = bpf_map_lookup_elem(&endpoints, claimed);
	return endpoint && endpoint->veth_ifindex != ingress ? TD_COUNT_DROP_SPOOFED : TD_PASS;
}

static __always_inline __u32 to_pod_arp(struct __sk_buff *skb, struct packet *p)
{
	const struct arp_ipv4 *arp = frame_arp(skb);
	__u32 reason;

	if (!arp)
		return TD_COUNT_DROP_PARSE;
	p->family = 4;
	arp_sender(arp, &p->source);
	reason = to_pod_claim(skb, &p->source);
	if (reason == TD_PASS)
		count(TD_COUNT_NEIGHBOUR);
	return reason;
}

/* Routers' messages come from the node, and an advertisement from whom it is about. */
static __always_inline __u32 to_pod_neighbour(struct __sk_buff *skb, const struct packet *p)
{
	struct td_addr claimed = p->source;

	if (frame_ingress(skb) != 0 &&
	    (p->icmp_type == TD_ND_ROUTER_ADVERT || p->icmp_type == TD_ND_REDIRECT))
		return TD_COUNT_DROP_ND;
	if (p->icmp_type == TD_ND_NEIGHBOUR_ADVERT) {
		const struct td_addr *target = header_at(skb, p->l4_offset + 8, sizeof(*target));

		if (!target)
			return TD_COUNT_DROP_PARSE;
		claimed = *target;
	}
	return to_pod_claim(skb, &claimed);
}

/* Broadcast, multicast, and what a bridge sends to all ports because it does not know the right one. */
static __always_inline bool is_flooded(struct __sk_buff *skb)
{
	const struct ethhdr *ethernet = header_at(skb, 0, sizeof(*ethernet));
	__u32 ifindex = skb->ifindex;
	struct td_pod_mac *own = bpf_map_lookup_elem(&pod_macs, &ifindex);

	return ethernet && (ethernet->h_dest[0] & 1 || (own && mac_difference(own->mac, ethernet->h_dest)));
}

static __always_inline __u32 to_pod_ip(struct __sk_buff *skb, struct packet *p, __u32 *endpoint_id)
{
	struct td_endpoint *endpoint = own_endpoint(skb, &p->destination);
	struct net_device *bridge;

	if (is_for_every_neighbour(p)) {
		__u32 reason = to_pod_neighbour(skb, p);

		/* as from_pod: `judge` counts those to an endpoint */
		if (reason == TD_PASS && !endpoint)
			count(TD_COUNT_NEIGHBOUR);
		if (reason || !endpoint)
			return reason;
	}
	if (!endpoint)
		return is_flooded(skb) ? TD_COUNT_FLOODED : TD_COUNT_DROP_NOT_FOR_POD;
	*endpoint_id = endpoint->id;
	if (p->is_tail)
		count(TD_COUNT_TAILS);
	if (frame_ingress(skb) == 0)
		return restore_port(skb, p);
	/* No pod takes a frame for the bridge's own address, so PACKET_HOST here is routed. */
	if (frame_kind(skb) == TD_PACKET_HOST || !is_of_stranger(skb))
		return TD_PASS;
	/* `judge` has not seen it if br_netfilter is off, or if the bridge took a VLAN tag off it */
	bridge = frame_bridge(skb);
	return bridge && is_switched_by(bridge, skb) ? TD_COUNT_DROP_UNKNOWN_POD : TD_PASS;
}

static __always_inline __u32 to_pod_frame(struct __sk_buff *skb, struct packet *p,
					  __u32 *endpoint_id)
{
	__be16 type = 0;
	__u32 reason = frame_type(skb, &type);

	if (reason)
		return reason;
	if (type == bpf_htons(ETH_P_ARP))
		return to_pod_arp(skb, p);
	if (type == bpf_htons(ETH_P_IP))
		return parse_frame_ipv4(skb, p) ? TD_COUNT_DROP_PARSE
						: to_pod_ip(skb, p, endpoint_id);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_frame_ipv6(skb, p) ? TD_COUNT_DROP_PARSE
						: to_pod_ip(skb, p, endpoint_id);
	return TD_COUNT_DROP_ETHERTYPE;
}

SEC("tcx/egress")
int to_pod(struct __sk_buff *skb)
{
	struct packet p = {};
	/* who sent the frame spends the events, not the pod that it is for */
	struct event_facts facts = {
		.direction = TD_INGRESS,
		.hook = TD_HOOK_TO_POD,
	};
	__u32 ingress = frame_ingress(skb);
	__u32 reason;

	if (ingress)
		facts.payer = ingress | TD_PAYER_DEVICE;
	reason = to_pod_frame(skb, &p, &facts.endpoint_id);
	if (reason != TD_PASS && reason != TD_COUNT_FLOODED && ingress && is_flooded(skb) &&
	    flood_is_told(flood_digest(&p, ingress, reason), skb->ifindex)) {
		count(reason);
		return TD_TCX_DROP;
	}
	return frame_verdict(skb, &p, reason, &facts);
}

#endif /* TANDEM_TO_POD_H */
