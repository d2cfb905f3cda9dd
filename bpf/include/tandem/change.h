/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * One change of `fqdn`: adds, extends or removes a pair (address, selector). Each change is made under the address's lock, in
 * attempts: if an attempt lacks a place, a page or room, it makes that without the lock, and the next attempt checks again.
 * It never shortens an expiry. order.h decides which pair makes room for a new one.
 *
 * Any program type may call change_apply(); `learn` (src/learn.bpf.c) does.
 */
#ifndef TANDEM_CHANGE_H
#define TANDEM_CHANGE_H

#include <tandem/address_room.h>
#include <tandem/counters.h>
#include <tandem/forget.h>
#include <tandem/fqdn_fills.h>
#include <tandem/fqdn_live.h>
#include <tandem/fqdn_pack.h>
#include <tandem/order.h>
#include <tandem/quota.h>

#define TD_LEARN_ATTEMPTS 48
/* EXPIRE frees one slot in each attempt. */
#define TD_EXPIRE_ATTEMPTS (TD_FQDN_PAGES_MAX * TD_FQDN_SELECTORS_MAX + TD_LEARN_ATTEMPTS)
/*
 * Attempts while a slot names the pair of another address, which is being added or removed. After them the slot is free.
 */
#define TD_STRAY_ATTEMPTS 4

/* One request on its way through its attempts. */
struct change {
	struct page_holder holder;
	struct pair_name name; /* its place is 0 until one is taken, and again when a slot has it */
	__u32 expires_s;
	__u32 op;
	__u32 writer;
	struct room_slot room;
	__s32 result;
	__u32 evicted;
	__u32 spared;
	__u32 strays;
	__u32 is_offered;
	__u32 has_freed;
};

static __always_inline long change_end(struct change *change, __s32 result)
{
	change->result = result;
	return TD_STOP;
}

static __always_inline bool pair_is_in_use(const struct pair_name *name)
{
	__u32 now_s = bpf_ktime_get_boot_ns() / TD_NS_PER_S;

	/* as if it expired now: how long ago its name did is judge's to ask */
	return fqdn_is_live(&name->addr, name->selector, now_s, now_s);
}

/* Needs a place: before anything is made for a request that is refused. */
static __always_inline long change_take_place(struct change *change)
{
	struct pair_name victim = {};

	if (!order_take(&change->name, &victim))
		return change_end(change, TD_LEARN_REFUSED_NAMESPACE);
	if (!victim.place)
		return TD_AGAIN;
	if (change->spared < TD_SPARED_MAX && pair_is_in_use(&victim)) {
		change->spared++;
		order_spare(&change->name, &victim);
		return TD_AGAIN;
	}
	bpf_loop(TD_VICTIM_ATTEMPTS, victim_attempt, &victim, 0);
	pages_pack(&victim.addr);
	change->evicted++;
	return TD_AGAIN;
}

static __always_inline long change_make_page(struct change *change, __u32 number)
{
	__s32 result = page_create(&change->holder, number, change->writer);

	return result ? change_end(change, result) : TD_AGAIN;
}

/* The slot has the place now. */
static __always_inline long change_link(struct change *change)
{
	order_link(&change->name);
	change->name.place = 0;
	return change_end(change, TD_LEARN_OK);
}

/* The pair was there. An offer moves no pair of a namespace. */
static __always_inline long change_touch(struct change *change, __u32 word, bool is_later)
{
	struct pair_name found = change->name;

	found.place = word & TD_SLOT_PLACE_MASK;
	if (is_later)
		count(TD_COUNT_LEARN_EXTENDED);
	if (!change->is_offered && !order_touch(&found)) {
		change->strays++;
		return TD_AGAIN;
	}
	return change_end(change, is_later ? TD_LEARN_OK : TD_LEARN_UNCHANGED);
}

/* There is no further page: who has to give is looked for without the lock. */
static __always_inline long change_find_room(struct change *change)
{
	if (change->is_offered)
		return change_end(change, TD_LEARN_REFUSED_SELECTORS);
	room_find(&change->name, change->writer, &change->room);
	return change->room.selector ? TD_AGAIN : change_end(change, TD_LEARN_REFUSED_SELECTORS);
}

/* The slot that made room is another's now. That of the same selector that is left, if any, may be in use. */
static __always_inline void change_forget_room(struct change *change)
{
	struct pair_name name = change->name;

	name.selector = change->room.selector;
	slot_forget(&name, change->room.word, !address_has(&name.addr, name.selector));
	order_count_room(slot_space(change->room.word), change->name.space);
	count(TD_COUNT_LEARN_REMOVED);
	change->evicted++;
}

/* A place is taken and the address is known: fills a slot, or says what has to be done first. */
static __always_inline long change_fill(struct change *change, struct pages *pages, struct td_fqdn *first)
{
	__u32 selector = change->name.selector;
	__u32 word = slot_word(&change->name);
	struct td_fqdn_slot *slot;
	__u32 page_count = 0;
	__u32 former = 0;

	/* a slot without owner becomes the asker's: an offer, or a slot of the version before */
	slot = change->is_offered ? NULL : slot_find(pages, selector, 0, TD_SLOT_OWNED);
	if (slot) {
		former = slot->namespace_id;
		if ((__s32)(change->expires_s - slot->expires_s) > 0)
			WRITE_ONCE(slot->expires_s, change->expires_s);
		WRITE_ONCE(slot->namespace_id, word);
		bpf_spin_unlock(&first->lock);
		quota_take(selector);
		slot_forget(&change->name, former, false);
		return change_link(change);
	}
	slot = slot_find(pages, 0, 0, 0);
	if (!slot && change->room.selector) {
		slot = slot_find(pages, change->room.selector, change->room.word, ~0u);
		if (slot) {
			former = change->room.selector;
			slot_free(slot);
		}
	}
	if (slot) {
		slot_fill(slot, selector, change->expires_s, word);
		bpf_spin_unlock(&first->lock);
		fills_count(&change->name.addr);
		if (former)
			change_forget_room(change);
		quota_take(selector);
		count(TD_COUNT_LEARN_ADDED);
		return change_link(change);
	}
	TD_EACH_PAGE(pages, page, number, { page_count += page != NULL; });
	bpf_spin_unlock(&first->lock);
	if (page_count >= TD_FQDN_PAGES_MAX || !extra_pages_are_left())
		return change_find_room(change);
	return change_make_page(change, page_count);
}

/*
 * ADD, one attempt: extend, or take a place and try again, or fill a slot, or make room and try again. A global
 * function knows nothing of earlier attempts, so that the verifier checks one attempt and not their products.
 */
__noinline int change_add(struct change *change)
{
	struct td_fqdn_slot *slot;
	struct td_fqdn *first;
	struct pages pages;
	__u32 mask;

	if (!change)
		return TD_STOP;
	pages_find(&pages, &change->holder);
	first = pages.page[0];
	if (!first)
		return change->name.place ? change_make_page(change, 0) : change_take_place(change);
	bpf_spin_lock(&first->lock);
	if (!pages_hold(&pages, &change->holder)) {
		bpf_spin_unlock(&first->lock);
		return TD_AGAIN;
	}
	mask = change->is_offered ? 0 : TD_SLOT_OWNED | TD_SLOT_SPACE_MASK;
	slot = slot_find(&pages, change->name.selector, slot_word(&change->name), mask);
	if (slot) {
		bool is_later = (__s32)(change->expires_s - slot->expires_s) > 0;
		__u32 word = slot->namespace_id;

		if (change->strays > TD_STRAY_ATTEMPTS) {
			slot_free(slot);
			bpf_spin_unlock(&first->lock);
			pages_pack(&change->name.addr);
			quota_give_back(change->name.selector);
			change->strays = 0;
			return TD_AGAIN;
		}
		if (is_later)
			WRITE_ONCE(slot->expires_s, change->expires_s);
		bpf_spin_unlock(&first->lock);
		return change_touch(change, word, is_later);
	}
	if (!change->name.place) {
		bpf_spin_unlock(&first->lock);
		return change_take_place(change);
	}
	return change_fill(change, &pages, first);
}

static long add_attempt(__u32 attempt __attribute__((unused)), struct change *change)
{
	return attempt_result(change_add(change));
}

static __always_inline long free_end(struct change *change)
{
	return change_end(change, change->has_freed ? TD_LEARN_OK : TD_LEARN_ABSENT);
}

/* REMOVE names an expiry. A slot with a later one was answered again since: it stays, and the request returns its expiry. */
static __always_inline bool slot_is_kept(const struct td_fqdn_slot *slot, const struct change *change)
{
	return change->op == TD_LEARN_REMOVE && change->expires_s &&
	       (__s32)(slot->expires_s - change->expires_s) > 0;
}

/*
 * REMOVE and EXPIRE, one attempt: free one slot and try again; with none left to free, end, and the
 * address with it if it has no slot at all.
 */
__noinline int change_free(struct change *change)
{
	struct td_fqdn_slot *slot;
	struct td_fqdn *first;
	struct pages pages;
	bool is_empty;

	if (!change)
		return TD_STOP;
	pages_find(&pages, &change->holder);
	first = pages.page[0];
	if (!first)
		return free_end(change);
	bpf_spin_lock(&first->lock);
	if (!pages_hold(&pages, &change->holder)) {
		bpf_spin_unlock(&first->lock);
		return TD_AGAIN;
	}
	slot = change->op == TD_LEARN_REMOVE ? slot_find(&pages, change->name.selector, 0, 0)
					     : slot_find_idle(&pages, change->expires_s);
	if (slot && slot_is_kept(slot, change)) {
		change->expires_s = slot->expires_s;
		bpf_spin_unlock(&first->lock);
		return change_end(change, TD_LEARN_KEPT);
	}
	if (slot) {
		__u32 word = slot->namespace_id;
		__u32 selector = slot->selector;
		bool is_last;

		slot_free(slot);
		is_last = slot_find(&pages, selector, 0, 0) == NULL;
		bpf_spin_unlock(&first->lock);
		pages_pack(&change->name.addr);
		change->name.selector = selector;
		slot_forget(&change->name, word, is_last);
		count(TD_COUNT_LEARN_REMOVED);
		change->has_freed = 1;
		return TD_AGAIN;
	}
	is_empty = pages_die_if_empty(&pages);
	bpf_spin_unlock(&first->lock);
	if (is_empty)
		pages_delete(&pages, &change->holder);
	return free_end(change);
}

static long free_attempt(__u32 attempt __attribute__((unused)), struct change *change)
{
	return attempt_result(change_free(change));
}

/* Makes one change: name, expires_s, op, writer and is_offered are given, the rest is zero. */
static __always_inline void change_apply(struct change *change)
{
	change->holder.key.addr = change->name.addr;
	change->holder.token = page_token();
	change->result = TD_LEARN_REFUSED_BUSY;
	if (change->op == TD_LEARN_ADD)
		bpf_loop(TD_LEARN_ATTEMPTS, add_attempt, change, 0);
	else
		bpf_loop(TD_EXPIRE_ATTEMPTS, free_attempt, change, 0);
	/* The end was not reached because another writer is deleting a page: our part is done. */
	if (change->result == TD_LEARN_REFUSED_BUSY && change->has_freed)
		change->result = TD_LEARN_OK;
	if (change->result < 0 || change->holder.has_made)
		pages_abandon(&change->holder);
	/* others may have freed slots meanwhile, so that the page that we made has no slot */
	if (change->holder.has_made)
		pages_pack(&change->name.addr);
	if (change->result == TD_LEARN_REFUSED_SELECTORS)
		order_count_refusal(change->name.space);
	if (change->name.place)
		order_give_back(&change->name);
}

#endif /* TANDEM_CHANGE_H */
