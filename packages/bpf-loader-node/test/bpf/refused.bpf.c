/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Compiles, but the verifier refuses it: a packet access without a bounds check. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int reads_too_far(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data;

	return data[60];
}

char _license[] SEC("license") = "Dual BSD/GPL";
