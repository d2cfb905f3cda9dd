/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The slot that makes room at an address whose pages are full. Offers and slots of the version before go first; else the
 * namespace with most slots there gives the one that was touched longest ago, if it has at least two more than the asker;
 * else the asker replaces its own. So up to eight namespaces have eight places of an address each.
 */
#ifndef TANDEM_ADDRESS_ROOM_H
#define TANDEM_ADDRESS_ROOM_H

#include <tandem/order.h>

/* A slot that makes room: what it held when it was found. */
struct room_slot {
	__u32 selector; /* 0: none is known */
	__u32 word;
};

struct room {
	struct td_fqdn_key key;
	__u32 space;
	__u32 writer;
	struct room_slot slot;
	__u32 giver;
	__u32 most;
	__u32 oldest;
};

#define TD_COUNT_OF_OFFERS 255u

static __always_inline __u8 *count_of(struct learn_scratch *scratch, __u32 word)
{
	__u32 space = slot_space(word) & (TD_SPACES_MAX - 1);

	asm volatile("" : "+r"(space));
	return &scratch->count[space & (TD_SPACES_MAX - 1)];
}

static __always_inline struct learn_scratch *scratch_get(const struct room *room)
{
	__u32 writer = room->writer;

	return bpf_map_lookup_elem(&learn_scratch, &writer);
}

static long room_clear(__u32 number, struct room *room)
{
	struct learn_scratch *scratch = scratch_get(room);
	struct td_fqdn *page;

	room->key.page = number;
	page = bpf_map_lookup_elem(&fqdn, &room->key);
	if (!page || !scratch)
		return 1;
	for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++)
		*count_of(scratch, READ_ONCE(page->slot[i].namespace_id)) = 0;
	return 0;
}

/* Global, as room_oldest_slot: the verifier walks it once, and not for each state that the slots before leave. */
__noinline int room_count_slot(const struct td_fqdn_slot *slot, struct room *room)
{
	struct learn_scratch *scratch;
	__u32 word;
	__u32 now;
	__u8 *count;

	if (!slot || !room)
		return 0;
	scratch = scratch_get(room);
	if (!scratch || !READ_ONCE(slot->selector))
		return 0;
	word = READ_ONCE(slot->namespace_id);
	count = count_of(scratch, word);
	now = word & TD_SLOT_OWNED ? *count + 1u : TD_COUNT_OF_OFFERS;
	*count = now;
	if (now > room->most) {
		room->most = now;
		room->giver = slot_space(word);
	}
	return 0;
}

static long room_count(__u32 number, struct room *room)
{
	struct td_fqdn *page;

	room->key.page = number;
	page = bpf_map_lookup_elem(&fqdn, &room->key);
	if (!page)
		return 1;
	for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++)
		room_count_slot(&page->slot[i], room);
	return 0;
}

__noinline int room_oldest_slot(const struct td_fqdn_slot *slot, struct room *room)
{
	struct order order;
	__u32 selector;
	__u32 touched;
	__u32 word;

	if (!slot || !room || !order_get(&order))
		return 0;
	selector = READ_ONCE(slot->selector);
	word = READ_ONCE(slot->namespace_id);
	touched = pair_at(&order, word & TD_SLOT_PLACE_MASK)->touched;
	if (!selector || slot_space(word) != room->giver)
		return 0;
	if (room->slot.selector && (__s32)(touched - room->oldest) >= 0)
		return 0;
	room->slot.selector = selector;
	room->slot.word = word;
	room->oldest = touched;
	return 0;
}

static long room_oldest(__u32 number, struct room *room)
{
	struct td_fqdn *page;

	room->key.page = number;
	page = bpf_map_lookup_elem(&fqdn, &room->key);
	if (!page)
		return 1;
	for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++)
		room_oldest_slot(&page->slot[i], room);
	return 0;
}

static __always_inline void room_search(struct room *room)
{
	struct learn_scratch *scratch = scratch_get(room);
	__u32 own_word = TD_SLOT_OWNED | room->space << TD_SLOT_SPACE_SHIFT;
	__u32 own;

	if (!scratch)
		return;
	*count_of(scratch, own_word) = 0;
	bpf_loop(TD_FQDN_PAGES_MAX, room_clear, room, 0);
	bpf_loop(TD_FQDN_PAGES_MAX, room_count, room, 0);
	own = *count_of(scratch, own_word);
	if (room->most != TD_COUNT_OF_OFFERS && room->most < own + 2) {
		if (!own)
			return;
		room->giver = room->space;
	}
	bpf_loop(TD_FQDN_PAGES_MAX, room_oldest, room, 0);
}

/* Read without a lock: the caller looks under the lock whether the slot is still as it was. */
__noinline int room_find(const struct pair_name *asker, __u32 writer, struct room_slot *slot)
{
	struct room room = {};

	if (!asker || !slot)
		return 0;
	room.key.addr = asker->addr;
	room.space = asker->space;
	room.writer = writer;
	room_search(&room);
	*slot = room.slot;
	return 0;
}

#endif /* TANDEM_ADDRESS_ROOM_H */
