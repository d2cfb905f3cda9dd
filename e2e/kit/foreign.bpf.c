/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Programs of somebody else on the same node. */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* TCX_PASS, which headers before Linux 6.6 lack. */
#define PASS 0

/* Ends the chain of its hook: nothing behind it sees the packet. */
SEC("tcx/ingress")
int front(struct __sk_buff *skb)
{
	(void)skb;
	return PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
