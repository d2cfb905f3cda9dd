/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Facts of a packet that `judge` reads beside its bytes, in one place: mark, interfaces, conntrack entry. BPF_PROG_TEST_RUN
 * cannot set these for a netfilter program, so the tests build the object with tests/include before include, where this file
 * reads a map instead.
 */
#ifndef TANDEM_HOOK_FACTS_H
#define TANDEM_HOOK_FACTS_H

#include <tandem/packet.h>

/*
 * The same packet, for reads of fields that are pointers. The verifier trusts a packet of the context, and at each read of a
 * pointer, on each path through the program, searches all types of the kernel by name for what that pointer may be trusted
 * with (btf_nested_type_is_trusted): half of the time in which `judge` is loaded. An untrusted packet costs no search.
 */
static __always_inline struct sk_buff *untrusted_skb(struct sk_buff *skb)
{
	return bpf_rdonly_cast(skb, bpf_core_type_id_kernel(struct sk_buff));
}

static __always_inline __u32 skb_mark(struct sk_buff *skb)
{
	return skb->mark;
}

/* The bridge port by which the packet came in, where br_netfilter saw it; else 0. */
static __always_inline __u32 skb_bridge_port(struct sk_buff *skb)
{
	__u32 id = bpf_core_enum_value(enum skb_ext_id, SKB_EXT_BRIDGE_NF);
	struct nf_bridge_info___before_6_8 *before;
	struct nf_bridge_info *bridge;
	struct skb_ext *extensions;
	struct net_device *port;
	__u32 ifindex = 0;
	__u8 offset = 0;

	if (!(skb->active_extensions & 1u << id))
		return 0;
	extensions = untrusted_skb(skb)->extensions;
	if (bpf_core_read(&offset, sizeof(offset), &extensions->offset[id]))
		return 0;
	bridge = (void *)extensions + (__u32)offset * 8;
	if (bpf_core_field_exists(bridge->physinif)) {
		bpf_core_read(&ifindex, sizeof(ifindex), &bridge->physinif);
		return ifindex;
	}
	before = (void *)bridge;
	if (bpf_core_read(&port, sizeof(port), &before->physindev) || !port)
		return 0;
	bpf_core_read(&ifindex, sizeof(ifindex), &port->ifindex);
	return ifindex;
}

/* The device by which the packet came in: a bridge for what is routed from one; 0: this host made it. */
static __always_inline __u32 skb_ifindex(struct sk_buff *skb)
{
	return skb->skb_iif;
}

/*
 * Index of the device by which the packet leaves: the bridge port for a switched packet, the bridge for one that is
 * routed onto it.
 */
static __always_inline __u32 skb_out(struct sk_buff *skb)
{
	struct net_device *out = untrusted_skb(skb)->dev;

	return out ? out->ifindex : 0;
}

/* Whom a frame is for, as the kernel sees it: PACKET_HOST and the others of linux/if_packet.h. */
static __always_inline __u32 frame_kind(struct __sk_buff *skb)
{
	return skb->pkt_type;
}

/* Where in the packet a device is yet to write a checksum: at netfilter negative in the Ethernet header; TD_NO_CHECKSUM: nowhere. */
static __always_inline __s64 skb_checksum_at(struct sk_buff *skb)
{
	__s64 headroom;

	if (BPF_CORE_READ_BITFIELD(skb, ip_summed) != TD_CHECKSUM_PARTIAL)
		return TD_NO_CHECKSUM;
	headroom = (__s64)skb->data - (__s64)skb->head;
	/* The verifier knows a difference of pointers, not the sums that the compiler would make of it (Linux 7.2). */
	asm volatile("" : "+r"(headroom));
	return (__s64)skb->csum_start + skb->csum_offset - headroom;
}

/* Entry and relation in one word: see TD_CTINFO_MASK. */
static __always_inline unsigned long skb_connection(struct sk_buff *skb)
{
	return skb->_nfct;
}

/* Read by address, not by type: conntrack may be a module, whose types the verifier cannot name. */
static __always_inline long connection_status(struct nf_conn *entry, unsigned long *status)
{
	return bpf_core_read(status, sizeof(*status), &entry->status);
}

static __always_inline long connection_tcp_state(struct nf_conn *entry, __u8 *state)
{
	return bpf_core_read(state, sizeof(*state), &entry->proto.tcp.state);
}

static __always_inline void inet_address(const union nf_inet_addr *from, __u8 family,
					 struct td_addr *to)
{
	__builtin_memset(to, 0, sizeof(*to));
	if (family == 6) {
		bpf_core_read(to, sizeof(*to), from);
		return;
	}
	address_from_ipv4(to, 0);
	bpf_core_read(&to->a[3], sizeof(to->a[3]), from);
}

/* The client, the destination that it asked for, and the one that answers. */
static __always_inline void connection_client(struct nf_conn *entry, __u8 family, struct td_addr *to)
{
	inet_address(&entry->tuplehash[0].tuple.src.u3, family, to);
}

static __always_inline void connection_frontend(struct nf_conn *entry, __u8 family,
						struct td_addr *to, __be16 *port)
{
	inet_address(&entry->tuplehash[0].tuple.dst.u3, family, to);
	bpf_core_read(port, sizeof(*port), &entry->tuplehash[0].tuple.dst.u.all);
}

static __always_inline void connection_backend(struct nf_conn *entry, __u8 family, struct td_addr *to)
{
	inet_address(&entry->tuplehash[1].tuple.src.u3, family, to);
}

#endif /* TANDEM_HOOK_FACTS_H */
