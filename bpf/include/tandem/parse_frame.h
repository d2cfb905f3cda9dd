/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Parsing for tcx programs: Ethernet frame -> struct packet, by direct access.
 *
 * Every header that a decision rests on is first brought into the linear part. A pod that sends from a
 * mapped ring (PACKET_TX_RING) leaves 14 bytes there and keeps the rest in pages that it can still
 * write: what was judged would not be what is forwarded.
 */
#ifndef TANDEM_PARSE_FRAME_H
#define TANDEM_PARSE_FRAME_H

#include <tandem/packet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

/* No header that we read ends beyond this offset: 4 extension headers of common size. */
#define TD_HEADERS_BYTES_MAX 512

/* In assembly: clang would do arithmetic on the 32-bit fields, which the verifier does not follow. */
static __always_inline void *frame_start(const struct __sk_buff *skb)
{
	void *start;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(start)
		     : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
	return start;
}

static __always_inline void *frame_end(const struct __sk_buff *skb)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(end)
		     : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
	return end;
}

/* `size` linear bytes at `offset`; NULL when the frame is shorter. Earlier pointers are void after it. */
static __always_inline void *header_at(struct __sk_buff *skb, __u32 offset, const __u32 size)
{
	void *data = frame_start(skb);
	void *end = frame_end(skb);

	if (offset > TD_HEADERS_BYTES_MAX)
		return NULL;
	if (data + offset + size <= end)
		return data + offset;
	if (offset + size > skb->len || bpf_skb_pull_data(skb, offset + size))
		return NULL;
	data = frame_start(skb);
	end = frame_end(skb);
	if (data + offset + size > end)
		return NULL;
	return data + offset;
}

/* The bytes that l4_fill() reads, after the whole L4 header was made linear. */
static __always_inline void parse_frame_l4(struct __sk_buff *skb, struct packet *p, __u32 offset)
{
	__u32 need = l4_header_bytes(p->protocol);
	const __u8 *header;

	p->l4_offset = offset;
	if (!need || p->is_tail)
		return;
	if (need == 20)
		header = header_at(skb, offset, 20);
	else if (need == 8)
		header = header_at(skb, offset, 8);
	else
		header = header_at(skb, offset, 4);
	if (!header) {
		p->is_cut = 1;
		return;
	}
	l4_fill(p, header);
}

/* 0, or -1 for a packet without a valid IP header. */
static __always_inline int parse_frame_ipv4(struct __sk_buff *skb, struct packet *p)
{
	const struct iphdr *ip = header_at(skb, ETH_HLEN, sizeof(*ip));
	__u32 length;
	__u16 fragment;
	__u16 total;

	if (!ip || ip->version != 4)
		return -1;
	length = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	/* 0: a segmented packet over 64 KiB (BIG TCP) */
	if (length < sizeof(*ip) || (total && total < length))
		return -1;
	p->family = 4;
	p->protocol = ip->protocol;
	p->hop_limit = ip->ttl;
	address_from_ipv4(&p->source, ip->saddr);
	address_from_ipv4(&p->destination, ip->daddr);
	fragment = bpf_ntohs(ip->frag_off);
	p->is_fragment = (fragment & (TD_IP4_MF | TD_IP4_OFFSET)) != 0;
	p->is_tail = (fragment & TD_IP4_OFFSET) != 0;
	p->has_options = length > sizeof(*ip);
	parse_frame_l4(skb, p, ETH_HLEN + length);
	return 0;
}

static __always_inline int parse_frame_ipv6(struct __sk_buff *skb, struct packet *p)
{
	const struct ipv6hdr *ip = header_at(skb, ETH_HLEN, sizeof(*ip));
	__u32 offset = ETH_HLEN + sizeof(*ip);
	__u8 next;

	if (!ip || ip->version != 6)
		return -1;
	p->family = 6;
	p->hop_limit = ip->hop_limit;
	__builtin_memcpy(&p->source, &ip->saddr, sizeof(p->source));
	__builtin_memcpy(&p->destination, &ip->daddr, sizeof(p->destination));
	/* It would read as the IPv4 address in every map (draft-itojun-v6ops-v4mapped-harmful). */
	if (is_ipv4(&p->source) || is_ipv4(&p->destination))
		return -1;
	next = ip->nexthdr;
	for (int i = 0; i < TD_EXTENSIONS_MAX; i++) {
		const __u8 *header;

		if (!is_extension(next) || p->is_tail)
			break;
		header = header_at(skb, offset, 8);
		if (!header)
			return -1;
		offset += extension_step(p, &next, header);
	}
	if (is_extension(next) && !p->is_tail)
		return -1;
	p->protocol = next;
	parse_frame_l4(skb, p, offset);
	return 0;
}

#endif /* TANDEM_PARSE_FRAME_H */
