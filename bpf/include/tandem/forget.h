/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* The end of a slot of `fqdn`: its counts, its pair in the order, the use of its address; and the slot of a victim. */
#ifndef TANDEM_FORGET_H
#define TANDEM_FORGET_H

#include <tandem/counters.h>
#include <tandem/fqdn_pack.h>
#include <tandem/order.h>
#include <tandem/quota.h>

#define TD_AGAIN 0
#define TD_STOP	 1

/* Beyond those that find a page missed. */
#define TD_VICTIM_ATTEMPTS 8

/* Removes entries of `fqdn_live` without a slot, so that a namespace has no more there than slots. */
static __always_inline void live_forget(const struct td_addr *address, __u32 selector)
{
	struct td_fqdn_live_key key = { .addr = *address, .selector = selector };

	bpf_map_delete_elem(&fqdn_live, &key);
}

/* A slot with this word is free now: what was counted for it, and its pair. `name`: address and selector. */
__noinline int slot_forget(const struct pair_name *name, __u32 word, bool is_last)
{
	struct pair_name pair;

	if (!name)
		return 0;
	pair = *name;
	pair.space = slot_space(word);
	pair.place = word & TD_SLOT_PLACE_MASK;
	if (is_last)
		live_forget(&pair.addr, pair.selector);
	quota_give_back(pair.selector);
	if (word & TD_SLOT_OWNED || word < TD_PAIRS_MAX)
		order_remove(&pair);
	else
		quota_give_back(word); /* a namespace, counted by the version before */
	return 0;
}

/*
 * The victim's slot, unless it names another pair by now. Its place in the order is taken already. 0: a page had come, ask
 * again. The caller packs the address: the longest chain of calls has no room for that here.
 */
__noinline int victim_remove(const struct pair_name *victim)
{
	struct page_holder holder = {};
	struct td_fqdn_slot *slot;
	struct td_fqdn *first;
	struct pages pages;
	bool is_last;
	bool is_empty;

	if (!victim)
		return 1;
	holder.key.addr = victim->addr;
	pages_find(&pages, &holder);
	first = pages.page[0];
	if (!first)
		return 1;
	bpf_spin_lock(&first->lock);
	if (!pages_hold(&pages, &holder)) {
		bpf_spin_unlock(&first->lock);
		return !holder.missed;
	}
	slot = slot_find(&pages, victim->selector, slot_word(victim), ~0u);
	if (!slot) {
		bpf_spin_unlock(&first->lock);
		return 1;
	}
	slot_free(slot);
	is_last = slot_find(&pages, victim->selector, 0, 0) == NULL;
	is_empty = pages_die_if_empty(&pages);
	bpf_spin_unlock(&first->lock);
	if (is_empty)
		pages_delete(&pages, &holder);
	if (is_last)
		live_forget(&victim->addr, victim->selector);
	quota_give_back(victim->selector);
	count(TD_COUNT_LEARN_REMOVED);
	return 1;
}

/* The compiler knows what a global function returns, the verifier must see it checked. */
static __always_inline long attempt_result(int result)
{
	asm volatile("" : "+r"(result));
	return result ? TD_STOP : TD_AGAIN;
}

static long victim_attempt(__u32 attempt __attribute__((unused)), struct pair_name *victim)
{
	return attempt_result(victim_remove(victim));
}

#endif /* TANDEM_FORGET_H */
