/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Shared by both programs on a pod's veth: the kind of a frame, its owner, its claims, its ports, its verdict. */
#ifndef TANDEM_POD_FRAME_H
#define TANDEM_POD_FRAME_H

#include <tandem/events.h>
#include <tandem/policy.h>
#include <tandem/parse_frame.h>
#include <linux/tcp.h>
#include <linux/udp.h>

/* A function's answer: 0, or the counter of the reason why the frame is dropped. */
#define TD_PASS 0
_Static_assert(TD_COUNT_FORWARDED == TD_PASS, "0 is no reason to drop");

/* The ethertype, of a frame without VLAN tags: no program judges what is behind one. */
static __always_inline __u32 frame_type(struct __sk_buff *skb, __be16 *type)
{
	const struct ethhdr *ethernet = header_at(skb, 0, sizeof(*ethernet));

	if (skb->vlan_present)
		return TD_COUNT_DROP_VLAN;
	if (!ethernet)
		return TD_COUNT_DROP_PARSE;
	*type = ethernet->h_proto;
	if (*type == bpf_htons(ETH_P_8021Q) || *type == bpf_htons(ETH_P_8021AD))
		return TD_COUNT_DROP_VLAN;
	return TD_PASS;
}

/*
 * The device by which the frame came in; 0: this node made it. In assembly: clang would keep the field's address,
 * not the context's, and the verifier knows only the latter.
 */
static __always_inline __u32 frame_ingress(struct __sk_buff *skb)
{
	__u32 ifindex;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(ifindex)
		     : "r"(skb), "i"(offsetof(struct __sk_buff, ingress_ifindex)));
	return ifindex;
}

/* The endpoint with this address, if it is the one behind this veth. */
static __always_inline struct td_endpoint *own_endpoint(struct __sk_buff *skb,
							const struct td_addr *address)
{
	struct td_endpoint *endpoint = bpf_map_lookup_elem(&endpoints, address);

	if (!endpoint || endpoint->veth_ifindex != skb->ifindex)
		return NULL;
	return endpoint;
}

#define TD_ARP_ETHERNET 1

/* RFC 826 for Ethernet and IPv4, after the Ethernet header. */
struct arp_ipv4 {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_ip[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_ip[4];
};

/* The frame's ARP message, or NULL: of other protocols, or cut short. */
static __always_inline const struct arp_ipv4 *frame_arp(struct __sk_buff *skb)
{
	const struct arp_ipv4 *arp = header_at(skb, ETH_HLEN, sizeof(*arp));

	if (!arp || arp->hardware_type != bpf_htons(TD_ARP_ETHERNET) ||
	    arp->protocol_type != bpf_htons(ETH_P_IP) || arp->hardware_length != ETH_ALEN ||
	    arp->protocol_length != 4)
		return NULL;
	return arp;
}

static __always_inline void arp_sender(const struct arp_ipv4 *arp, struct td_addr *sender)
{
	__be32 ipv4;

	__builtin_memcpy(&ipv4, arp->sender_ip, sizeof(ipv4));
	address_from_ipv4(sender, ipv4);
}

/* A port becomes another; the checksum follows it, also when the device is to complete it. */
static __always_inline __u32 rewrite_port(struct __sk_buff *skb, const struct packet *p,
					  __u32 port_offset, __be16 from, __be16 to)
{
	__u32 check = p->l4_offset + (p->protocol == IPPROTO_UDP ? offsetof(struct udphdr, check)
								 : offsetof(struct tcphdr, check));
	/* UDP over IPv4 may go without a checksum; one that comes out as 0 is sent as 0xffff (RFC 768) */
	__u64 flags = sizeof(to) | (p->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);

	if (bpf_l4_csum_replace(skb, check, from, to, flags) ||
	    bpf_skb_store_bytes(skb, p->l4_offset + port_offset, &to, sizeof(to), 0))
		return TD_COUNT_DROP_PARSE;
	return TD_PASS;
}

/* The program's verdict. A drop is counted and reported: `facts` say where and, where known, whose it is. */
static __always_inline int frame_verdict(struct __sk_buff *skb, const struct packet *p, __u32 reason,
					 struct event_facts *facts)
{
	if (reason == TD_PASS)
		return TD_TCX_NEXT;
	count(reason);
	/* no loss: a pod receives neither frames for others nor, but for discovery, frames for all */
	if (reason == TD_COUNT_FLOODED)
		return TD_TCX_DROP;
	facts->reason = reason;
	facts->verdict = TD_VERDICT_DENY;
	facts->ifindex = skb->ifindex;
	if (!facts->payer)
		facts->payer = facts->endpoint_id ? facts->endpoint_id : facts->ifindex | TD_PAYER_DEVICE;
	event_emit(p, facts);
	return TD_TCX_DROP;
}

#endif /* TANDEM_POD_FRAME_H */
