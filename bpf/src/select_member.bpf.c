/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * select_member: sk_reuseport on the four groups (UDP and TCP, IPv4 and IPv6). It selects the member for a
 * query or a new connection. A flow's hash keeps the flow on one member while the set of candidates is the same.
 *
 * It prefers LIVE members with a fresh heartbeat that serve the required policy revision, then LIVE and fresh ones, then the
 * LIVE one with the newest heartbeat. If all heartbeats are stale, the machine stalls and not one member, so no packet is
 * dropped for that. A datagram of a pod that sends much goes to the member's second socket (lane.h), if it has one: a member of a
 * version before them has not. As "migrate" program it also moves connections that a closing listener had not accepted.
 */
#ifndef TANDEM_SELECT_MEMBER_H
#define TANDEM_SELECT_MEMBER_H

#include <tandem/connect_queue.h>
#include <tandem/counters.h>
#include <tandem/lane.h>
#include <tandem/members.h>
#include <linux/if_ether.h>

#define TD_NO_INDEX TD_MEMBERS_MAX
#define TD_ALL_MEMBERS ((1u << TD_MEMBERS_MAX) - 1)

/* Members as bit sets. */
struct candidates {
	__u32 current; /* LIVE, fresh, serving the required revision */
	__u32 fresh;   /* LIVE, fresh */
	__u32 live;
};

/*
 * The sets, one after the other from the lowest bit on. A global function, like nth_member, so that the verifier checks each of the
 * two once, and not within select_member for each state of each member.
 */
__noinline int candidates_of(void)
{
	struct td_group *g = group_get();
	__u64 now = bpf_ktime_get_ns();
	__u32 sets = 0;
	__u32 required;

	if (!g)
		return 0;
	required = READ_ONCE(g->required_revision);
	for (__u32 i = 0; i < TD_MEMBERS_MAX; i++) {
		struct td_member *member = &g->member[i];

		if (!member_is_live(member))
			continue;
		sets |= 1u << (2 * TD_MEMBERS_MAX + i);
		if ((__s64)(now - READ_ONCE(member->beat_ns)) >= (__s64)td_config.stale_ns)
			continue;
		sets |= 1u << (TD_MEMBERS_MAX + i);
		if ((__s32)(READ_ONCE(member->revision) - required) >= 0)
			sets |= 1u << i;
	}
	return sets;
}

__noinline int nth_member(__u32 set, __u32 hash)
{
	__u32 size = 0;
	__u32 n;

	for (__u32 i = 0; i < TD_MEMBERS_MAX; i++)
		size += set >> i & 1;
	if (!size)
		return TD_NO_INDEX;
	n = hash % size;
	for (__u32 i = 0; i < TD_MEMBERS_MAX; i++) {
		if (!(set >> i & 1))
			continue;
		if (n == 0)
			return i;
		n--;
	}
	return TD_NO_INDEX;
}

static __always_inline __u32 freshest_member(struct td_group *g, __u32 set)
{
	__u32 best = TD_NO_INDEX;
	__u64 best_beat = 0;

	for (__u32 i = 0; i < TD_MEMBERS_MAX; i++) {
		__u64 beat = READ_ONCE(g->member[i].beat_ns);

		if (!(set >> i & 1))
			continue;
		if (best == TD_NO_INDEX || (__s64)(beat - best_beat) > 0) {
			best = i;
			best_beat = beat;
		}
	}
	return best;
}

static __always_inline __u32 listener_kind(struct sk_reuseport_md *packet)
{
	bool is_tcp = packet->ip_protocol == IPPROTO_TCP;

	if (packet->eth_protocol == bpf_htons(ETH_P_IPV6))
		return is_tcp ? TD_TCP6 : TD_UDP6;
	return is_tcp ? TD_TCP4 : TD_UDP4;
}

static __always_inline bool select_heavy(struct sk_reuseport_md *packet, __u32 member)
{
	__u32 kind = packet->eth_protocol == bpf_htons(ETH_P_IPV6) ? TD_UDP6_HEAVY : TD_UDP4_HEAVY;
	__u32 index = (kind - TD_KINDS) * TD_MEMBERS_MAX + member;

	if (bpf_sk_select_reuseport(packet, &heavy_listeners, &index, 0))
		return false;
	count(TD_COUNT_SELECTED_HEAVY);
	return true;
}

SEC("sk_reuseport/migrate")
int select_member(struct sk_reuseport_md *packet)
{
	__u32 first = listener_kind(packet) * TD_MEMBERS_MAX;
	struct td_group *g = group_get();
	bool is_heavy = lane_is_heavy(packet);
	struct candidates c;
	__u32 sets;

	if (!g)
		return SK_DROP;
	sets = candidates_of();
	c.current = sets & TD_ALL_MEMBERS;
	c.fresh = sets >> TD_MEMBERS_MAX & TD_ALL_MEMBERS;
	c.live = sets >> 2 * TD_MEMBERS_MAX & TD_ALL_MEMBERS;
	for (__u32 attempt = 0; attempt < TD_MEMBERS_MAX; attempt++) {
		__u32 set = c.current ? c.current : c.fresh;
		__u32 member = set ? nth_member(set, packet->hash) : freshest_member(g, c.live);
		__u32 index = first + member;

		if (member >= TD_MEMBERS_MAX)
			break;
		if ((is_heavy && select_heavy(packet, member)) ||
		    !bpf_sk_select_reuseport(packet, &listeners, &index, 0)) {
			if (packet->ip_protocol == IPPROTO_TCP)
				connect_queue_note(packet, member);
			count(set ? TD_COUNT_SELECTED : TD_COUNT_SELECTED_STALE);
			return SK_PASS;
		}
		/* LIVE, but its socket is gone (-ENOENT): the next best */
		c.current &= ~(1u << member);
		c.fresh &= ~(1u << member);
		c.live &= ~(1u << member);
	}
	count(TD_COUNT_DROP_NO_MEMBER);
	return SK_DROP;
}

#endif /* TANDEM_SELECT_MEMBER_H */
