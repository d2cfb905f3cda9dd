/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * to_pod: tcx egress on the host side of a pod's veth; the last program before the pod.
 *
 * It gives replies of the shared socket their source port 53 back, and lets through only what is
 * addressed to the pod itself: broadcast, multicast and link-local frames of a bridge have no
 * endpoint as destination, so `judge` could not have applied the pod's ingress policy to them.
 */
#ifndef TANDEM_TO_POD_H
#define TANDEM_TO_POD_H

#include <tandem/mark.h>
#include <tandem/pod_frame.h>

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

static __always_inline __u32 to_pod_ip(struct __sk_buff *skb, struct packet *p, __u32 *endpoint_id)
{
	struct td_endpoint *endpoint = own_endpoint(skb, &p->destination);
	__u32 reason;

	if (!endpoint)
		return is_for_every_neighbour(p) ? TD_PASS : TD_COUNT_DROP_NOT_FOR_POD;
	*endpoint_id = endpoint->id;
	if (mark_of(skb->mark) != td_config.mark_socket)
		return TD_PASS;
	reason = restore_port(skb, p);
	mark_set(skb, 0);
	return reason;
}

static __always_inline __u32 to_pod_frame(struct __sk_buff *skb, struct packet *p,
					  __u32 *endpoint_id)
{
	__be16 type = 0;
	__u32 reason = frame_type(skb, &type);

	if (reason)
		return reason;
	if (type == bpf_htons(ETH_P_ARP))
		return TD_PASS;
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
	struct event_facts facts = { .direction = TD_INGRESS, .hook = TD_HOOK_TO_POD };

	return frame_verdict(skb, &p, to_pod_frame(skb, &p, &facts.endpoint_id), &facts);
}

#endif /* TANDEM_TO_POD_H */
