/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The lists of learned pairs: the pairs of each namespace, the namespaces that have more than their share, the free places. All of
 * this is called under the one lock of `learned_order`; order.h holds it.
 */
#ifndef TANDEM_ORDER_LISTS_H
#define TANDEM_ORDER_LISTS_H

#include <tandem/maps.h>
#include <tandem/order_trace.h>
#include <tandem/packet.h>

#define TD_SPACE_OFFERS 0u

/* A pair as others name it. */
struct pair_name {
	struct td_addr addr;
	__u32 selector;
	__u32 space;
	__u32 place;
};

static __always_inline __u32 slot_word(const struct pair_name *name)
{
	if (name->space == TD_SPACE_OFFERS)
		return name->place;
	return TD_SLOT_OWNED | name->space << TD_SLOT_SPACE_SHIFT | name->place;
}

static __always_inline __u32 slot_space(__u32 word)
{
	return word & TD_SLOT_OWNED ? (word & TD_SLOT_SPACE_MASK) >> TD_SLOT_SPACE_SHIFT :
				      TD_SPACE_OFFERS;
}

/* Both maps, found before the lock is taken. */
struct order {
	struct td_order *all;
	struct all_pairs *pairs;
	struct order_trace trace;
};

static __always_inline bool order_get(struct order *order)
{
	__u32 zero = 0;

	order->all = bpf_map_lookup_elem(&learned_order, &zero);
	order->pairs = bpf_map_lookup_elem(&learned_pairs, &zero);
	return order->all && order->pairs && order_trace_get(&order->trace);
}

/* The compiler must not move the mask behind what it knows of the index: the verifier would not. */
static __always_inline struct td_pair *pair_at(const struct order *order, __u32 place)
{
	place &= TD_PAIRS_MAX - 1;
	asm volatile("" : "+r"(place));
	return &order->pairs->pair[place & (TD_PAIRS_MAX - 1)];
}

static __always_inline struct td_space *space_at(const struct order *order, __u32 space)
{
	space &= TD_SPACES_MAX - 1;
	asm volatile("" : "+r"(space));
	return &order->all->space[space & (TD_SPACES_MAX - 1)];
}

/* ---- all below, up to order_take: under the lock ------------------------------------------------ */

static __always_inline void over_remove(struct order *order, struct td_space *space)
{
	if (space->over_previous)
		space_at(order, space->over_previous)->over_next = space->over_next;
	else
		order->all->over_head = space->over_next;
	if (space->over_next)
		space_at(order, space->over_next)->over_previous = space->over_previous;
	else
		order->all->over_tail = space->over_previous;
	space->over_previous = 0;
	space->over_next = 0;
	space->is_over = 0;
}

static __always_inline void over_append(struct order *order, struct td_space *space, __u32 number)
{
	space->over_previous = order->all->over_tail;
	space->over_next = 0;
	space->is_over = 1;
	if (order->all->over_tail)
		space_at(order, order->all->over_tail)->over_next = number;
	else
		order->all->over_head = number;
	order->all->over_tail = number;
}

/* After `used` or `share` changed. Offers are in no such list: they give before it is asked. */
static __always_inline void over_fix(struct order *order, struct td_space *space, __u32 number)
{
	if (number == TD_SPACE_OFFERS)
		return;
	if (space->used > space->share && !space->is_over)
		over_append(order, space, number);
	else if (space->used <= space->share && space->is_over)
		over_remove(order, space);
}

static __always_inline void used_add(struct order *order, __u32 number, __u32 by)
{
	struct td_space *space = space_at(order, number);

	space->used += by;
	over_fix(order, space, number);
}

static __always_inline void pair_unlink(struct order *order, struct td_space *space,
					struct td_pair *pair)
{
	if (pair->previous)
		pair_at(order, pair->previous)->next = pair->next;
	else
		space->head = pair->next;
	if (pair->next)
		pair_at(order, pair->next)->previous = pair->previous;
	else
		space->tail = pair->previous;
}

/* The next number. Who reads that `told` is `sequence` sees every `untold` before it (fqdn_fills.h). */
static __always_inline __u32 sequence_step(struct td_order *all)
{
	__u32 sequence = all->sequence;

	if (sequence != all->told)
		__sync_fetch_and_add(&all->untold, 1);
	WRITE_ONCE(all->sequence, sequence + 1);
	__sync_lock_test_and_set(&all->told, sequence + 1);
	return sequence;
}

static __always_inline void pair_append(struct order *order, struct td_space *space,
					struct td_pair *pair, __u32 place)
{
	pair->previous = space->tail;
	pair->next = 0;
	pair->state = TD_PAIR_LINKED;
	pair->touched = sequence_step(order->all);
	if (space->tail)
		pair_at(order, space->tail)->next = place;
	else
		space->head = place;
	space->tail = place;
}

static __always_inline void pair_name_to(struct td_pair *pair, const struct pair_name *name)
{
	pair->addr = name->addr;
	pair->selector = name->selector;
	pair->space = name->space;
}

static __always_inline bool pair_is(const struct td_pair *pair, const struct pair_name *name)
{
	return (address_difference(&pair->addr, &name->addr) | (pair->selector ^ name->selector) |
		(pair->space ^ name->space)) == 0;
}

/* A place that is free, or 0. */
static __always_inline __u32 free_take(struct order *order)
{
	__u32 pairs_max = td_config.pairs ? td_config.pairs : TD_PLACES_MAX;
	__u32 place = order->all->free;

	if (place) {
		order->all->free = pair_at(order, place)->next;
		return place;
	}
	if (order->all->used_pairs >= pairs_max || order->all->used_pairs >= TD_PAIRS_MAX - 1)
		return 0;
	order->all->used_pairs += 1;
	return order->all->used_pairs;
}

static __always_inline void free_put(struct order *order, struct td_pair *pair, __u32 place)
{
	pair->state = TD_PAIR_FREE;
	pair->next = order->all->free;
	order->all->free = place;
}

#endif /* TANDEM_ORDER_LISTS_H */
