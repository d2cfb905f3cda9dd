/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Parsing for netfilter programs: the packet starts at the IP header and is read through a dynptr, which
 * copies what is not linear. The stack has validated the IP header; conntrack has reassembled.
 */
#ifndef TANDEM_PARSE_HOOK_H
#define TANDEM_PARSE_HOOK_H

#include <tandem/packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

static __always_inline void parse_hook_l4(struct bpf_dynptr *bytes, struct packet *p, __u32 offset)
{
	__u8 buffer[4];
	const __u8 *header;

	p->l4_offset = offset;
	if (p->is_tail || !l4_header_bytes(p->protocol))
		return;
	header = bpf_dynptr_slice(bytes, offset, buffer, sizeof(buffer));
	if (!header) {
		p->is_cut = 1;
		return;
	}
	l4_fill(p, header);
}

static __always_inline int parse_hook_ipv4(struct bpf_dynptr *bytes, struct packet *p)
{
	struct iphdr buffer;
	const struct iphdr *ip = bpf_dynptr_slice(bytes, 0, &buffer, sizeof(buffer));
	__u16 fragment;

	if (!ip)
		return -1;
	p->family = 4;
	p->protocol = ip->protocol;
	p->hop_limit = ip->ttl;
	address_from_ipv4(&p->source, ip->saddr);
	address_from_ipv4(&p->destination, ip->daddr);
	fragment = bpf_ntohs(ip->frag_off);
	p->is_fragment = (fragment & (TD_IP4_MF | TD_IP4_OFFSET)) != 0;
	p->is_tail = (fragment & TD_IP4_OFFSET) != 0;
	parse_hook_l4(bytes, p, ip->ihl * 4);
	return 0;
}

static __always_inline int parse_hook_ipv6(struct bpf_dynptr *bytes, struct packet *p)
{
	struct ipv6hdr buffer;
	const struct ipv6hdr *ip = bpf_dynptr_slice(bytes, 0, &buffer, sizeof(buffer));
	__u32 offset = sizeof(*ip);
	__u8 next;

	if (!ip)
		return -1;
	p->family = 6;
	p->hop_limit = ip->hop_limit;
	__builtin_memcpy(&p->source, &ip->saddr, sizeof(p->source));
	__builtin_memcpy(&p->destination, &ip->daddr, sizeof(p->destination));
	if (is_ipv4(&p->source) || is_ipv4(&p->destination))
		return -1;
	next = ip->nexthdr;
	for (int i = 0; i < TD_EXTENSIONS_MAX; i++) {
		__u8 extension[8];
		const __u8 *header;

		if (!is_extension(next) || p->is_tail)
			break;
		header = bpf_dynptr_slice(bytes, offset, extension, sizeof(extension));
		if (!header) {
			p->is_cut = 1;
			return 0;
		}
		offset += extension_step(p, &next, header);
	}
	p->protocol = next;
	if (is_extension(next) && !p->is_tail) {
		p->is_cut = 1;
		return 0;
	}
	parse_hook_l4(bytes, p, offset);
	return 0;
}

/* 0; -1: no addresses. `is_cut` tells that ports are missing, which matters only for endpoints. */
static __always_inline int parse_hook(struct sk_buff *skb, __u8 pf, struct packet *p)
{
	struct bpf_dynptr bytes;

	__builtin_memset(p, 0, sizeof(*p));
	if (bpf_dynptr_from_skb(skb, 0, &bytes))
		return -1;
	return pf == NFPROTO_IPV4 ? parse_hook_ipv4(&bytes, p) : parse_hook_ipv6(&bytes, p);
}

#endif /* TANDEM_PARSE_HOOK_H */
