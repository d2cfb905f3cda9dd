/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Addresses that stay usable after their names expired, because an established connection uses them
 * (docs/adr/0010-addresses-in-use.md). Use is noted by address and selector, so the traffic of one policy keeps nothing
 * for another policy that does not name the same selector. The caller decides which packets count as use: the
 * pod's own packets of a connection that was answered, so neither replies nor denied packets.
 */
#ifndef TANDEM_FQDN_LIVE_H
#define TANDEM_FQDN_LIVE_H

#include <tandem/maps.h>

static __always_inline void live_count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&fqdn_live_counters, &counter);

	if (value)
		*value += 1;
}

/* Written and read as one word with the time that it vouches for. */
static __always_inline __u32 live_check(const struct td_fqdn_live_key *key)
{
	return key->addr.a[0] ^ key->addr.a[1] ^ key->addr.a[2] ^ key->addr.a[3] ^ key->selector;
}

/* May an address that expired at `expires_s` take a new connection by this selector? */
static __always_inline bool fqdn_is_live(const struct td_addr *address, __u32 selector,
					 __u32 expires_s, __u32 now_s)
{
	struct td_fqdn_live_key key = { .addr = *address, .selector = selector };
	struct td_fqdn_live *live;
	union {
		struct td_fqdn_live live;
		__u64 word;
	} seen;

	if (now_s - expires_s >= td_config.fqdn_live_s)
		return false;
	live = bpf_map_lookup_elem(&fqdn_live, &key);
	if (!live)
		return false;
	seen.word = READ_ONCE(*(__u64 *)live);
	/* unsigned: neither past, nor further ahead than any use can reach */
	return seen.live.check == live_check(&key) &&
	       seen.live.until_s - now_s - 1 < td_config.fqdn_live_idle_s;
}

/* A connection uses the address now. */
static __always_inline void fqdn_live_extend(const struct td_addr *address, __u32 selector,
					     __u32 expires_s, __u32 now_s)
{
	struct td_fqdn_live_key key = { .addr = *address, .selector = selector };
	struct td_fqdn_live live = {
		.until_s = now_s + td_config.fqdn_live_idle_s,
		.check = live_check(&key),
	};

	/* the name itself lasts longer, or the time is over in which use counts */
	if ((__s32)(live.until_s - expires_s) <= 0 ||
	    (__s32)(now_s - expires_s) >= (__s32)td_config.fqdn_live_s)
		return;
	if (bpf_map_update_elem(&fqdn_live, &key, &live, BPF_ANY))
		live_count(TD_LIVE_FULL);
}

#endif /* TANDEM_FQDN_LIVE_H */
