/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Counts of occupied slots by selector, for the version before: its `learn` refuses by them, and would count
 * below zero what it had not counted itself. This version refuses by td_space alone (order.h).
 */
#ifndef TANDEM_QUOTA_H
#define TANDEM_QUOTA_H

#include <tandem/maps.h>

static __always_inline void quota_take(__u32 selector)
{
	struct td_quota *quota = bpf_map_lookup_elem(&quotas, &selector);

	if (!quota) {
		struct td_quota fresh = { .used = 0, .limit = td_config.quota_selector, .refused = 0 };

		bpf_map_update_elem(&quotas, &selector, &fresh, BPF_NOEXIST);
		quota = bpf_map_lookup_elem(&quotas, &selector);
	}
	if (quota)
		__sync_fetch_and_add(&quota->used, 1);
}

static __always_inline void quota_give_back(__u32 key)
{
	struct td_quota *quota = bpf_map_lookup_elem(&quotas, &key);

	if (quota)
		__sync_fetch_and_add(&quota->used, -1);
}

#endif /* TANDEM_QUOTA_H */
