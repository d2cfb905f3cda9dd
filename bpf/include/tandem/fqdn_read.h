/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The lock-free reader of `fqdn`. Elements are reused when they are deleted, and slots when
 * they are freed, so a value counts only if the slot still names the selector after the read, and the
 * page still belongs to the address. Address dependencies order the loads; the writer
 * (change.h) publishes a slot's selector last, by an exchange.
 */
#ifndef TANDEM_FQDN_READ_H
#define TANDEM_FQDN_READ_H

#include <tandem/conntrack.h>
#include <tandem/events.h>
#include <tandem/fqdn_denial.h>
#include <tandem/fqdn_hint.h>
#include <tandem/fqdn_live.h>
#include <tandem/policy.h>

struct fqdn_search {
	struct question question;
	struct answer answer;
	__u64 now_ns;
	/* one octet, as judge's stack has no more */
	bool is_new : 1;	/* of a connection that conntrack has not confirmed: expiry counts */
	bool is_use : 1;	/* keeps the address in use, if it is of an open connection */
	bool has_expired : 1;	/* a selector would have allowed it, had its name not expired */
	bool has_stamp : 1;	/* fills_stamp() knew one */
	bool is_uncertain : 1;	/* a slot that would have allowed it changed while it was read, or a page went */
	__u8 slot;		/* which answered, counted through all pages */
	__u32 used_selector;	/* whose use is to be noted; 0: none, or noted within the last second */
	__u32 used_expires_s;
	__u32 stamp; /* fills_stamp() before the search */
};

static __always_inline bool page_is_of(struct td_fqdn *page, const struct td_addr *address, __u64 after)
{
	struct td_addr *self = (void *)&page->self + zero_after(after);

	return ((READ_ONCE(self->a[0]) ^ address->a[0]) | (READ_ONCE(self->a[1]) ^ address->a[1]) |
		(READ_ONCE(self->a[2]) ^ address->a[2]) | (READ_ONCE(self->a[3]) ^ address->a[3])) == 0;
}

/*
 * Stores the time of use once a second, and whether this slot's use was noted in that second: a busy address
 * costs a packet one comparison, and a selector is noted however busy the others of its address are.
 */
static __always_inline bool page_is_used(struct td_fqdn *page, __u32 index, __u64 now_ns)
{
	__u64 used = page->last_used_ns;

	if ((__s64)(now_ns - used) > (__s64)TD_NS_PER_S) {
		used = now_ns & ~TD_USED_SLOTS;
		page->last_used_ns = used;
	}
	return used >> index & 1;
}

/* One slot; true ends the search. `seen` gathers the selectors that were read. */
static __always_inline bool fqdn_slot_answers(struct td_fqdn *page, __u32 index,
					      const struct td_addr *address, struct fqdn_search *search,
					      __u64 *seen)
{
	struct td_fqdn_slot *slot = &page->slot[index];
	__u32 selector = READ_ONCE(slot->selector);
	struct answer answer;
	__u32 expires_s;

	*seen |= selector;
	if (!selector)
		return false;
	answer = policy_ask(&search->question, selector);
	if (answer.verdict != TD_VERDICT_ALLOW)
		return false;
	expires_s = LOAD_AFTER(slot->expires_s, selector);
	if (LOAD_AFTER(slot->selector, expires_s) != selector ||
	    !page_is_of(page, address, expires_s) || LOAD_AFTER(page->dead, expires_s)) {
		search->is_uncertain = true;
		return false;
	}
	if (search->is_new) {
		__u32 now_s = search->now_ns / TD_NS_PER_S;

		if ((__s32)(expires_s - now_s) < 0) {
			if (!fqdn_is_live(address, selector, expires_s, now_s)) {
				search->has_expired = true;
				return false;
			}
			live_count(TD_LIVE_PASSED);
		}
	}
	search->answer = answer;
	search->slot = page->page * TD_FQDN_SELECTORS_MAX + index;
	if (!page_is_used(page, index, search->now_ns) && search->is_use) {
		search->used_selector = selector;
		search->used_expires_s = expires_s;
	}
	return true;
}

/*
 * Does the slot answer that let this question through before? Sets the time of the search too. A function of its own, as
 * the search is, because their stacks together would be more than a program has.
 */
__noinline int fqdn_ask_hint(const struct td_addr *address, struct fqdn_search *search)
{
	struct td_fqdn_key key;
	struct td_fqdn *page;
	__u64 seen = 0;
	__u32 slot;

	if (!address || !search)
		return 0;
	search->now_ns = bpf_ktime_get_boot_ns();
	slot = hint_read(hint_hash(&search->question, address));
	if (slot >= TD_HINT_SLOTS)
		return 0;
	key.addr = *address;
	key.page = slot / TD_FQDN_SELECTORS_MAX;
	page = bpf_map_lookup_elem(&fqdn, &key);
	return page && fqdn_slot_answers(page, slot % TD_FQDN_SELECTORS_MAX, address, search, &seen);
}

/*
 * Was this question denied, and has nothing been added since? Otherwise sets the stamp for fqdn_note_denial(). After
 * fqdn_ask_hint(), which sets the time.
 */
__noinline int fqdn_is_denied(const struct td_addr *address, struct fqdn_search *search)
{
	struct denial *denial;
	__u32 stamp = 0;

	if (!address || !search)
		return 0;
	search->has_stamp = fills_stamp(address, &stamp, 0);
	if (!search->has_stamp)
		return 0;
	search->stamp = stamp;
	denial = denial_of(&search->question, address);
	return denial && denial_is(denial, &search->question, address, stamp,
				   denial_time(search->now_ns));
}

/*
 * The search found nothing. May it have missed a pair that moved to a slot which it had passed (pages_pack())? Then the next search
 * has this stamp, which is read after all that the search read: its end made the former stamp depend on that, but for
 * the reads that make a search uncertain. Without stamps the answer is yes once, after the first search.
 */
__noinline int fqdn_may_have_moved(const struct td_addr *address, struct fqdn_search *search,
				   bool is_first)
{
	__u32 stamp = search ? search->stamp : 0;

	if (!address || !search)
		return 0;
	search->has_stamp = fills_stamp(address, &search->stamp, stamp) && search->has_stamp;
	return search->is_uncertain || search->stamp != stamp || (is_first && !search->has_stamp);
}

/* The search found nothing. */
__noinline int fqdn_note_denial(const struct td_addr *address, const struct fqdn_search *search)
{
	struct denial *denial;

	if (!address || !search || !search->has_stamp || search->has_expired || search->is_uncertain)
		return 0;
	denial = denial_of(&search->question, address);
	if (denial)
		denial_write(denial, &search->question, address, search->stamp,
			     denial_time(search->now_ns));
	return 0;
}

/*
 * Through all slots, after fqdn_ask_hint() and fqdn_is_denied(). A global function: the verifier checks its loops once, not for each state of
 * the caller.
 */
__noinline int fqdn_search_pages(const struct td_addr *address, struct fqdn_search *search)
{
	struct td_fqdn_key key;
	__u64 seen = 0;

	if (!address || !search)
		return 0;
	search->is_uncertain = false;
	key.addr = *address;
	/* so all that is read is read after the stamp */
	key.addr.a[0] += zero_after(search->stamp);
	for (__u32 number = 0; number < TD_FQDN_PAGES_MAX; number++) {
		struct td_fqdn *page;
		__u32 more;

		key.page = number;
		page = bpf_map_lookup_elem(&fqdn, &key);
		if (!page) {
			/* what was not found orders no later read */
			search->is_uncertain |= number > 0;
			break;
		}
		for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++)
			if (fqdn_slot_answers(page, i, address, search, &seen))
				return 1;
		more = READ_ONCE(page->more);
		seen |= more;
		if (!more)
			break;
	}
	search->stamp += zero_after(seen);
	return 0;
}

/*
 * Searches of one packet. A pair moves down alone, and several times within a search only where a batch removes one pair after the
 * other of its address: one in a hundred searches that missed it missed it again (bpf/tests/fqdn-moves.test.ts).
 */
#define TD_SEARCHES_MAX 8

/* Through all slots, again while pairs move. The stamp is from before the last search: fqdn_note_denial() needs that. */
static __always_inline bool fqdn_finds(const struct td_addr *address, struct fqdn_search *search)
{
	for (__u32 before = 0; before < TD_SEARCHES_MAX; before++) {
		if (before > 0 && !fqdn_may_have_moved(address, search, before == 1))
			return false;
		if (fqdn_search_pages(address, search))
			return true;
	}
	return false;
}

/* The next packet with this question is to look at the slot that the search found first. */
__noinline int fqdn_note_hint(const struct td_addr *address, const struct fqdn_search *search)
{
	if (address && search)
		hint_write(hint_hash(&search->question, address), search->slot);
	return 0;
}

/* Under the page's bit of the slot that the search found, unless it is another's by now. */
static __always_inline void slot_is_noted(const struct td_addr *address,
					  const struct fqdn_search *search)
{
	struct td_fqdn_key key = {
		.addr = *address,
		.page = search->slot / TD_FQDN_SELECTORS_MAX,
	};
	__u32 index = search->slot % TD_FQDN_SELECTORS_MAX;
	struct td_fqdn *page = bpf_map_lookup_elem(&fqdn, &key);

	if (page && page_is_of(page, address, 0) &&
	    READ_ONCE(page->slot[index].selector) == search->used_selector)
		page->last_used_ns |= 1ull << index;
}

/*
 * Notes that the connection uses the address, if it is an open one. At most once a second for each slot; a
 * connection that is being closed asks again with each packet.
 */
__noinline int fqdn_note_use(const struct td_addr *address, const struct connection *connection,
			     const struct fqdn_search *search)
{
	__u32 now_s;

	if (!address || !connection || !search)
		return 0;
	if (search->question.protocol == IPPROTO_TCP ? !connection_is_open_tcp(connection)
						     : search->question.protocol != IPPROTO_UDP)
		return 0;
	now_s = search->now_ns / TD_NS_PER_S;
	fqdn_live_extend(address, search->used_selector, search->used_expires_s, now_s);
	slot_is_noted(address, search);
	return 0;
}

#endif /* TANDEM_FQDN_READ_H */
