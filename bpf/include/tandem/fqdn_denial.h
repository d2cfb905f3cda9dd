/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Questions that no selector of an address allows (docs/adr/0020-denials.md). A denied packet costs a search through all
 * selectors of its destination, of all tenants, once; the next packets with the same question are answered from here.
 *
 * A denial must never outlive what it says. So it is of one whole question, not of a hash; it is believed only while its
 * stamp is the one of now (fqdn_fills.h), which was read before the search; and for at most 2^30 ns, a good second. What a search denied
 * because a name has expired is not noted: use of the address may make it valid again.
 */
#ifndef TANDEM_FQDN_DENIAL_H
#define TANDEM_FQDN_DENIAL_H

#include <tandem/fqdn_fills.h>
#include <tandem/fqdn_hint.h>

/* 2^30 ns: a division costs more. */
#define TD_DENIAL_TIME_SHIFT 30

static __always_inline __u32 denial_time(__u64 now_ns)
{
	return now_ns >> TD_DENIAL_TIME_SHIFT;
}

static __always_inline __u32 denial_asked(const struct question *q)
{
	return (__u32)q->direction << 24 | (__u32)q->protocol << 16 | q->port;
}

/* The entry of a question. Another question's denial may overwrite it: this costs one of the two a search. */
static __always_inline struct denial *denial_of(const struct question *q, const struct td_addr *address)
{
	__u32 index = hint_hash(q, address) >> 52 & (TD_DENIALS_MAX - 1);

	return bpf_map_lookup_elem(&fqdn_denials, &index);
}
_Static_assert(TD_DENIALS_MAX == 1 << 12, "the hash has twelve bits");

/* Read without a lock: `sequence` was even before, and is the same after. */
static __always_inline bool denial_is(struct denial *denial, const struct question *q,
				      const struct td_addr *address, __u32 stamp, __u32 time)
{
	__u32 sequence = READ_ONCE(denial->sequence);
	struct denial *seen = (void *)denial + zero_after(sequence);
	__u32 difference;

	difference = (READ_ONCE(seen->stamp) ^ stamp) | (READ_ONCE(seen->time) ^ time) |
		     (READ_ONCE(seen->policy_id) ^ q->policy_id) |
		     (READ_ONCE(seen->asked) ^ denial_asked(q)) |
		     (READ_ONCE(seen->address.a[0]) ^ address->a[0]) |
		     (READ_ONCE(seen->address.a[1]) ^ address->a[1]) |
		     (READ_ONCE(seen->address.a[2]) ^ address->a[2]) |
		     (READ_ONCE(seen->address.a[3]) ^ address->a[3]);
	/* all zero is no denial: a question has a direction */
	return (difference | (sequence & 1)) == 0 &&
	       LOAD_AFTER(denial->sequence, difference) == sequence;
}

/* One of two concurrent writers gives up. The program cannot end between the first step and the last. */
static __always_inline void denial_write(struct denial *denial, const struct question *q,
					 const struct td_addr *address, __u32 stamp, __u32 time)
{
	__u32 sequence = READ_ONCE(denial->sequence);

	if (sequence & 1 ||
	    __sync_val_compare_and_swap(&denial->sequence, sequence, sequence + 1) != sequence)
		return;
	WRITE_ONCE(denial->stamp, stamp);
	WRITE_ONCE(denial->time, time);
	WRITE_ONCE(denial->policy_id, q->policy_id);
	WRITE_ONCE(denial->asked, denial_asked(q));
	WRITE_ONCE(denial->address.a[0], address->a[0]);
	WRITE_ONCE(denial->address.a[1], address->a[1]);
	WRITE_ONCE(denial->address.a[2], address->a[2]);
	WRITE_ONCE(denial->address.a[3], address->a[3]);
	__sync_lock_test_and_set(&denial->sequence, sequence + 2);
}

#endif /* TANDEM_FQDN_DENIAL_H */
