/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * learn: the one writer of `fqdn`, run by BPF_PROG_TEST_RUN over the writer's batch in `learn_requests`.
 * Read-modify-write from two processes would lose addresses; here each change is made under the
 * address's lock. An address becomes reachable with this one write and nothing else.
 *
 * It never shortens an expiry, never evicts, and never takes an address of the cluster, of the node or
 * of no single remote host. change_apply() is the part that another program type may call.
 */
#ifndef TANDEM_LEARN_H
#define TANDEM_LEARN_H

#include <tandem/counters.h>
#include <tandem/fqdn_write.h>
#include <tandem/members.h>
#include <tandem/quota.h>

#define TD_LEARN_ATTEMPTS 32
/* EXPIRE frees one slot in each attempt. */
#define TD_EXPIRE_ATTEMPTS (TD_FQDN_PAGES_MAX * TD_FQDN_SELECTORS_MAX + TD_LEARN_ATTEMPTS)

#define TD_AGAIN 0
#define TD_STOP	 1

static __always_inline long change_end(struct change *change, __s32 result)
{
	change->result = result;
	return TD_STOP;
}

/* Needs a free slot: the quota first, so that no page is made for a request that is refused. */
static __always_inline long change_take_quota(struct change *change)
{
	__s32 result = quotas_take(change->namespace_id, change->selector);

	if (result)
		return change_end(change, result);
	change->has_quota = true;
	return TD_AGAIN;
}

static __always_inline long change_make_page(struct change *change, __u32 number)
{
	__s32 result = page_create(change, number);

	return result ? change_end(change, result) : TD_AGAIN;
}

/* ADD, one attempt: extend, or take a quota and try again, or fill a slot, or make a page and try again. */
static long add_attempt(__u32 attempt __attribute__((unused)), struct change *change)
{
	struct td_fqdn_slot *slot;
	struct td_fqdn *first;
	struct pages pages;
	__u32 page_count = 0;

	pages_find(&pages, change);
	first = pages.page[0];
	if (!first)
		return change->has_quota ? change_make_page(change, 0) : change_take_quota(change);
	bpf_spin_lock(&first->lock);
	if (!pages_hold(&pages, change)) {
		bpf_spin_unlock(&first->lock);
		return TD_AGAIN;
	}
	slot = slot_find(&pages, change->selector);
	if (slot) {
		bool is_later = (__s32)(change->expires_s - slot->expires_s) > 0;

		if (is_later)
			WRITE_ONCE(slot->expires_s, change->expires_s);
		bpf_spin_unlock(&first->lock);
		if (is_later)
			count(TD_COUNT_LEARN_EXTENDED);
		return change_end(change, is_later ? TD_LEARN_OK : TD_LEARN_UNCHANGED);
	}
	if (!change->has_quota) {
		bpf_spin_unlock(&first->lock);
		return change_take_quota(change);
	}
	slot = slot_find(&pages, 0);
	if (slot) {
		slot_fill(slot, change);
		bpf_spin_unlock(&first->lock);
		change->has_quota = false; /* the slot has it now */
		count(TD_COUNT_LEARN_ADDED);
		return change_end(change, TD_LEARN_OK);
	}
	TD_EACH_PAGE(&pages, page, number, { page_count += page != NULL; });
	bpf_spin_unlock(&first->lock);
	if (page_count >= TD_FQDN_PAGES_MAX)
		return change_end(change, TD_LEARN_REFUSED_SELECTORS);
	return change_make_page(change, page_count);
}

static __always_inline long free_end(struct change *change)
{
	return change_end(change, change->has_freed ? TD_LEARN_OK : TD_LEARN_ABSENT);
}

/* REMOVE names an expiry: what was answered again since lives on, and the asker hears for how long. */
static __always_inline bool slot_is_kept(const struct td_fqdn_slot *slot, const struct change *change)
{
	return change->op == TD_LEARN_REMOVE && change->expires_s &&
	       (__s32)(slot->expires_s - change->expires_s) > 0;
}

/* What no slot stands for any more must not fill `fqdn_live`: so a namespace has no more there than slots. */
static __always_inline void live_forget(const struct td_addr *address, __u32 selector)
{
	struct td_fqdn_live_key key = { .addr = *address, .selector = selector };

	bpf_map_delete_elem(&fqdn_live, &key);
}

/*
 * REMOVE and EXPIRE, one attempt: free one slot and try again; with none left to free, end, and the
 * address with it if it has no slot at all.
 */
static long free_attempt(__u32 attempt __attribute__((unused)), struct change *change)
{
	struct td_fqdn_slot *slot;
	struct td_fqdn *first;
	struct pages pages;
	bool is_empty;

	pages_find(&pages, change);
	first = pages.page[0];
	if (!first)
		return free_end(change);
	bpf_spin_lock(&first->lock);
	if (!pages_hold(&pages, change)) {
		bpf_spin_unlock(&first->lock);
		return TD_AGAIN;
	}
	slot = change->op == TD_LEARN_REMOVE ? slot_find(&pages, change->selector)
					     : slot_find_idle(&pages, change->expires_s);
	if (slot && slot_is_kept(slot, change)) {
		change->expires_s = slot->expires_s;
		bpf_spin_unlock(&first->lock);
		return change_end(change, TD_LEARN_KEPT);
	}
	if (slot) {
		__u32 namespace_id = slot->namespace_id;
		__u32 selector = slot->selector;

		slot_free(slot);
		bpf_spin_unlock(&first->lock);
		live_forget(&change->key.addr, selector);
		quotas_give_back(namespace_id, selector);
		count(TD_COUNT_LEARN_REMOVED);
		change->has_freed = true;
		return TD_AGAIN;
	}
	is_empty = pages_die_if_empty(&pages);
	bpf_spin_unlock(&first->lock);
	if (is_empty)
		pages_delete(&pages, change);
	return free_end(change);
}

/* Makes one change: key.addr, selector, expires_s, namespace_id and op are given, the rest is zero. */
static __always_inline void change_apply(struct change *change)
{
	change->token = page_token();
	change->result = TD_LEARN_REFUSED_BUSY;
	if (change->op == TD_LEARN_ADD)
		bpf_loop(TD_LEARN_ATTEMPTS, add_attempt, change, 0);
	else
		bpf_loop(TD_EXPIRE_ATTEMPTS, free_attempt, change, 0);
	/* What kept us from the end is a page that another writer is deleting: ours is done. */
	if (change->result == TD_LEARN_REFUSED_BUSY && change->has_freed)
		change->result = TD_LEARN_OK;
	if (change->result < 0)
		pages_abandon(change);
	if (change->has_quota)
		quotas_give_back(change->namespace_id, change->selector);
}

/* Addresses that are no single remote host, whatever the classes say (RFC 6890, RFC 4291). */
static __always_inline bool is_never_a_host(const struct td_addr *address)
{
	__u32 ipv4 = bpf_ntohl(address->a[3]);

	if (!is_ipv4(address))
		return is_multicast6(address) ||
		       ((address->a[0] | address->a[1] | address->a[2]) == 0 && ipv4 <= 1);
	/* 0/8, 127/8, multicast 224/4 and the reserved 240/4 with broadcast */
	return ipv4 >> 24 == 0 || ipv4 >> 24 == 127 || ipv4 >> 28 >= 14;
}

/* Classes for a sleepable program: see classes_inner in maps.h. */
static __always_inline bool is_of_cluster(const struct td_addr *address)
{
	struct td_class_key key = { .prefixlen = 128, .addr = *address };
	struct td_class *class;
	bool result = true; /* no trie: nothing may be learned */
	__u32 zero = 0;
	void *trie;

	bpf_rcu_read_lock();
	trie = bpf_map_lookup_elem(&classes_inner, &zero);
	if (trie) {
		class = bpf_map_lookup_elem(trie, &key);
		result = class && (class->flags & TD_CLASS_NEVER_LEARN);
	}
	bpf_rcu_read_unlock();
	return result;
}

static __always_inline __s32 request_refusal(const struct change *change, bool is_aaaa)
{
	const struct td_addr *address = &change->key.addr;

	if (change->op < TD_LEARN_ADD || change->op > TD_LEARN_EXPIRE)
		return TD_LEARN_REFUSED_REQUEST;
	if (change->op != TD_LEARN_EXPIRE && !(change->selector & TD_SELECTOR_BIT))
		return TD_LEARN_REFUSED_REQUEST;
	if (change->op != TD_LEARN_ADD)
		return TD_LEARN_OK;
	/* an AAAA record with ::ffff:a.b.c.d would open a.b.c.d; an A record is nothing else */
	if (is_aaaa == is_ipv4(address) || is_never_a_host(address) || is_of_cluster(address))
		return TD_LEARN_REFUSED_ADDRESS;
	return TD_LEARN_OK;
}

struct learn_run {
	struct td_learn_args *args;
	struct td_learn_batch *batch;
	bool has_removed; /* before its time */
};

/* One request of the batch. User space may write it meanwhile: each word is read once. */
static __always_inline void learn_one(struct td_learn_request *request, struct learn_run *run)
{
	struct change change = {};

	change.key.addr.a[0] = READ_ONCE(request->addr.a[0]);
	change.key.addr.a[1] = READ_ONCE(request->addr.a[1]);
	change.key.addr.a[2] = READ_ONCE(request->addr.a[2]);
	change.key.addr.a[3] = READ_ONCE(request->addr.a[3]);
	change.selector = READ_ONCE(request->selector);
	change.expires_s = READ_ONCE(request->expires_s);
	change.namespace_id = READ_ONCE(request->namespace_id);
	change.op = READ_ONCE(request->op);
	change.result = request_refusal(&change, READ_ONCE(request->aaaa) != 0);
	if (!change.result)
		change_apply(&change);
	if (change.result < 0) {
		count(TD_COUNT_LEARN_REFUSED);
		run->args->failed++;
	}
	if (change.has_freed && change.op == TD_LEARN_REMOVE)
		run->has_removed = true;
	if (change.result == TD_LEARN_KEPT)
		WRITE_ONCE(request->expires_s, change.expires_s);
	WRITE_ONCE(request->result, change.result);
}

static long learn_request(__u32 index, struct learn_run *run)
{
	if (index >= TD_LEARN_BATCH_MAX)
		return TD_STOP;
	learn_one(&run->batch->request[index], run);
	return TD_AGAIN;
}

SEC("syscall")
int learn(struct td_learn_args *args)
{
	__u32 writer = args->writer;
	__u32 request_count = args->count;
	struct learn_run run = { .args = args };

	run.batch = bpf_map_lookup_elem(&learn_requests, &writer);
	if (!run.batch || request_count > TD_LEARN_BATCH_MAX)
		return -EINVAL;
	args->failed = 0;
	bpf_loop(request_count, learn_request, &run, 0);
	if (run.has_removed) {
		struct td_group *g = group_get();

		if (g) /* members forget what they believe to be in `fqdn` */
			__sync_fetch_and_add(&g->removals, 1);
	}
	return 0;
}

#endif /* TANDEM_LEARN_H */
