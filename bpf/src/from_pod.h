/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * from_pod: tcx ingress on the host side of a pod's veth; every frame that a pod sends passes here first.
 *
 * It lets through only what the pod may say about itself (own addresses, no VLAN, no router's messages),
 * steers DNS that policy judges by name to the shared socket by rewriting the destination port 53 -> P,
 * and marks every other packet as seen, which is what makes its source believable to `judge`.
 * It keeps no state, judges no policy, and passes nothing that it could not parse.
 */
#ifndef TANDEM_FROM_POD_H
#define TANDEM_FROM_POD_H

#include <tandem/mark.h>
#include <tandem/members.h>
#include <tandem/pod_frame.h>
#include <tandem/policy.h>

#define TD_ARP_ETHERNET 1

/* RFC 826 for Ethernet and IPv4, after the Ethernet header. */
struct arp_ipv4 {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
};

static __always_inline __u32 from_pod_arp(struct __sk_buff *skb, struct packet *p)
{
	const struct arp_ipv4 *arp = header_at(skb, ETH_HLEN, sizeof(*arp));
	__be32 sender;

	if (!arp)
		return TD_COUNT_DROP_PARSE;
	if (arp->hardware_type != bpf_htons(TD_ARP_ETHERNET) ||
	    arp->protocol_type != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 ||
	    arp->protocol_length != 4)
		return TD_COUNT_DROP_PARSE;
	__builtin_memcpy(&sender, arp->sender_ip, sizeof(sender));
	address_from_ipv4(&p->source, sender);
	p->family = 4;
	if (!sender) /* a probe (RFC 5227) claims nothing */
		return TD_PASS;
	return own_endpoint(skb, &p->source) ? TD_PASS : TD_COUNT_DROP_SPOOFED;
}

/*
 * A neighbour advertisement may claim only the pod's own addresses. Its link-local ones are not known
 * here, so of those only the node's (a class of the agent's, the gateway of a bridge) are refused.
 */
static __always_inline __u32 advertised_target(struct __sk_buff *skb, const struct packet *p)
{
	const struct td_addr *header = header_at(skb, p->l4_offset + 8, sizeof(*header));
	struct td_addr target;

	if (!header)
		return TD_COUNT_DROP_PARSE;
	target = *header;
	if (is_link_local6(&target))
		return class_of(&target).flags & TD_CLASS_NODE ? TD_COUNT_DROP_ND : TD_PASS;
	return own_endpoint(skb, &target) ? TD_PASS : TD_COUNT_DROP_SPOOFED;
}

/* What only routers say, and what a pod may say from an address that is no endpoint. */
static __always_inline __u32 from_pod_icmpv6(struct __sk_buff *skb, const struct packet *p,
					     bool *without_endpoint)
{
	bool unspecified = is_unspecified6(&p->source);

	*without_endpoint = unspecified || is_link_local6(&p->source);
	if (p->protocol != TD_IPPROTO_ICMPV6 || p->is_cut || p->is_fragment)
		return *without_endpoint ? TD_COUNT_DROP_ND : TD_PASS;
	if (p->icmp_type == TD_ND_ROUTER_ADVERT || p->icmp_type == TD_ND_REDIRECT ||
	    p->icmp_type == TD_MLD_QUERY)
		return TD_COUNT_DROP_ND;
	if (p->icmp_type == TD_ND_NEIGHBOUR_ADVERT) {
		__u32 reason = advertised_target(skb, p);

		if (reason)
			return reason;
	}
	if (!*without_endpoint)
		return TD_PASS;
	if (!is_neighbour_discovery(p) && !is_multicast_listener(p))
		return TD_COUNT_DROP_ND;
	/* duplicate address detection solicits, it does not advertise (RFC 4861, 7.1.2) */
	if (unspecified)
		return p->icmp_type == TD_ND_NEIGHBOUR_ADVERT ? TD_COUNT_DROP_ND : TD_PASS;
	return class_of(&p->source).flags & TD_CLASS_NODE ? TD_COUNT_DROP_ND : TD_PASS;
}

/* Does policy judge by name what this endpoint says to that server's port 53? */
static __always_inline bool is_dns_server(__u32 policy_id, const struct packet *p, bool wildcard)
{
	struct td_dns_server_key key = {
		.policy_id = policy_id,
		.server = p->destination,
		.protocol = p->protocol,
	};

	if (bpf_map_lookup_elem(&dns_servers, &key))
		return true;
	if (!wildcard)
		return false;
	__builtin_memset(&key.server, 0, sizeof(key.server));
	return bpf_map_lookup_elem(&dns_servers, &key) != NULL;
}

/* On a bridge port: up to the bridge itself, not on to a DNS pod behind another port. */
static __always_inline __u32 send_to_bridge(struct __sk_buff *skb, const __u8 *mac)
{
	if (bpf_skb_store_bytes(skb, 0, mac, ETH_ALEN, 0) ||
	    bpf_skb_change_type(skb, TD_PACKET_HOST))
		return TD_COUNT_DROP_PARSE;
	return TD_PASS;
}

/* DNS that policy judges by name: `*redirected`, or the reason why it cannot be steered. */
static __always_inline __u32 from_pod_dns(struct __sk_buff *skb, const struct packet *p,
					  struct td_endpoint *endpoint, bool *redirected)
{
	bool bridged = endpoint->flags & TD_EP_BRIDGED;
	__u8 mac[ETH_ALEN];
	__u32 reason;

	if (!is_udp_or_tcp(p))
		return TD_PASS;
	/*
	 * A tail has no port, so it is known by its destination alone. Toward a wildcard's servers, that
	 * is everybody, only the head is dropped: without it nothing is ever reassembled.
	 */
	if (p->is_tail)
		return is_dns_server(endpoint->policy_id, p, false) ? TD_COUNT_DROP_FRAGMENT
								     : TD_PASS;
	if (p->destination_port != bpf_htons(TD_PORT_DNS) ||
	    !is_dns_server(endpoint->policy_id, p, true))
		return TD_PASS;
	if (p->is_fragment)
		return TD_COUNT_DROP_FRAGMENT;
	if (p->has_options)
		return TD_COUNT_DROP_OPTIONS;
	if (!group_has_live())
		return TD_COUNT_DROP_NO_MEMBER;
	__builtin_memcpy(mac, endpoint->bridge_mac, sizeof(mac));
	reason = rewrite_port(skb, p, offsetof(struct udphdr, dest), p->destination_port,
			      td_config.port_be);
	if (!reason && bridged)
		reason = send_to_bridge(skb, mac);
	*redirected = reason == TD_PASS;
	return reason;
}
_Static_assert(offsetof(struct udphdr, dest) == offsetof(struct tcphdr, dest), "ports come first");

static __always_inline __u32 from_pod_ip(struct __sk_buff *skb, struct packet *p, __u32 *endpoint_id)
{
	struct td_endpoint *endpoint;
	bool redirected = false;
	__u32 reason;

	if (p->family == 6) {
		bool without_endpoint;

		reason = from_pod_icmpv6(skb, p, &without_endpoint);
		if (reason)
			return reason;
		if (without_endpoint) {
			mark_set(skb, 0);
			return TD_PASS;
		}
	}
	endpoint = own_endpoint(skb, &p->source);
	if (!endpoint)
		return TD_COUNT_DROP_SPOOFED;
	*endpoint_id = endpoint->id;
	if (p->is_cut)
		return TD_COUNT_DROP_PARSE;
	/* an endpoint on hold is steered nowhere: `judge` drops whatever it sends */
	if ((endpoint->flags & (TD_EP_DNS | TD_EP_HOLD)) == TD_EP_DNS) {
		reason = from_pod_dns(skb, p, endpoint, &redirected);
		if (reason)
			return reason;
	}
	if (redirected) {
		count(TD_COUNT_REDIRECTED);
		mark_set(skb, td_config.mark_redirect);
	} else {
		mark_set(skb, td_config.mark_seen);
	}
	return TD_PASS;
}

static __always_inline __u32 from_pod_frame(struct __sk_buff *skb, struct packet *p,
					    __u32 *endpoint_id)
{
	__be16 type = 0;
	__u32 reason = frame_type(skb, &type);

	if (reason)
		return reason;
	if (type == bpf_htons(ETH_P_ARP)) {
		mark_set(skb, 0);
		return from_pod_arp(skb, p);
	}
	if (type == bpf_htons(ETH_P_IP))
		return parse_frame_ipv4(skb, p) ? TD_COUNT_DROP_PARSE
						: from_pod_ip(skb, p, endpoint_id);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_frame_ipv6(skb, p) ? TD_COUNT_DROP_PARSE
						: from_pod_ip(skb, p, endpoint_id);
	return TD_COUNT_DROP_ETHERTYPE;
}

SEC("tcx/ingress")
int from_pod(struct __sk_buff *skb)
{
	struct packet p = {};
	struct event_facts facts = { .direction = TD_EGRESS, .hook = TD_HOOK_FROM_POD };

	return frame_verdict(skb, &p, from_pod_frame(skb, &p, &facts.endpoint_id), &facts);
}

#endif /* TANDEM_FROM_POD_H */
