/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The pages of one address and how a writer holds them still.
 *
 *   page 0 ---- its lock guards all pages of the address
 *     | more    a page is born `dead`, inserted, and cleared of `dead` by the writer that inserted it,
 *   page 1      under the lock; the last page dies, under the lock, when it has no slot, and is deleted
 *     | more    after that; with the last slot all pages die together, and are deleted, page 0 last
 *   ...
 *
 * A pointer from a lookup may be stale: elements are reused at once, also for the same address. So under
 * the lock a page counts only if it names the address and its own number and is not dead. The map
 * copies the value before it inserts an element, and that value is dead: a page in the making is never
 * taken for a living one. While a page waits for its maker, `dead` holds the maker's token, so that
 * no other writer clears it. Readers: fqdn_read.h.
 */
#ifndef TANDEM_FQDN_WRITE_H
#define TANDEM_FQDN_WRITE_H

#include <tandem/maps.h>
#include <tandem/packet.h>
#include <linux/errno.h>

/* Key of an address's pages, and the token of the run that inserts them. */
struct page_holder {
	struct td_fqdn_key key;
	__u32 token; /* `dead` of pages that we inserted and that are not alive yet; 0: we make none */
	bool has_made; /* a page beside the first */
	__u8 missed;   /* how often a page had come since pages_find() */
};

#define TD_PAGE_DEAD 1u
/* After so many the page that `more` says is there is held to be none. */
#define TD_MISSED_MAX 4

/* Even and not 0, so never TD_PAGE_DEAD. */
static __always_inline __u32 page_token(void)
{
	return (bpf_get_prandom_u32() & ~1u) | 2u;
}

struct pages {
	struct td_fqdn *page[TD_FQDN_PAGES_MAX];
};

/* Unrolled by hand: pointers to map values may not be indexed by a variable. */
#define TD_EACH_PAGE(pages, page, number, body)                                                    \
	do {                                                                                       \
		_Pragma("unroll") for (__u32 number = 0; number < TD_FQDN_PAGES_MAX; number++)     \
		{                                                                                  \
			struct td_fqdn *page = (pages)->page[number];                              \
			body                                                                       \
		}                                                                                  \
	} while (0)

static __always_inline void pages_find(struct pages *pages, struct page_holder *holder)
{
	bool is_there = true;

#pragma unroll
	for (__u32 number = 0; number < TD_FQDN_PAGES_MAX; number++) {
		holder->key.page = number;
		pages->page[number] = is_there ? bpf_map_lookup_elem(&fqdn, &holder->key) : NULL;
		is_there = pages->page[number] != NULL;
	}
}

static __always_inline bool page_is_named(const struct td_fqdn *page, const struct page_holder *holder,
					  __u32 number)
{
	return (address_difference(&page->self, &holder->key.addr) | (page->page ^ number)) == 0;
}

/*
 * Under the lock: clears `dead` of our own new pages and leaves out pages that are dead. False when page
 * 0 itself is, or when a living page has come since pages_find(): not all is held still then.
 */
static __always_inline bool pages_hold(struct pages *pages, struct page_holder *holder)
{
	bool is_linked = true;
	__u32 more = 0;

#pragma unroll
	for (__u32 number = 0; number < TD_FQDN_PAGES_MAX; number++) {
		struct td_fqdn *page = pages->page[number];

		if (!page)
			continue;
		if (!is_linked || !page_is_named(page, holder, number)) {
			pages->page[number] = NULL;
			is_linked = false;
			continue;
		}
		if (page->dead && page->dead != holder->token) {
			pages->page[number] = NULL;
			is_linked = false;
			continue;
		}
		WRITE_ONCE(page->dead, 0);
		if (number > 0)
			WRITE_ONCE(pages->page[number - 1]->more, 1);
		more = page->more;
	}
	if (more && holder->missed < TD_MISSED_MAX) {
		holder->missed++;
		return false;
	}
	return pages->page[0] != NULL;
}

/* The slot of a selector, 0 of a free one, whose word is `word` in the bits of `mask`. */
static __always_inline struct td_fqdn_slot *slot_find(struct pages *pages, __u32 selector,
						      __u32 word, __u32 mask)
{
	TD_EACH_PAGE(pages, page, number, {
		if (!page)
			continue;
		for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++) {
			struct td_fqdn_slot *slot = &page->slot[i];

			/* one branch instead of two: the verifier walks each */
			if (((slot->selector ^ selector) | ((slot->namespace_id ^ word) & mask)) == 0)
				return slot;
		}
	});
	return NULL;
}

/*
 * Whether a slot of the address names the selector. Read without a lock: with a wrong answer an entry of fqdn_live is missing
 * until its address is used again, or outlives its slot until the sweep. A global function, so that the
 * verifier checks its loops once.
 */
__noinline int address_has(const struct td_addr *address, __u32 selector)
{
	struct td_fqdn_key key;

	if (!address)
		return 0;
	key.addr = *address;
	for (__u32 number = 0; number < TD_FQDN_PAGES_MAX; number++) {
		struct td_fqdn *page;

		key.page = number;
		page = bpf_map_lookup_elem(&fqdn, &key);
		if (!page)
			return 0;
		for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++)
			if (READ_ONCE(page->slot[i].selector) == selector)
				return 1;
	}
	return 0;
}

/* Expired and, since `before_s`, neither valid nor used. */
static __always_inline struct td_fqdn_slot *slot_find_idle(struct pages *pages, __u32 before_s)
{
	TD_EACH_PAGE(pages, page, number, {
		if (!page || (__s32)((__u32)(page->last_used_ns / 1000000000ull) - before_s) >= 0)
			continue;
		for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++) {
			struct td_fqdn_slot *slot = &page->slot[i];
			__u32 is_past = (slot->expires_s - before_s) >> 31; /* signed below 0 */

			/* one branch instead of two: the verifier walks each */
			if (is_past & (slot->selector >> 31))
				return slot;
		}
	});
	return NULL;
}

/* The exchange is a full barrier: who sees the selector sees its expiry. */
static __always_inline void slot_fill(struct td_fqdn_slot *slot, __u32 selector, __u32 expires_s,
				      __u32 word)
{
	WRITE_ONCE(slot->expires_s, expires_s);
	WRITE_ONCE(slot->namespace_id, word);
	__sync_lock_test_and_set(&slot->selector, selector);
}

/* The exchange keeps the next owner's expiry from being seen under the old selector. */
static __always_inline void slot_free(struct td_fqdn_slot *slot)
{
	__sync_lock_test_and_set(&slot->selector, 0);
}

/* Under the lock: if no slot is left, all living pages die. True: the caller deletes them. */
static __always_inline bool pages_die_if_empty(struct pages *pages)
{
	__u32 occupied = 0;

	TD_EACH_PAGE(pages, page, number, {
		if (page)
			for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++)
				occupied |= page->slot[i].selector;
	});
	if (occupied)
		return false;
	TD_EACH_PAGE(pages, page, number, {
		if (page)
			WRITE_ONCE(page->dead, TD_PAGE_DEAD);
	});
	return true;
}

/* Pages beside the first of an address have a bound of their own: a first page always finds room. */
static __always_inline void extra_pages_add(__u32 number, __s32 by)
{
	__u32 zero = 0;
	struct td_order *order = bpf_map_lookup_elem(&learned_order, &zero);

	if (order && number > 0)
		__sync_fetch_and_add(&order->extra_pages, by);
}

static __always_inline bool extra_pages_are_left(void)
{
	__s32 most = td_config.extra_pages ? td_config.extra_pages : TD_EXTRA_PAGES_MAX;
	__u32 zero = 0;
	struct td_order *order = bpf_map_lookup_elem(&learned_order, &zero);

	return order && READ_ONCE(order->extra_pages) < most;
}

/* Page 0 goes last: while it is there, dead, no writer can make a new one and meet our leftovers. */
static __always_inline void pages_delete(const struct pages *pages, struct page_holder *holder)
{
#pragma unroll
	for (__u32 left = TD_FQDN_PAGES_MAX; left > 0; left--) {
		holder->key.page = left - 1;
		if (pages->page[left - 1] && !bpf_map_delete_elem(&fqdn, &holder->key))
			extra_pages_add(left - 1, -1);
	}
}

/* 0: try again, the page is there, ours or another writer's. Negative: no room. */
static __always_inline __s32 page_create(struct page_holder *holder, __u32 number, __u32 writer)
{
	struct learn_scratch *scratch = bpf_map_lookup_elem(&learn_scratch, &writer);
	struct td_fqdn *page;
	long error;

	if (!scratch)
		return TD_LEARN_REFUSED_BUSY;
	page = (void *)scratch->page;
	page->dead = holder->token;
	page->self = holder->key.addr;
	page->page = number;
	holder->key.page = number;
	error = bpf_map_update_elem(&fqdn, &holder->key, page, BPF_NOEXIST);
	if (!error) {
		extra_pages_add(number, 1);
		holder->has_made |= number > 0;
	}
	return error == 0 || error == -EEXIST ? 0 : TD_LEARN_REFUSED_FULL;
}

/* No other writer removes a page that we inserted and that stayed dead. */
static __always_inline void pages_abandon(struct page_holder *holder)
{
	for (__u32 number = 0; number < TD_FQDN_PAGES_MAX; number++) {
		struct td_fqdn *page;

		holder->key.page = number;
		page = bpf_map_lookup_elem(&fqdn, &holder->key);
		if (page && page_is_named(page, holder, number) && page->dead == holder->token &&
		    !bpf_map_delete_elem(&fqdn, &holder->key))
			extra_pages_add(number, -1);
	}
}

#endif /* TANDEM_FQDN_WRITE_H */
