/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * share: sets the number of learned pairs that a namespace is guaranteed and the number that it may have, for the agent. It
 * updates the list of namespaces over their share under the same lock, so that no reader sees one without the other.
 */
#ifndef TANDEM_SHARE_H
#define TANDEM_SHARE_H

#include <tandem/order.h>
#include <linux/errno.h>

/* Without pairs a namespace that is not wanted any more gives its space back. */
static __always_inline bool space_set(struct order *order, __u32 number, __u32 share, __u32 limit)
{
	struct td_space *space = space_at(order, number);
	bool is_unused;

	bpf_spin_lock(&order->all->lock);
	space->share = share;
	space->limit = limit;
	over_fix(order, space, number);
	is_unused = !limit && !space->used;
	bpf_spin_unlock(&order->all->lock);
	return is_unused;
}

SEC("syscall")
int share(struct td_share_args *args)
{
	__u32 namespace_id = args->namespace_id;
	__u32 limit = args->limit;
	struct order order;
	__u32 number;

	if (!order_get(&order))
		return -ENOENT;
	if (!limit && !bpf_map_lookup_elem(&learned_spaces, &namespace_id))
		return 0;
	number = space_of(namespace_id);
	if (!number)
		return -ENOSPC;
	if (space_set(&order, number, args->share, limit)) {
		bpf_map_delete_elem(&learned_spaces, &namespace_id);
		space_free(&order, number);
	}
	return 0;
}

#endif /* TANDEM_SHARE_H */
