/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The slot that allowed a packet, by a hash of its policy question and its address. The next packet with the same question
 * tries this slot first, however many slots of other policies come before it.
 *
 * A hint proves nothing: `judge` checks the slot as the search would, and searches if it does not match. So a stale or torn
 * word, or one of another question, costs one lookup and allows nothing.
 */
#ifndef TANDEM_FQDN_HINT_H
#define TANDEM_FQDN_HINT_H

#include <tandem/maps.h>
#include <tandem/policy.h>

/* A word of fqdn_hints: the tag, a bit that tells it from an empty one, and the slot, counted through all pages. */
#define TD_HINT_SLOTS 64u
#define TD_HINT_USED  64u
#define TD_HINT_TAG   (~(TD_HINT_SLOTS | TD_HINT_USED | (TD_HINT_SLOTS - 1)))
_Static_assert(TD_FQDN_PAGES_MAX *TD_FQDN_SELECTORS_MAX == TD_HINT_SLOTS, "a slot has six bits");

/*
 * Multiplication by odd constants (Knuth, volume 3, 6.4), keyed: a tenant chooses names and their addresses, and must not find
 * questions that take the words of another's.
 */
static __always_inline __u64 hint_hash(const struct question *q, const struct td_addr *address)
{
	__u64 high = (__u64)address->a[0] << 32 | address->a[1];
	__u64 low = (__u64)address->a[2] << 32 | address->a[3];
	__u64 asked = (__u64)q->policy_id << 32 | (__u32)q->protocol << 16 | q->port;
	__u64 hash = (low ^ td_config.hash_key ^ asked * 0x9e3779b97f4a7c15ull) * 0xc2b2ae3d27d4eb4full;

	return (hash ^ hash >> 29 ^ high) * 0x165667b19e3779f9ull;
}

static __always_inline __u32 *hint_word(__u64 hash)
{
	__u32 index = hash >> 51 & (TD_HINTS_MAX - 1);

	return bpf_map_lookup_elem(&fqdn_hints, &index);
}

static __always_inline __u32 hint_tag(__u64 hash)
{
	return (hash >> 19 & TD_HINT_TAG) | TD_HINT_USED;
}

/* The slot that answered last, or TD_HINT_SLOTS. */
static __always_inline __u32 hint_read(__u64 hash)
{
	__u32 *word = hint_word(hash);
	__u32 slot = word ? READ_ONCE(*word) ^ hint_tag(hash) : TD_HINT_SLOTS;

	return slot < TD_HINT_SLOTS ? slot : TD_HINT_SLOTS;
}

static __always_inline void hint_write(__u64 hash, __u32 slot)
{
	__u32 *word = hint_word(hash);

	if (word)
		WRITE_ONCE(*word, hint_tag(hash) | (slot & (TD_HINT_SLOTS - 1)));
}

#endif /* TANDEM_FQDN_HINT_H */
