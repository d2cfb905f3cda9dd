/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Programs of other software on the same node. */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* The interface whose other end `past` delivers to. */
const volatile __u32 target = 0;

/* TCX_PASS and TCX_NEXT, which headers before Linux 6.6 lack. */
#define PASS 0
#define NEXT -1

/* Ends the chain of its hook: nothing behind it sees the packet. */
SEC("tcx/ingress")
int front(struct __sk_buff *skb)
{
	(void)skb;
	return PASS;
}

/*
 * As eBPF host routing: straight into the other pod, past the node's network stack. UDP alone, so that ARP and the
 * node's own ping go on.
 */
SEC("tcx/ingress")
int past(struct __sk_buff *skb)
{
	__u8 protocol = 0;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, protocol), &protocol, 1) ||
	    protocol != IPPROTO_UDP)
		return NEXT;
	return bpf_redirect_peer(target, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
