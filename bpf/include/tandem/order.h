/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Decides which learned pair is evicted next (safety rule 17, docs/adr/0011-one-order.md). The kernel keeps the order beside the
 * pairs, so that all callers of `learn` evict alike. Every step takes constant time under one lock, which must not be
 * held together with a page's lock. So a pair goes through states:
 *
 *   FREE --order_take--> TAKEN, in no list: the victim's slot is removed, the own slot is written
 *        --order_link--> LINKED, at the tail of its namespace's list
 *
 *   spaces    head -> oldest ... youngest <- tail    one list for each namespace, touched pairs go to its tail
 *   over      head -> who gives next ... <- tail     namespaces that have more than their share, in turn
 *
 * A slot names its pair, and a pair its slot's address, selector and space. If the two disagree, the
 * slot is stale, and the next `learn` that meets it removes it.
 */
#ifndef TANDEM_ORDER_H
#define TANDEM_ORDER_H

#include <tandem/order_lists.h>

/* Addresses in use that are passed over for one new pair: they go to the tail of their list. */
#define TD_SPARED_MAX 8

/*
 * Namespace whose oldest pair makes room for a pair of `number`. Within its limit a namespace takes from the offers first,
 * then, while it has less than its share, in turn from namespaces over their share; else from itself.
 */
static __always_inline __u32 order_giver(struct order *order, __u32 number)
{
	struct td_space *space = space_at(order, number);
	__u32 giver = order->all->over_head;

	if (number == TD_SPACE_OFFERS || space->used >= space->limit)
		return number;
	if (space_at(order, TD_SPACE_OFFERS)->head)
		return TD_SPACE_OFFERS;
	if (space->used >= space->share || !giver)
		return number;
	over_remove(order, space_at(order, giver));
	over_append(order, space_at(order, giver), giver);
	return giver;
}

/* ---- what takes the lock --------------------------------------------------------------------- */

/*
 * A place for the pair `name`: free, or that of the pair in `victim`, whose slot the caller removes. 0: there is
 * none. A global function, as the others here: the verifier checks it once, not for each state of the caller.
 */
__noinline int order_take(struct pair_name *name, struct pair_name *victim)
{
	struct td_space *space;
	struct order order;
	struct td_pair *pair;
	__u32 place = 0;

	if (!name || !victim || !order_get(&order))
		return 0;
	victim->place = 0;
	space = space_at(&order, name->space);
	bpf_spin_lock(&order.all->lock);
	if (name->space == TD_SPACE_OFFERS || space->used < space->limit)
		place = free_take(&order);
	if (!place) {
		__u32 number = order_giver(&order, name->space);
		struct td_space *giver = space_at(&order, number);

		place = giver->head;
		if (!place) {
			space->refused += 1;
			order_trace_add(&order.trace, TD_STEP_REFUSE, name->space, 0, number);
			bpf_spin_unlock(&order.all->lock);
			return 0;
		}
		pair = pair_at(&order, place);
		pair_unlink(&order, giver, pair);
		used_add(&order, number, -1);
		if (number == name->space)
			giver->replaced += 1;
		else
			giver->yielded += 1;
		victim->addr = pair->addr;
		victim->selector = pair->selector;
		victim->space = number;
		victim->place = place;
		order_trace_add(&order.trace, TD_STEP_EVICT, name->space, place, number);
	} else {
		order_trace_add(&order.trace, TD_STEP_TAKE, name->space, place, 0);
	}
	pair = pair_at(&order, place);
	pair->state = TD_PAIR_TAKEN;
	pair_name_to(pair, name);
	used_add(&order, name->space, 1);
	bpf_spin_unlock(&order.all->lock);
	name->place = place;
	return place;
}

/* The victim stays, as the youngest of its list; the place was taken for `name`, which has none now. */
__noinline int order_spare(struct pair_name *name, const struct pair_name *victim)
{
	struct td_space *space;
	struct order order;
	struct td_pair *pair;

	if (!name || !victim || !order_get(&order))
		return 0;
	pair = pair_at(&order, victim->place);
	space = space_at(&order, victim->space);
	bpf_spin_lock(&order.all->lock);
	used_add(&order, name->space, -1);
	if (victim->space == name->space)
		space->replaced -= 1;
	else
		space->yielded -= 1;
	order_trace_add(&order.trace, TD_STEP_SPARE, name->space, victim->place, victim->space);
	pair_name_to(pair, victim);
	pair_append(&order, space, pair, victim->place);
	used_add(&order, victim->space, 1);
	bpf_spin_unlock(&order.all->lock);
	name->place = 0;
	return 0;
}

/* The slot is written: the youngest of its list, unless the slot is gone again. */
__noinline int order_link(const struct pair_name *name)
{
	struct order order;
	struct td_pair *pair;

	if (!name || !order_get(&order))
		return 0;
	pair = pair_at(&order, name->place);
	bpf_spin_lock(&order.all->lock);
	if (pair->state == TD_PAIR_GONE) {
		order_trace_add(&order.trace, TD_STEP_FREE, name->space, name->place, 0);
		free_put(&order, pair, name->place);
		used_add(&order, name->space, -1);
	} else {
		order_trace_add(&order.trace, TD_STEP_LINK, name->space, name->place, 0);
		pair_append(&order, space_at(&order, name->space), pair, name->place);
	}
	bpf_spin_unlock(&order.all->lock);
	return 0;
}

/* The place that was taken was not needed. */
__noinline int order_give_back(const struct pair_name *name)
{
	struct order order;

	if (!name || !order_get(&order))
		return 0;
	bpf_spin_lock(&order.all->lock);
	order_trace_add(&order.trace, TD_STEP_FREE, name->space, name->place, 0);
	free_put(&order, pair_at(&order, name->place), name->place);
	used_add(&order, name->space, -1);
	bpf_spin_unlock(&order.all->lock);
	return 0;
}

/* 1: the pair is the youngest of its list now, or about to be. 0: its slot names another's pair. */
__noinline int order_touch(const struct pair_name *name)
{
	struct td_space *space;
	struct order order;
	struct td_pair *pair;
	bool is_own;

	if (!name || !order_get(&order))
		return 0;
	pair = pair_at(&order, name->place);
	space = space_at(&order, name->space);
	bpf_spin_lock(&order.all->lock);
	is_own = pair_is(pair, name) &&
		 (pair->state == TD_PAIR_LINKED || pair->state == TD_PAIR_TAKEN);
	if (is_own && pair->state == TD_PAIR_LINKED && space->tail != name->place) {
		order_trace_add(&order.trace, TD_STEP_TOUCH, name->space, name->place, 0);
		pair_unlink(&order, space, pair);
		pair_append(&order, space, pair, name->place);
	}
	bpf_spin_unlock(&order.all->lock);
	return is_own;
}

/* The slot was removed: the pair goes with it. */
__noinline int order_remove(const struct pair_name *name)
{
	struct order order;
	struct td_pair *pair;

	if (!name || !order_get(&order))
		return 0;
	pair = pair_at(&order, name->place);
	bpf_spin_lock(&order.all->lock);
	if (pair_is(pair, name)) {
		if (pair->state == TD_PAIR_LINKED) {
			order_trace_add(&order.trace, TD_STEP_REMOVE, name->space, name->place, 0);
			pair_unlink(&order, space_at(&order, name->space), pair);
			free_put(&order, pair, name->place);
			used_add(&order, name->space, -1);
		} else if (pair->state == TD_PAIR_TAKEN) {
			pair->state = TD_PAIR_GONE;
		}
	}
	bpf_spin_unlock(&order.all->lock);
	return 0;
}

/* A slot made room at an address whose pages are full: its pair, of the namespace `giver`, is counted as one that gave way. */
__noinline int order_count_room(__u32 giver, __u32 asker)
{
	struct td_space *space;
	struct order order;

	if (!order_get(&order))
		return 0;
	space = space_at(&order, giver);
	bpf_spin_lock(&order.all->lock);
	if (giver == asker)
		space->replaced += 1;
	else
		space->yielded += 1;
	bpf_spin_unlock(&order.all->lock);
	return 0;
}

/* A pair of that namespace found no room at its address. */
__noinline int order_count_refusal(__u32 asker)
{
	struct td_space *space;
	struct order order;

	if (!order_get(&order))
		return 0;
	space = space_at(&order, asker);
	bpf_spin_lock(&order.all->lock);
	space->refused += 1;
	bpf_spin_unlock(&order.all->lock);
	return 0;
}

/* ---- spaces ------------------------------------------------------------------------------------ */

/* A space without pairs, or 0. */
static __always_inline __u32 space_make(struct order *order, __u32 namespace_id, __u32 limit)
{
	struct td_space *space;
	__u32 number;

	bpf_spin_lock(&order->all->lock);
	number = order->all->free_space;
	if (number) {
		order->all->free_space = space_at(order, number)->over_next;
	} else if (order->all->used_spaces < TD_SPACES_MAX - 1) {
		order->all->used_spaces += 1;
		number = order->all->used_spaces;
	}
	if (number) {
		space = space_at(order, number);
		space->namespace_id = namespace_id;
		space->share = 0;
		space->limit = limit;
		space->over_next = 0;
		space->replaced = 0;
		space->yielded = 0;
		space->refused = 0;
	}
	bpf_spin_unlock(&order->all->lock);
	return number;
}

/* Only one without pairs, which is in no list. */
static __always_inline void space_free(struct order *order, __u32 number)
{
	struct td_space *space = space_at(order, number);

	bpf_spin_lock(&order->all->lock);
	space->namespace_id = 0;
	space->over_next = order->all->free_space;
	order->all->free_space = number;
	bpf_spin_unlock(&order->all->lock);
}

/* The namespace's space, made if need be; 0: there is no room for it. */
__noinline int space_of(__u32 namespace_id)
{
	__u32 *found = bpf_map_lookup_elem(&learned_spaces, &namespace_id);
	struct order order;
	__u32 number;

	if (found)
		return *found & (TD_SPACES_MAX - 1);
	if (!order_get(&order))
		return 0;
	number = space_make(&order, namespace_id, td_config.quota_namespace);
	if (!number)
		return 0;
	if (bpf_map_update_elem(&learned_spaces, &namespace_id, &number, BPF_NOEXIST) == 0)
		return number;
	/* another writer was first, or there is no room */
	space_free(&order, number);
	found = bpf_map_lookup_elem(&learned_spaces, &namespace_id);
	return found ? *found & (TD_SPACES_MAX - 1) : 0;
}

#endif /* TANDEM_ORDER_H */
