/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Addresses that `learn` refuses, whatever a policy says (safety rule 5). */
#ifndef TANDEM_LEARNABLE_H
#define TANDEM_LEARNABLE_H

#include <tandem/maps.h>
#include <tandem/packet.h>

/* Addresses that are no single remote host, whatever the classes say (RFC 6890, RFC 4291). */
static __always_inline bool is_never_a_host(const struct td_addr *address)
{
	__u32 ipv4 = bpf_ntohl(address->a[3]);

	if (!is_ipv4(address))
		return is_multicast6(address) ||
		       ((address->a[0] | address->a[1] | address->a[2]) == 0 && ipv4 <= 1);
	/* 0/8, 127/8, multicast 224/4 and the reserved 240/4 with broadcast */
	return ipv4 >> 24 == 0 || ipv4 >> 24 == 127 || ipv4 >> 28 >= 14;
}

static __always_inline struct td_addr mapped_ipv4(__u32 ipv4)
{
	return (struct td_addr){ .a = { 0, 0, bpf_htonl(0xffff), bpf_htonl(ipv4) } };
}

/*
 * The IPv4 address that a translator or relay makes of an IPv6 one: NAT64 by its well-known prefix 64:ff9b::/96
 * (RFC 6052), 6to4 2002::/16 (RFC 3056), IPv4-compatible ::/96 (RFC 4291). A name that leads there leads to that address.
 */
static __always_inline bool carries_ipv4(const struct td_addr *address, struct td_addr *carried)
{
	__u32 first = bpf_ntohl(address->a[0]);
	__u32 ipv4;

	if (first >> 16 == 0x2002)
		ipv4 = first << 16 | bpf_ntohl(address->a[1]) >> 16;
	else if ((first == 0x0064ff9b || first == 0) && (address->a[1] | address->a[2]) == 0)
		ipv4 = bpf_ntohl(address->a[3]);
	else
		return false;
	*carried = mapped_ipv4(ipv4);
	return true;
}

/*
 * The same by a prefix of the operator's (RFC 6052, section 2.2). Below 96 bits the IPv4 address follows the prefix, but for
 * bits 64 to 71, which it leaves out. They should be zero; a gateway may ignore them, so they do not matter here.
 */
static __always_inline bool nat64_carries_ipv4(const volatile struct td_nat64 *nat64,
					       const struct td_addr *address, struct td_addr *carried)
{
	__u64 high = (__u64)bpf_ntohl(address->a[0]) << 32 | bpf_ntohl(address->a[1]);
	__u64 low = (__u64)bpf_ntohl(address->a[2]) << 32 | bpf_ntohl(address->a[3]);
	__u32 bits = nat64->bits;
	__u32 after; /* so many bits of the IPv4 address come after bit 71 */

	if (bits == 96) {
		if ((high ^ nat64->high) | (low ^ nat64->low) >> 32)
			return false;
		*carried = mapped_ipv4(low);
		return true;
	}
	if (bits < 32 || bits > 64 || (high ^ nat64->high) >> (64 - bits))
		return false;
	after = bits - 32;
	*carried = mapped_ipv4((__u32)(high << after) | (__u32)(((low << 8) >> 32) >> (32 - after)));
	return true;
}

/* Classes for a sleepable program: see classes_inner in maps.h. */
static __always_inline bool is_of_cluster(const struct td_addr *address)
{
	struct td_class_key key = { .prefixlen = 128, .addr = *address };
	struct td_class *class;
	bool result = true; /* no trie: nothing may be learned */
	__u32 zero = 0;
	void *trie;

	bpf_rcu_read_lock();
	trie = bpf_map_lookup_elem(&classes_inner, &zero);
	if (trie) {
		class = bpf_map_lookup_elem(trie, &key);
		result = class && (class->flags & TD_CLASS_NEVER_LEARN);
	}
	bpf_rcu_read_unlock();
	return result;
}

/* Whether the address may not be learned. */
static __always_inline bool is_refused_address(const struct td_addr *address)
{
	return is_never_a_host(address) || is_of_cluster(address);
}

/* A function of its own, so that the verifier walks its loop once. */
__noinline int leads_to_refused(const struct td_addr *address)
{
	struct td_addr carried;

	if (!address)
		return 1;
	if (carries_ipv4(address, &carried) && is_refused_address(&carried))
		return 1;
	for (__u32 i = 0; i < TD_NAT64_MAX; i++) {
		if (!td_config.nat64[i].bits)
			return 0;
		if (nat64_carries_ipv4(&td_config.nat64[i], address, &carried) &&
		    is_refused_address(&carried))
			return 1;
	}
	return 0;
}

#endif /* TANDEM_LEARNABLE_H */
