/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Whether anything was added that may allow more than before: what `learn` and the agent report to judge, so that it may
 * remember what is denied (fqdn_denial.h).
 *
 *   td_space.filled   slots filled at addresses with one hash. `learn` counts a slot after it is filled and before the member
 *                     that runs it sends the answer.
 *   td_group.policies additions to `policy`. The agent counts them after they are written.
 *   td_order.untold   a `learn` of a version before `filled`, whose descriptor a member may hold a while longer, fills
 *                     slots and counts nothing. But it moves `sequence`, and not `told`.
 *
 * All three only grow, so their sum, the stamp, is the same only if each of them is. It wraps, but not within the second that a
 * denial is believed.
 *
 * The hash of `filled` has no key, because each version of the programs must find the same place. A pod can therefore learn addresses
 * that share a place with an address of another pod. The collision changes no verdict: it makes the stamps of these addresses old, so
 * the next packet of each denied question is searched, as the first one was, and denied again.
 */
#ifndef TANDEM_FQDN_FILLS_H
#define TANDEM_FQDN_FILLS_H

#include <tandem/maps.h>
#include <tandem/members.h>

#define LOAD_AFTER(field, value) READ_ONCE(*(typeof(field) *)((void *)&(field) + zero_after(value)))

/* The number of the space whose `filled` counts for the address. Frozen: every `learn` and every judge has the same. */
static __always_inline __u32 fills_bucket(const struct td_addr *address)
{
	__u32 folded = address->a[0] ^ address->a[1] ^ address->a[2] ^ address->a[3];

	return (folded * 0x9e3779b1u) >> 20 & (TD_SPACES_MAX - 1);
}
_Static_assert(TD_SPACES_MAX == 1 << 12, "the hash has twelve bits");

static __always_inline __u32 *fills_of(const struct td_addr *address)
{
	__u32 zero = 0;
	struct td_order *order = bpf_map_lookup_elem(&learned_order, &zero);

	return order ? &order->space[fills_bucket(address)].filled : NULL;
}

/* A slot of the address was filled. slot_fill() was a full barrier, so who sees the number sees the slot. */
static __always_inline void fills_count(const struct td_addr *address)
{
	__u32 *filled = fills_of(address);

	if (filled)
		__sync_fetch_and_add(filled, 1);
}

/*
 * False: a `learn` that counts nothing has run since one that does, so nothing can be known. The stamp is read after what `after` was
 * computed from.
 */
static __always_inline bool fills_stamp(const struct td_addr *address, __u32 *stamp, __u32 after)
{
	__u32 zero = zero_after(after);
	struct td_order *order = bpf_map_lookup_elem(&learned_order, &zero);
	struct td_group *group = group_get();
	__u32 sequence;
	__u32 told;

	if (!order || !group)
		return false;
	sequence = READ_ONCE(order->sequence);
	told = LOAD_AFTER(order->told, sequence);
	if (told != sequence)
		return false;
	*stamp = LOAD_AFTER(order->untold, told) + READ_ONCE(group->policies) +
		 READ_ONCE(order->space[fills_bucket(address)].filled);
	return true;
}

#endif /* TANDEM_FQDN_FILLS_H */
