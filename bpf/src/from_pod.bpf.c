/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * from_pod: tcx ingress on the host side of a pod's veth; every frame that a pod sends passes here first.
 *
 * It verifies the pod's claims: source address, Ethernet address on a bridge, no VLAN, no message of a router. So `judge` can
 * rely on the source of a packet that entered by this interface. If a DNS rule applies to the server, it steers the packet to
 * the shared socket by rewriting the destination port 53 -> P. It applies no policy, keeps no state but the pace of TCP
 * connections and of queries, and drops every frame that it cannot parse.
 */
#ifndef TANDEM_FROM_POD_H
#define TANDEM_FROM_POD_H

#include <tandem/connect_pace.h>
#include <tandem/devices.h>
#include <tandem/hook_facts.h>
#include <tandem/mark.h>
#include <tandem/members.h>
#include <tandem/pod_frame.h>
#include <tandem/query_pace.h>

/*
 * On a bridge port the pod may claim its own Ethernet address alone, because the bridge's forwarding table and
 * neighbour tables believe such claims. A point-to-point veth has no such table. False also if the address is not known.
 */
static __always_inline bool is_foreign_mac(struct __sk_buff *skb, const __u8 *claimed)
{
	__u32 ifindex = skb->ifindex;
	struct td_pod_mac *own = bpf_map_lookup_elem(&pod_macs, &ifindex);

	return own && mac_difference(own->mac, claimed);
}

static __always_inline bool is_foreign_source(struct __sk_buff *skb)
{
	const struct ethhdr *ethernet = header_at(skb, 0, sizeof(*ethernet));

	return !ethernet || is_foreign_mac(skb, ethernet->h_source);
}

/* As is_foreign_source(), with the endpoint in hand, which spares a lookup per packet. */
static __always_inline bool is_source_of(struct __sk_buff *skb, const struct td_endpoint *endpoint)
{
	const struct ethhdr *ethernet = header_at(skb, 0, sizeof(*ethernet));
	const __u8 none[ETH_ALEN] = {};

	return ethernet && (!mac_difference(endpoint->mac, ethernet->h_source) ||
			    !mac_difference(endpoint->mac, none));
}

/*
 * Is a device to write a checksum elsewhere than at `own` (-1: the message has none)? PACKET_VNET_HDR lets a pod choose where: over an
 * address that the message claims, or the flow that it quotes, which would change after they were verified.
 */
static __always_inline bool is_written_over(struct __sk_buff *skb, __s64 own)
{
	__s64 at = skb_checksum_at(bpf_cast_to_kern_ctx(skb));

	return at >= 0 && at != own;
}

static __always_inline __u32 from_pod_arp(struct __sk_buff *skb, struct packet *p)
{
	const struct arp_ipv4 *arp = frame_arp(skb);

	if (!arp || is_written_over(skb, -1))
		return TD_COUNT_DROP_PARSE;
	p->family = 4;
	arp_sender(arp, &p->source);
	if (is_foreign_mac(skb, arp->sender_mac))
		return TD_COUNT_DROP_SPOOFED;
	/*
	 * A probe (RFC 5227) has no sender. But it claims its target: the owner of the address gives way
	 * to an answer, and a starting pod to a probe.
	 */
	if (!p->source.a[3]) {
		__be32 target;

		__builtin_memcpy(&target, arp->target_ip, sizeof(target));
		address_from_ipv4(&p->source, target);
	}
	if (!own_endpoint(skb, &p->source))
		return TD_COUNT_DROP_SPOOFED;
	count(TD_COUNT_NEIGHBOUR);
	return TD_PASS;
}

#define TD_ND_OPTIONS_MAX	  4 /* RFC 4861 defines at most two for what a pod may send */
#define TD_ND_OPTION_SOURCE_MAC	  1
#define TD_ND_OPTION_TARGET_MAC	  2
#define TD_ND_SOLICIT_LENGTH	  8  /* router solicitation */
#define TD_ND_NEIGHBOUR_LENGTH	  24 /* neighbour solicitation and advertisement */

/* Link-layer addresses in a message of neighbour discovery are claims too. */
static __always_inline __u32 claimed_macs(struct __sk_buff *skb, const struct packet *p)
{
	__u32 offset = p->l4_offset + (p->icmp_type == TD_ND_ROUTER_SOLICIT ? TD_ND_SOLICIT_LENGTH
									     : TD_ND_NEIGHBOUR_LENGTH);

	for (int i = 0; i < TD_ND_OPTIONS_MAX; i++) {
		const __u8 *option;

		if (offset + 8 > skb->len)
			return TD_PASS;
		option = header_at(skb, offset, 8);
		if (!option || !option[1])
			return TD_COUNT_DROP_PARSE;
		if ((option[0] == TD_ND_OPTION_SOURCE_MAC || option[0] == TD_ND_OPTION_TARGET_MAC) &&
		    is_foreign_mac(skb, option + 2))
			return TD_COUNT_DROP_SPOOFED;
		offset += option[1] * 8;
	}
	return offset + 8 > skb->len ? TD_PASS : TD_COUNT_DROP_PARSE;
}

/*
 * May the pod claim this link-local address? Link-local addresses of pods are not in the maps. So the pod may claim any but an
 * address of the node, which has a class, and, on a bridge, an address made of another Ethernet address (RFC 4291, appendix A).
 */
static __always_inline __u32 claimed_link_local(struct __sk_buff *skb, const struct td_addr *address)
{
	__u32 high = bpf_ntohl(address->a[2]), low = bpf_ntohl(address->a[3]);
	__u8 made_of[ETH_ALEN] = {
		(high >> 24) ^ 2, high >> 16, high >> 8, low >> 16, low >> 8, low,
	};

	if (class_of(address).flags & TD_CLASS_NODE)
		return TD_COUNT_DROP_ND;
	if ((high & 0xff) == 0xff && low >> 24 == 0xfe && is_foreign_mac(skb, made_of))
		return TD_COUNT_DROP_SPOOFED;
	return TD_PASS;
}

/*
 * A neighbour advertisement claims its target, and so does the solicitation of duplicate address detection: it
 * may be only the pod's own.
 */
static __always_inline __u32 claimed_target(struct __sk_buff *skb, const struct packet *p)
{
	const struct td_addr *header = header_at(skb, p->l4_offset + 8, sizeof(*header));
	struct td_addr target;

	if (!header)
		return TD_COUNT_DROP_PARSE;
	target = *header;
	if (is_link_local6(&target))
		return claimed_link_local(skb, &target);
	return own_endpoint(skb, &target) ? TD_PASS : TD_COUNT_DROP_SPOOFED;
}

/* Verifies the addresses that a message of neighbour discovery claims for the pod. */
static __always_inline __u32 from_pod_neighbour(struct __sk_buff *skb, const struct packet *p)
{
	bool is_probe = p->icmp_type == TD_ND_NEIGHBOUR_SOLICIT && is_unspecified6(&p->source);

	if (p->icmp_type == TD_ND_NEIGHBOUR_ADVERT || is_probe) {
		__u32 reason = claimed_target(skb, p);

		if (reason)
			return reason;
	}
	return claimed_macs(skb, p);
}

/* Drops messages of routers, and from an address that is no endpoint all but neighbour and listener discovery. */
static __always_inline __u32 from_pod_icmpv6(struct __sk_buff *skb, const struct packet *p,
					     bool *without_endpoint)
{
	bool unspecified = is_unspecified6(&p->source);

	*without_endpoint = unspecified || is_link_local6(&p->source);
	if (p->protocol != TD_IPPROTO_ICMPV6 || p->is_cut || p->is_tail)
		return *without_endpoint ? TD_COUNT_DROP_ND : TD_PASS;
	/* put together again it would be believed unread (RFC 6980); without its head no tail is */
	if (p->is_fragment && (*without_endpoint || is_link_message(p)))
		return TD_COUNT_DROP_ND;
	if (p->icmp_type == TD_ND_ROUTER_ADVERT || p->icmp_type == TD_ND_REDIRECT ||
	    p->icmp_type == TD_MLD_QUERY || p->icmp_type == TD_MRD_ADVERT ||
	    p->icmp_type == TD_MRD_TERMINATION)
		return TD_COUNT_DROP_ND;
	if (p->icmp_type >= TD_ND_ROUTER_SOLICIT && p->icmp_type <= TD_ND_NEIGHBOUR_ADVERT) {
		__u32 reason = from_pod_neighbour(skb, p);

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
	return claimed_link_local(skb, &p->source);
}

/*
 * Drops messages of multicast routers over IPv4 (over IPv6: from_pod_icmpv6). A snooping bridge would treat the port as that of a
 * router: it would send all multicast there, and would count the members of groups as queried.
 */
static __always_inline __u32 from_pod_multicast_router(struct __sk_buff *skb, const struct packet *p)
{
	const __u8 *type;

	if (p->protocol == TD_IPPROTO_PIM)
		return is_multicast4(&p->destination) || is_multicast6(&p->destination) ? TD_COUNT_DROP_ND
											   : TD_PASS;
	if (p->protocol != TD_IPPROTO_IGMP || p->family != 4)
		return TD_PASS;
	if (p->is_fragment)
		return TD_COUNT_DROP_ND;
	type = header_at(skb, p->l4_offset, 1);
	if (!type)
		return TD_COUNT_DROP_PARSE;
	return *type == TD_IGMP_QUERY || *type == TD_IGMP_MRD_ADVERT || *type == TD_IGMP_MRD_TERMINATION
		       ? TD_COUNT_DROP_ND
		       : TD_PASS;
}

/* Whether a DNS rule of the policy applies to queries to this server. `wildcard`: a rule for every server counts too. */
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

#define TD_DNS_FLAGS_OFFSET 2
#define TD_DNS_QR	    0x80

/* A reply of a DNS server in the pod, to a client that asked from port 53. `judge` passes it if it was asked. */
static __always_inline bool is_dns_reply(struct __sk_buff *skb, const struct packet *p)
{
	const __u8 *flags;

	if (p->protocol != IPPROTO_UDP)
		return false;
	flags = header_at(skb, p->l4_offset + sizeof(struct udphdr) + TD_DNS_FLAGS_OFFSET, 1);
	return flags && *flags & TD_DNS_QR;
}

/*
 * On a bridge port: up to the bridge itself, not on to a DNS pod behind another port. A bridge that was given no address has that of a
 * port, and another one when the port goes. So it is read, as no agent may be there to write the new one; `known`: the one that was written.
 */
static __always_inline __u32 send_to_bridge(struct __sk_buff *skb, const __u8 *known)
{
	struct net_device *bridge = frame_bridge(skb);
	__u8 mac[ETH_ALEN] = {};

	if (!bridge || !device_mac(bridge, mac))
		__builtin_memcpy(mac, known, sizeof(mac));
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
	 * A tail has no port, so only its destination can match. If a rule names every server, only the head is
	 * dropped: without it nothing is reassembled.
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
	if (is_dns_reply(skb, p))
		return TD_PASS;
	if (!group_has_live())
		return TD_COUNT_DROP_NO_MEMBER;
	if (p->protocol == IPPROTO_TCP && !connect_allowed(skb, p, endpoint->id))
		return TD_COUNT_DROP_CONNECT_RATE;
	if (p->protocol == IPPROTO_UDP && !query_allowed(skb, p, endpoint->id))
		return TD_COUNT_DROP_QUERY_RATE;
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

	if (is_icmp(p) && !p->is_tail &&
	    is_written_over(skb, p->l4_offset + l4_checksum_offset(p->protocol)))
		return TD_COUNT_DROP_PARSE;
	if (p->family == 6) {
		bool without_endpoint;

		reason = from_pod_icmpv6(skb, p, &without_endpoint);
		if (reason)
			return reason;
		if (without_endpoint) {
			mark_set(skb, false);
			if (is_foreign_source(skb))
				return TD_COUNT_DROP_SPOOFED;
			count(TD_COUNT_NEIGHBOUR);
			return TD_PASS;
		}
	}
	endpoint = own_endpoint(skb, &p->source);
	if (!endpoint)
		return TD_COUNT_DROP_SPOOFED;
	*endpoint_id = endpoint->id;
	if (endpoint->flags & TD_EP_BRIDGED && !is_source_of(skb, endpoint))
		return TD_COUNT_DROP_SPOOFED;
	if (p->is_cut)
		return TD_COUNT_DROP_PARSE;
	reason = from_pod_multicast_router(skb, p);
	if (reason)
		return reason;
	/* an endpoint on hold is steered nowhere: `judge` drops whatever it sends */
	if ((endpoint->flags & (TD_EP_DNS | TD_EP_HOLD)) == TD_EP_DNS) {
		reason = from_pod_dns(skb, p, endpoint, &redirected);
		if (reason)
			return reason;
	}
	if (redirected)
		count(TD_COUNT_REDIRECTED);
	mark_set(skb, redirected);
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
		reason = is_foreign_source(skb) ? TD_COUNT_DROP_SPOOFED : from_pod_arp(skb, p);
		/* for nft, which drops all other ARP at bridges of pods (arp-guard.ts of the agent) */
		mark_set(skb, reason == TD_PASS);
		return reason;
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
