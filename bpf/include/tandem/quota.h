/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Quotas of learned addresses (safety rule 17): every occupied slot of `fqdn` is counted once against
 * the namespace that learned it and once against its selector. A place is taken before the slot is
 * written and given back after the slot is freed, so a count is never below what is stored, and equals
 * it whenever no request runs. Over the limit means refused: nothing of anybody else is evicted.
 *
 * Namespaces share a selector when they name the same pattern. So that none of them can take all of its
 * places, the selector's limit does not bind a namespace that uses no more than an eighth of its own.
 */
#ifndef TANDEM_QUOTA_H
#define TANDEM_QUOTA_H

#include <tandem/maps.h>

static __always_inline struct td_quota *quota_get(__u32 key, __u32 limit)
{
	struct td_quota fresh = { .used = 0, .limit = limit, .refused = 0 };
	struct td_quota *quota = bpf_map_lookup_elem(&quotas, &key);

	if (quota)
		return quota;
	bpf_map_update_elem(&quotas, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&quotas, &key);
}

/* 0, `refusal`, or TD_LEARN_REFUSED_FULL when `quotas` itself has no room. */
static __always_inline __s32 quota_take(__u32 key, __u32 limit, __s32 refusal)
{
	struct td_quota *quota = quota_get(key, limit);

	if (!quota)
		return TD_LEARN_REFUSED_FULL;
	if (__sync_fetch_and_add(&quota->used, 1) < READ_ONCE(quota->limit))
		return 0;
	__sync_fetch_and_add(&quota->used, -1);
	__sync_fetch_and_add(&quota->refused, 1);
	return refusal;
}

static __always_inline void quota_give_back(__u32 key)
{
	struct td_quota *quota = bpf_map_lookup_elem(&quotas, &key);

	if (quota)
		__sync_fetch_and_add(&quota->used, -1);
}

static __always_inline bool quota_is_modest(__u32 namespace_id)
{
	struct td_quota *quota = bpf_map_lookup_elem(&quotas, &namespace_id);

	return quota && READ_ONCE(quota->used) <= READ_ONCE(quota->limit) >> 3;
}

/* A place over the limit; the quota is there, or the limit would not have been met. */
static __always_inline void quota_take_reserved(__u32 key)
{
	struct td_quota *quota = bpf_map_lookup_elem(&quotas, &key);

	if (quota)
		__sync_fetch_and_add(&quota->used, 1);
}

/* Both places or neither. */
static __always_inline __s32 quotas_take(__u32 namespace_id, __u32 selector)
{
	__s32 result = quota_take(namespace_id, td_config.quota_namespace,
				  TD_LEARN_REFUSED_NAMESPACE);

	if (result)
		return result;
	result = quota_take(selector, td_config.quota_selector, TD_LEARN_REFUSED_SELECTOR);
	if (result == TD_LEARN_REFUSED_SELECTOR && quota_is_modest(namespace_id)) {
		quota_take_reserved(selector);
		return 0;
	}
	if (result)
		quota_give_back(namespace_id);
	return result;
}

static __always_inline void quotas_give_back(__u32 namespace_id, __u32 selector)
{
	quota_give_back(namespace_id);
	quota_give_back(selector);
}

#endif /* TANDEM_QUOTA_H */
