/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The bit of skb->mark that brings a steered packet to the shared socket through the node's routing rules, and in ARP tells nft
 * that from_pod verified it. No program here reads it: it proves nothing about a packet's source, the interface does (devices.h).
 */
#ifndef TANDEM_MARK_H
#define TANDEM_MARK_H

#include <tandem/maps.h>

/* Sets or clears our bit of a frame's mark. In assembly: clang would keep the field's address, not the context's. */
static __always_inline void mark_set(struct __sk_buff *skb, bool is_steered)
{
	__u32 mark = (skb->mark & ~td_config.mark) | (is_steered ? td_config.mark : 0);

	asm volatile("*(u32 *)(%0 + %1) = %2"
		     :
		     : "r"(skb), "i"(offsetof(struct __sk_buff, mark)), "r"(mark)
		     : "memory");
}

#endif /* TANDEM_MARK_H */
