/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Part of abi.h: the order of learned pairs. Frozen. */
#ifndef TANDEM_ABI_LEARNED_H
#define TANDEM_ABI_LEARNED_H

/* ---- learned_pairs: 0 -> all td_pair, mmap-able ----------------------------------------------- */
/*
 * The order of age (docs/adr/0011-one-order.md): a pair for each slot that `learn` wrote, in a list of its namespace, longest
 * untouched first. Written by `learn` alone, under the lock of learned_order.
 */
enum td_pair_state {
	TD_PAIR_FREE = 0,
	TD_PAIR_TAKEN = 1,  /* its slot is being written; in no list */
	TD_PAIR_LINKED = 2, /* in the list of its space */
	TD_PAIR_GONE = 3,   /* its slot was removed while it was taken */
};
struct td_pair {
	struct td_addr addr;
	__u32 selector;
	__u32 space;
	__u32 previous; /* 0: none */
	__u32 next;
	__u32 state; /* td_pair_state */
	__u32 touched; /* td_order.sequence of its last answer, wraps */
};

/* ---- learned_order: 0 -> td_order ------------------------------------------------------------- */
/* Learned pairs of a namespace. Space 0 is the pool of offers: pairs that no policy of the asker names. */
struct td_space {
	__u32 namespace_id;
	__u32 head; /* the longest untouched pair */
	__u32 tail;
	__u32 used;
	__u32 share; /* guaranteed: so many pairs are never taken by others */
	__u32 limit; /* with so many, a new pair replaces the oldest own one */
	__u32 over_previous; /* in the list of spaces that have more than their share */
	__u32 over_next;
	__u32 is_over;
	__u32 replaced; /* own pairs that made room for own newer ones; wraps, as the two below */
	__u32 yielded;  /* pairs that made room for other namespaces */
	__u32 refused;  /* pairs that found no room */
	/*
	 * Nothing of this space: how often a slot was filled at an address with this hash (fqdn_fills.h), wraps. It is
	 * here so that one map holds all that `learn` reports to judge of its changes.
	 */
	__u32 filled;
	__u32 reserved[3];
};
struct td_order {
#ifdef __bpf__
	struct bpf_spin_lock lock;
#else
	__u32 lock;
#endif
	__u32 free;       /* first free pair, linked by next */
	__u32 used_pairs; /* pairs 1 .. used_pairs were in use at some time */
	__u32 over_head;  /* who gives next */
	__u32 over_tail;
	__u32 sequence;
	__u32 used_spaces; /* spaces 1 .. used_spaces were in use at some time */
	__u32 free_space;  /* first free space, linked by over_next */
	__s32 extra_pages; /* pages of fqdn beside the first of their address; changed without the lock */
	/* A `learn` of before these two words moves `sequence` alone, and does not report what it filled (fqdn_fills.h). */
	__u32 told;   /* `sequence` after the last step of a `learn` that counts td_space.filled */
	__u32 untold; /* how often `sequence` was found to have moved without `told`, wraps */
	__u32 reserved[5];
	struct td_space space[TD_SPACES_MAX];
};

/* ctx of the SYSCALL program `share`: sets both numbers of a namespace. Without limit and pairs it is forgotten. */
struct td_share_args {
	__u32 namespace_id;
	__u32 share;
	__u32 limit;
	__u32 reserved;
};

#endif /* TANDEM_ABI_LEARNED_H */
