/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The lock-free reader of `fqdn`. Elements are reused the moment they are deleted, and slots the moment
 * they are freed, so what was read counts only if afterwards the slot still names the selector and the
 * page still belongs to the address. The loads are ordered by address dependencies; the writer
 * (learn.h) publishes a slot's selector last, by an exchange.
 */
#ifndef TANDEM_FQDN_READ_H
#define TANDEM_FQDN_READ_H

#include <tandem/events.h>
#include <tandem/policy.h>

struct fqdn_search {
	struct question question;
	struct answer answer;
	__u64 now_ns;
	bool is_new;	  /* of a connection that conntrack has not confirmed: expiry counts */
	bool has_expired; /* a selector would have allowed it, had its name not expired */
};

#define LOAD_AFTER(field, value) READ_ONCE(*(typeof(field) *)((void *)&(field) + zero_after(value)))

static __always_inline bool page_is_of(struct td_fqdn *page, const struct td_addr *address, __u64 after)
{
	struct td_addr *self = (void *)&page->self + zero_after(after);

	return ((READ_ONCE(self->a[0]) ^ address->a[0]) | (READ_ONCE(self->a[1]) ^ address->a[1]) |
		(READ_ONCE(self->a[2]) ^ address->a[2]) | (READ_ONCE(self->a[3]) ^ address->a[3])) == 0;
}

/* One slot; true ends the search. */
static __always_inline bool fqdn_slot_answers(struct td_fqdn *page, __u32 index,
					      const struct td_addr *address, struct fqdn_search *search)
{
	struct td_fqdn_slot *slot = &page->slot[index];
	__u32 selector = READ_ONCE(slot->selector);
	struct answer answer;
	__u32 expires_s;

	if (!selector)
		return false;
	answer = policy_ask(&search->question, selector);
	if (answer.verdict != TD_VERDICT_ALLOW)
		return false;
	expires_s = LOAD_AFTER(slot->expires_s, selector);
	if (LOAD_AFTER(slot->selector, expires_s) != selector ||
	    !page_is_of(page, address, expires_s) || LOAD_AFTER(page->dead, expires_s))
		return false;
	if (search->is_new && (__s32)(expires_s - (__u32)(search->now_ns / TD_NS_PER_S)) < 0) {
		search->has_expired = true;
		return false;
	}
	search->answer = answer;
	if ((__s64)(search->now_ns - page->last_used_ns) > (__s64)TD_NS_PER_S)
		page->last_used_ns = search->now_ns;
	return true;
}

/* A global function: the verifier checks its loops once, not for each state of the caller. */
__noinline int fqdn_search_pages(const struct td_addr *address, struct fqdn_search *search)
{
	struct td_fqdn_key key;

	if (!address || !search)
		return 0;
	key.addr = *address;
	search->now_ns = bpf_ktime_get_boot_ns();
	for (__u32 number = 0; number < TD_FQDN_PAGES_MAX; number++) {
		struct td_fqdn *page;

		key.page = number;
		page = bpf_map_lookup_elem(&fqdn, &key);
		if (!page)
			return 0;
		for (__u32 i = 0; i < TD_FQDN_SELECTORS_MAX; i++)
			if (fqdn_slot_answers(page, i, address, search))
				return 1;
		if (!READ_ONCE(page->more))
			return 0;
	}
	return 0;
}

#endif /* TANDEM_FQDN_READ_H */
