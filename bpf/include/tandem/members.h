/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* The state of the socket group's members as its mmap-able array shows it; user space writes it. */
#ifndef TANDEM_MEMBERS_H
#define TANDEM_MEMBERS_H

#include <tandem/maps.h>

static __always_inline struct td_group *group_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&group, &zero);
}

static __always_inline bool member_is_live(struct td_member *member)
{
	return READ_ONCE(member->state) == TD_MEMBER_LIVE;
}

/* By state alone: a stale beat is a preference of select_member, never a reason to drop. */
static __always_inline bool group_has_live(void)
{
	struct td_group *g = group_get();

	if (!g)
		return false;
	for (__u32 i = 0; i < TD_MEMBERS_MAX; i++)
		if (member_is_live(&g->member[i]))
			return true;
	return false;
}

#endif /* TANDEM_MEMBERS_H */
