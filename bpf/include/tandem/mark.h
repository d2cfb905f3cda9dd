/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The two bits of skb->mark that carry a fact from one program to the next. Nobody else may set them:
 * from_pod clears them on every frame of a pod, and a mark does not survive a change of namespace.
 */
#ifndef TANDEM_MARK_H
#define TANDEM_MARK_H

#include <tandem/maps.h>

static __always_inline __u32 mark_of(__u32 mark)
{
	return mark & td_config.mark_mask;
}

/* Sets our bits of a frame's mark. In assembly: clang would keep the field's address, not the context's. */
static __always_inline void mark_set(struct __sk_buff *skb, __u32 ours)
{
	__u32 mark = (skb->mark & ~td_config.mark_mask) | ours;

	asm volatile("*(u32 *)(%0 + %1) = %2"
		     :
		     : "r"(skb), "i"(offsetof(struct __sk_buff, mark)), "r"(mark)
		     : "memory");
}

#endif /* TANDEM_MARK_H */
