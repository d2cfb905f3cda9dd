/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * A parsed packet, the same for tcx and netfilter programs, and what can be said of its bytes without
 * a map. How the bytes are reached differs: parse_frame.h (tcx) and parse_hook.h (netfilter).
 */
#ifndef TANDEM_PACKET_H
#define TANDEM_PACKET_H

#include <tandem/kernel.h>
#include <tandem/abi.h>
#include <linux/if_ether.h>

#define TD_EXTENSIONS_MAX 4 /* IPv6 extension headers; beyond it a packet is not parsed */

#define TD_PORT_DNS 53

#define TD_IPPROTO_IGMP	    2
#define TD_IPPROTO_IPIP	    4
#define TD_IPPROTO_IPV6	    41
#define TD_IPPROTO_GRE	    47
#define TD_IPPROTO_ICMPV6   58
#define TD_IPPROTO_ETHERIP  97
#define TD_IPPROTO_PIM	    103
#define TD_IPPROTO_IPCOMP   108
#define TD_IPPROTO_L2TP	    115
#define TD_IPPROTO_MPLS	    137
#define TD_IPPROTO_DCCP	    33
#define TD_IPPROTO_SCTP	    132
#define TD_IPPROTO_UDPLITE  136
#define TD_IPPROTO_HOPOPTS  0
#define TD_IPPROTO_ROUTING  43
#define TD_IPPROTO_FRAGMENT 44
#define TD_IPPROTO_AH	    51
#define TD_IPPROTO_DSTOPTS  60

#define TD_IP4_MF     0x2000
#define TD_IP4_OFFSET 0x1fff
#define TD_IP6_MF     0x0001
#define TD_IP6_OFFSET 0xfff8

enum td_icmpv6_type {
	TD_MLD_QUERY = 130,
	TD_MLD_REPORT = 131,
	TD_MLD_DONE = 132,
	TD_ND_ROUTER_SOLICIT = 133,
	TD_ND_ROUTER_ADVERT = 134,
	TD_ND_NEIGHBOUR_SOLICIT = 135,
	TD_ND_NEIGHBOUR_ADVERT = 136,
	TD_ND_REDIRECT = 137,
	TD_MLD2_REPORT = 143,
	TD_MRD_ADVERT = 151, /* multicast router discovery (RFC 4286) */
	TD_MRD_TERMINATION = 153,
};

enum td_igmp_type {
	TD_IGMP_QUERY = 0x11,
	TD_IGMP_MRD_ADVERT = 0x30,
	TD_IGMP_MRD_TERMINATION = 0x32,
};

struct packet {
	struct td_addr source;
	struct td_addr destination;
	__be16 source_port;
	__be16 destination_port; /* ICMP: the type in the high byte, 0 in the low one */
	__u16 l4_offset;	 /* from the start of the frame (tcx) or of the IP header (netfilter) */
	__u8 family;		 /* 4, 6 */
	__u8 protocol;
	__u8 hop_limit;
	__u8 icmp_type;
	__u8 is_fragment; /* any piece of several */
	__u8 is_tail;	  /* a fragment without the L4 header: no ports */
	__u8 has_options; /* IPv4 options or IPv6 extension headers other than a fragment's */
	__u8 is_cut;	  /* the L4 header is incomplete */
};

static __always_inline void address_from_ipv4(struct td_addr *address, __be32 ipv4)
{
	address->a[0] = 0;
	address->a[1] = 0;
	address->a[2] = bpf_htonl(0xffff);
	address->a[3] = ipv4;
}

/* 0 when equal. Without branches: one path for the verifier and the pipeline. */
static __always_inline __u32 address_difference(const struct td_addr *a, const struct td_addr *b)
{
	return (a->a[0] ^ b->a[0]) | (a->a[1] ^ b->a[1]) | (a->a[2] ^ b->a[2]) |
	       (a->a[3] ^ b->a[3]);
}

static __always_inline bool address_equal(const struct td_addr *a, const struct td_addr *b)
{
	return address_difference(a, b) == 0;
}

static __always_inline bool is_ipv4(const struct td_addr *a)
{
	return (a->a[0] | a->a[1] | (a->a[2] ^ bpf_htonl(0xffff))) == 0;
}

static __always_inline bool is_unspecified6(const struct td_addr *a)
{
	return (a->a[0] | a->a[1] | a->a[2] | a->a[3]) == 0;
}

static __always_inline bool is_link_local6(const struct td_addr *a)
{
	return (a->a[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_multicast6(const struct td_addr *a)
{
	return (a->a[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* 127/8 and ::1, which are seen on no link (RFC 1122 3.2.1.3, RFC 4291 2.5.3). */
static __always_inline bool is_loopback(const struct td_addr *a)
{
	if (is_ipv4(a))
		return bpf_ntohl(a->a[3]) >> 24 == 127;
	return (a->a[0] | a->a[1] | a->a[2] | (a->a[3] ^ bpf_htonl(1))) == 0;
}

static __always_inline bool is_multicast4(const struct td_addr *a)
{
	return is_ipv4(a) && bpf_ntohl(a->a[3]) >> 28 == 14;
}

static __always_inline bool is_udp_or_tcp(const struct packet *p)
{
	return p->protocol == IPPROTO_UDP || p->protocol == IPPROTO_TCP;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == TD_IPPROTO_SCTP ||
	       protocol == TD_IPPROTO_UDPLITE || protocol == TD_IPPROTO_DCCP;
}

static __always_inline bool is_icmp(const struct packet *p)
{
	return p->family == 4 ? p->protocol == IPPROTO_ICMP : p->protocol == TD_IPPROTO_ICMPV6;
}

/* Protocols whose receivers believe the packet or frame that they carry, without asking for a key. */
static __always_inline bool is_tunnel_protocol(__u8 protocol)
{
	return protocol == TD_IPPROTO_IPIP || protocol == TD_IPPROTO_IPV6 || protocol == TD_IPPROTO_GRE ||
	       protocol == TD_IPPROTO_ETHERIP || protocol == TD_IPPROTO_PIM ||
	       protocol == TD_IPPROTO_IPCOMP || protocol == TD_IPPROTO_L2TP ||
	       protocol == TD_IPPROTO_MPLS;
}

/* RFC 792 destination unreachable, source quench, time exceeded, parameter problem; RFC 4443 2.1. */
static __always_inline bool is_icmp_error(const struct packet *p)
{
	__u8 type = p->icmp_type;

	if (!is_icmp(p))
		return false;
	if (p->family == 6)
		return type < 128;
	return type == 3 || type == 4 || type == 11 || type == 12;
}

/* Over IPv4; over IPv6 it is neighbour discovery. */
static __always_inline bool is_icmp_redirect(const struct packet *p)
{
	return p->family == 4 && is_icmp(p) && p->icmp_type == 5;
}

/* Neighbour discovery that did not pass a router (RFC 4861, 7.1: hop limit 255). */
static __always_inline bool is_neighbour_discovery(const struct packet *p)
{
	return p->protocol == TD_IPPROTO_ICMPV6 && p->family == 6 && p->hop_limit == 255 &&
	       p->icmp_type >= TD_ND_ROUTER_SOLICIT && p->icmp_type <= TD_ND_REDIRECT;
}

/* Multicast listener discovery, which never leaves its link (RFC 3810, 5: hop limit 1). */
static __always_inline bool is_multicast_listener(const struct packet *p)
{
	return p->protocol == TD_IPPROTO_ICMPV6 && p->family == 6 && p->hop_limit == 1 &&
	       is_multicast6(&p->destination) &&
	       ((p->icmp_type >= TD_MLD_QUERY && p->icmp_type <= TD_MLD_DONE) ||
		p->icmp_type == TD_MLD2_REPORT);
}

/* ICMPv6 that is for a link alone, of whatever hop limit. */
static __always_inline bool is_link_message(const struct packet *p)
{
	return p->icmp_type >= TD_MLD_QUERY &&
	       (p->icmp_type <= TD_ND_REDIRECT || p->icmp_type == TD_MLD2_REPORT ||
		(p->icmp_type >= TD_MRD_ADVERT && p->icmp_type <= TD_MRD_TERMINATION));
}

/* Bytes that an L4 header must have before anything is said of it. */
static __always_inline __u32 l4_header_bytes(__u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return 20;
	if (has_ports(protocol))
		return 8;
	if (protocol == IPPROTO_ICMP || protocol == TD_IPPROTO_ICMPV6)
		return 4;
	return 0;
}

/* Where an L4 header has its checksum; 4: behind the ports of one that is not known here. */
static __always_inline __u32 l4_checksum_offset(__u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return 16;
	if (protocol == IPPROTO_ICMP || protocol == TD_IPPROTO_ICMPV6)
		return 2;
	return has_ports(protocol) && protocol != TD_IPPROTO_SCTP ? 6 : 4;
}

static __always_inline bool is_extension(__u8 next)
{
	return next == TD_IPPROTO_HOPOPTS || next == TD_IPPROTO_ROUTING ||
	       next == TD_IPPROTO_FRAGMENT || next == TD_IPPROTO_AH || next == TD_IPPROTO_DSTOPTS;
}

/*
 * One step over an IPv6 extension header (RFC 8200, 4). `header` has 8 readable bytes.
 * Returns its length; notes fragments and options in the packet.
 */
static __always_inline __u32 extension_step(struct packet *p, __u8 *next, const __u8 *header)
{
	__u8 type = *next;

	*next = header[0];
	if (type == TD_IPPROTO_FRAGMENT) {
		__u16 bits = (__u16)header[2] << 8 | header[3];

		if (bits & (TD_IP6_OFFSET | TD_IP6_MF))
			p->is_fragment = 1;
		else
			p->has_options = 1; /* an atomic fragment is whole, yet no plain packet */
		if (bits & TD_IP6_OFFSET)
			p->is_tail = 1;
		return 8;
	}
	p->has_options = 1;
	if (type == TD_IPPROTO_AH)
		return ((__u32)header[1] + 2) * 4;
	return ((__u32)header[1] + 1) * 8;
}

/* Fills ports or ICMP type from the first 4 bytes of the L4 header. */
static __always_inline void l4_fill(struct packet *p, const __u8 *header)
{
	if (has_ports(p->protocol)) {
		p->source_port = *(const __be16 *)header;
		p->destination_port = *(const __be16 *)(header + 2);
	} else if (is_icmp(p)) {
		p->icmp_type = header[0];
		p->destination_port = bpf_htons((__u16)header[0] << 8);
	}
}

/* 0 when equal. */
static __always_inline __u32 mac_difference(const __u8 *a, const __u8 *b)
{
	__u32 difference = 0;

	for (int i = 0; i < ETH_ALEN; i++)
		difference |= a[i] ^ b[i];
	return difference;
}

#endif /* TANDEM_PACKET_H */
