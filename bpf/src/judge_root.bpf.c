/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * judge_root: the program that stays attached to the netfilter hooks. Netfilter links cannot be updated, so a
 * new `judge` replaces the entry of the tail-call slot. It is so small that it need never change.
 *
 * An empty slot must not accept: the kernel clears a program array when its last pin is removed, while this program stays
 * attached. Then it drops packets with a pod of this node as source or destination, and accepts all others.
 */
#ifndef TANDEM_JUDGE_ROOT_H
#define TANDEM_JUDGE_ROOT_H

#include <tandem/counters.h>
#include <tandem/parse_hook.h>
#include <tandem/policy.h>

static __always_inline bool is_of_this_nodes_pods(const struct td_addr *address)
{
	return bpf_map_lookup_elem(&endpoints, address) ||
	       (class_of(address).flags & TD_CLASS_LOCAL_PODS);
}

static __always_inline int verdict_without_program(struct bpf_nf_ctx *ctx)
{
	struct packet p;

	if (!parse_hook(ctx->skb, ctx->state->pf, &p) && !is_of_this_nodes_pods(&p.source) &&
	    !is_of_this_nodes_pods(&p.destination))
		return NF_ACCEPT;
	count(TD_COUNT_DROP_NO_PROGRAM);
	return NF_DROP;
}

SEC("netfilter")
int judge_root(struct bpf_nf_ctx *ctx)
{
	bpf_tail_call(ctx, &judge_slot, 0);
	return verdict_without_program(ctx);
}

#endif /* TANDEM_JUDGE_ROOT_H */
