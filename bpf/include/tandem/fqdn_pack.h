/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * An address has no more pages than its pairs need: a slot that is freed gets the last pair of the address, and the last page
 * goes with its last pair. All pages together are no more than all pairs, so a namespace holds only what it pays for in pairs
 * (docs/adr/0011-one-order.md).
 *
 * Readers take no lock. One that passed the free slot before the pair came, and finds the other slot free, has missed it: each move
 * changes the stamp of the address (fqdn_fills.h), and judge searches again (fqdn_may_have_moved()).
 */
#ifndef TANDEM_FQDN_PACK_H
#define TANDEM_FQDN_PACK_H

#include <tandem/fqdn_fills.h>
#include <tandem/fqdn_write.h>

/* Under the lock: the last page dies if it has no slot and is not the first. Its number, for last_page_delete(); 0: none. */
static __always_inline __u32 last_page_dies(struct pages *pages)
{
#pragma unroll
	for (__u32 number = TD_FQDN_PAGES_MAX - 1; number > 0; number--) {
		struct td_fqdn *page = pages->page[number];
		struct td_fqdn *previous = pages->page[number - 1];
		__u32 occupied = 0;

		if (!page || !previous)
			continue;
		for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++)
			occupied |= page->slot[i].selector;
		if (occupied)
			return 0;
		WRITE_ONCE(page->dead, TD_PAGE_DEAD);
		WRITE_ONCE(previous->more, 0);
		pages->page[number] = NULL;
		return number;
	}
	return 0;
}

/* After the lock. */
static __always_inline void last_page_delete(struct page_holder *holder, __u32 number)
{
	if (!number)
		return;
	holder->key.page = number;
	if (!bpf_map_delete_elem(&fqdn, &holder->key))
		extra_pages_add(number, -1);
}

/* `yes` if `is_so` is 1, `no` if it is 0: without a branch, as the verifier walks each. */
static __always_inline __u32 chosen(__u32 is_so, __u32 yes, __u32 no)
{
	asm volatile("" : "+r"(is_so));
	return no ^ ((yes ^ no) & -is_so);
}

/* Slots of an address, counted through its pages: the first free one, and the last used one. A selector has the highest bit set. */
struct slot_range {
	__u32 first_free;
	__u32 last_used;
};

static __always_inline void slots_measure(struct pages *pages, struct slot_range *range)
{
	range->first_free = TD_FQDN_PAGES_MAX * TD_FQDN_SELECTORS_MAX;
	range->last_used = 0;
	TD_EACH_PAGE(pages, page, number, {
		if (page)
			for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++) {
				__u32 at = number * TD_FQDN_SELECTORS_MAX + i;
				__u32 is_used = page->slot[i].selector >> 31;
				__u32 is_first = (at - range->first_free) >> 31;

				range->last_used = chosen(is_used, at, range->last_used);
				range->first_free = chosen(is_first & ~is_used, at, range->first_free);
			}
	});
}

static __always_inline struct td_fqdn *page_of_slot(struct pages *pages, __u32 at)
{
	TD_EACH_PAGE(pages, page, number, {
		if (page && at / TD_FQDN_SELECTORS_MAX == number)
			return page;
	});
	return NULL;
}

/* Under the lock: the last pair moves to the first free slot, and takes the time of its use along. */
static __always_inline void last_slot_moves(struct pages *pages, __u32 *filled)
{
	struct td_fqdn_slot *from;
	struct td_fqdn_slot *to;
	struct slot_range range;
	struct td_fqdn *source;
	struct td_fqdn *target;

	slots_measure(pages, &range);
	if (range.first_free >= range.last_used)
		return;
	source = page_of_slot(pages, range.last_used);
	target = page_of_slot(pages, range.first_free);
	if (!source || !target)
		return;
	from = &source->slot[range.last_used % TD_FQDN_SELECTORS_MAX];
	to = &target->slot[range.first_free % TD_FQDN_SELECTORS_MAX];
	if ((__s64)(source->last_used_ns - target->last_used_ns) > 0)
		WRITE_ONCE(target->last_used_ns, source->last_used_ns & ~TD_USED_SLOTS);
	slot_fill(to, from->selector, from->expires_s, from->namespace_id);
	__sync_fetch_and_add(filled, 1);
	slot_free(from);
}

/* After a slot of the address was freed. A global function: the verifier checks it once. */
__noinline int pages_pack(const struct td_addr *address)
{
	struct page_holder holder = {};
	struct td_fqdn *first;
	struct pages pages;
	__u32 *filled;
	__u32 dead;

	if (!address)
		return 0;
	holder.key.addr = *address;
	filled = fills_of(address);
	pages_find(&pages, &holder);
	first = pages.page[0];
	if (!filled || !first || !pages.page[1])
		return 0;
	bpf_spin_lock(&first->lock);
	if (!pages_hold(&pages, &holder)) {
		bpf_spin_unlock(&first->lock);
		return 0;
	}
	last_slot_moves(&pages, filled);
	dead = last_page_dies(&pages);
	bpf_spin_unlock(&first->lock);
	last_page_delete(&holder, dead);
	return 0;
}

#endif /* TANDEM_FQDN_PACK_H */
