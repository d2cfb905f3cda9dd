/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * guard_entry: netfilter at PRE_ROUTING, before conntrack (priority -250), IPv4 and IPv6. It drops a packet that enters by a
 * bridge port and is a stranger's, or has a source of another port or of the node, before conntrack makes an entry of it.
 *
 * `judge` drops such a packet too, but too late in two cases: in a frame to a group, or to the Ethernet address of another
 * port, the bridge delivers it to the host, where the kernel confirms its entry (br_nf_local_in, since Linux 6.8) and drops it
 * past every hook. So a stranger could make an entry of a connection from anybody to its accomplice, whose packets would then
 * pass as replies. from_pod guards ports of known pods, earlier still.
 *
 * guard_entry_root is attached in its place, as judge_root is.
 */
#ifndef TANDEM_GUARD_ENTRY_H
#define TANDEM_GUARD_ENTRY_H

#include "judge.bpf.c"
#include "judge_root.bpf.c"

static __always_inline __u32 guard_entry_reason(struct bpf_nf_ctx *ctx, __u32 port, struct packet *p)
{
	const struct td_endpoint *source;

	if (parse_hook(ctx->skb, ctx->state->pf, p))
		return TD_COUNT_DROP_PARSE;
	source = bpf_map_lookup_elem(&endpoints, &p->source);
	if (source) /* of another port, as every endpoint's own is in pod_devices */
		return TD_COUNT_DROP_UNVERIFIED;
	if (entry_side(ctx, port) == TD_SIDE_STRANGER)
		return TD_COUNT_DROP_UNKNOWN_POD;
	/* whomever it is for: that may be translated yet. Between bridges of its own the node speaks by a veth pair. */
	if (class_of(&p->source).flags & TD_CLASS_HOST && !is_neighbour_message(p) &&
	    !is_own_port(ctx, port))
		return TD_COUNT_DROP_UNVERIFIED;
	return TD_COUNT_FORWARDED;
}

static __always_inline void guard_entry_report(const struct packet *p, __u32 port, __u32 reason)
{
	const struct td_endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &p->source);
	struct event_facts facts = {
		.payer = port | TD_PAYER_DEVICE,
		.ifindex = port,
		.verdict = TD_VERDICT_DENY,
		.reason = reason,
		.hook = TD_HOOK_PRE_ROUTING,
	};

	if (!endpoint)
		endpoint = bpf_map_lookup_elem(&endpoints, &p->destination);
	if (endpoint)
		facts.endpoint_id = endpoint->id;
	event_emit(p, &facts);
}

SEC("netfilter")
int guard_entry(struct bpf_nf_ctx *ctx)
{
	__u32 port = skb_bridge_port(ctx->skb);
	struct packet p;
	__u32 reason;

	if (!port || is_pod_device(port))
		return NF_ACCEPT;
	reason = guard_entry_reason(ctx, port, &p);
	if (reason == TD_COUNT_FORWARDED)
		return NF_ACCEPT;
	count(reason);
	if (reason != TD_COUNT_DROP_PARSE)
		guard_entry_report(&p, port, reason);
	return NF_DROP;
}

SEC("netfilter")
int guard_entry_root(struct bpf_nf_ctx *ctx)
{
	bpf_tail_call(ctx, &guard_entry_slot, 0);
	return skb_bridge_port(ctx->skb) ? verdict_without_program(ctx) : NF_ACCEPT;
}

#endif /* TANDEM_GUARD_ENTRY_H */
