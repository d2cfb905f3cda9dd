/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* A rate with a bounded burst, as one word of state. */
#ifndef TANDEM_PACE_H
#define TANDEM_PACE_H

#include <tandem/kernel.h>

#define TD_NS_PER_S 1000000000ull

#define TD_PACE_TRIES 3

/*
 * Virtual scheduling (ITU-T I.371, GCRA): `spent` is the time up to which all is spent, in ns, at most `burst` ns ahead of
 * `now` when something more is taken. True: `cost` ns were taken. Who loses the race for it against other CPUs too often has none.
 */
static __always_inline bool pace_take(__u64 *spent, __u64 cost, __u64 burst, __u64 now)
{
	for (int i = 0; i < TD_PACE_TRIES; i++) {
		__u64 seen = READ_ONCE(*spent);
		__u64 start = (__s64)(now - seen) > 0 ? now : seen;

		if ((__s64)(start - now) >= (__s64)burst)
			return false;
		if (__sync_val_compare_and_swap(spent, seen, start + cost) == seen)
			return true;
	}
	return false;
}

#endif /* TANDEM_PACE_H */
