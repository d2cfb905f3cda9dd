/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Lookups: the class of an address in `classes`, and the verdict for a peer in `policy`. */
#ifndef TANDEM_POLICY_H
#define TANDEM_POLICY_H

#include <tandem/maps.h>
#include <tandem/packet.h>

static __always_inline struct td_class class_of(const struct td_addr *address)
{
	struct td_class_key key = { .prefixlen = 128, .addr = *address };
	struct td_class none = { .id = TD_CLASS_NONE, .flags = 0 };
	struct td_class *class = bpf_map_lookup_elem(&classes, &key);

	return class ? *class : none;
}

/*
 * Whether an address is the node's or another node's. A link-local address that pods may not claim has TD_CLASS_NODE without
 * TD_CLASS_CLUSTER: on another link another host may have it.
 */
static __always_inline bool is_node(const struct td_class *class)
{
	__u32 both = TD_CLASS_NODE | TD_CLASS_CLUSTER;

	return (class->flags & both) == both;
}

/* The question that is put to policy: may the owner of `policy_id` have this connection? */
struct question {
	__u32 policy_id;
	__u8 direction;
	__u8 protocol;
	__be16 port;
};

struct answer {
	__u32 rule_id;
	__u8 verdict; /* td_verdict */
};

static __always_inline struct answer policy_ask(const struct question *q, __u32 peer)
{
	struct td_policy_key key = {
		.prefixlen = TD_POLICY_BITS_PORT,
		.policy_id = q->policy_id,
		.peer = peer,
		.direction = q->direction,
		.protocol = q->protocol,
		.port_be = q->port,
	};
	struct td_policy *entry = bpf_map_lookup_elem(&policy, &key);
	struct answer answer = {};

	if (entry) {
		answer.verdict = entry->verdict;
		answer.rule_id = entry->rule_id;
	}
	return answer;
}

/* The stronger of two: deny, then L7-DNS (a redirect beats a plain allow, as in Cilium), then allow. */
static __always_inline struct answer answer_join(struct answer a, struct answer b)
{
	if (a.verdict == TD_VERDICT_DENY || b.verdict == TD_VERDICT_NONE)
		return a;
	if (b.verdict == TD_VERDICT_DENY || a.verdict == TD_VERDICT_NONE)
		return b;
	return a.verdict == TD_VERDICT_L7_DNS ? a : b;
}

/* Answer of the rules for a class and of those for every peer together, unless the entry of the class says so itself. */
static __always_inline struct answer policy_of_class(const struct question *q, __u32 class_id,
						     bool has_wildcards)
{
	struct answer answer = policy_ask(q, class_id);

	if (answer.verdict & TD_VERDICT_DECIDED) {
		answer.verdict &= ~TD_VERDICT_DECIDED;
		return answer;
	}
	if (!has_wildcards || answer.verdict == TD_VERDICT_DENY)
		return answer;
	return answer_join(answer, policy_ask(q, TD_PEER_ANY));
}

#endif /* TANDEM_POLICY_H */
