/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Counts events of packets and requests; TD_COUNTERS in abi.h is the list of counters. */
#ifndef TANDEM_COUNTERS_H
#define TANDEM_COUNTERS_H

#include <tandem/maps.h>

/*
 * Atomic although per CPU: netfilter programs run in process context too, where a softirq of the same
 * CPU may come between the load and the store.
 */
static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		__sync_fetch_and_add(value, 1);
}

#endif /* TANDEM_COUNTERS_H */
