/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * learn: the one writer of `fqdn`, run by BPF_PROG_TEST_RUN over the writer's batch in `learn_requests`.
 * Read-modify-write from two processes would lose addresses, so each change is made under the
 * address's lock. An address becomes reachable by this one write.
 *
 * It refuses addresses of the cluster and of the node, and those that are not one remote host's. How a change is made: change.h.
 */
#ifndef TANDEM_LEARN_H
#define TANDEM_LEARN_H

#include <tandem/change.h>
#include <tandem/counters.h>
#include <tandem/learnable.h>
#include <tandem/members.h>

static __always_inline __s32 request_refusal(const struct change *change, bool is_aaaa)
{
	const struct td_addr *address = &change->name.addr;

	if (change->op < TD_LEARN_ADD || change->op > TD_LEARN_EXPIRE)
		return TD_LEARN_REFUSED_REQUEST;
	if (change->op != TD_LEARN_EXPIRE && !(change->name.selector & TD_SELECTOR_BIT))
		return TD_LEARN_REFUSED_REQUEST;
	if (change->op != TD_LEARN_ADD)
		return TD_LEARN_OK;
	/* an AAAA record with ::ffff:a.b.c.d would open a.b.c.d; an A record is nothing else */
	if (is_aaaa == is_ipv4(address) || is_refused_address(address))
		return TD_LEARN_REFUSED_ADDRESS;
	if (is_aaaa && leads_to_refused(address))
		return TD_LEARN_REFUSED_ADDRESS;
	return TD_LEARN_OK;
}

struct learn_run {
	struct td_learn_args *args;
	struct td_learn_batch *batch;
	__u32 writer;
	bool has_removed; /* before its time */
};

/* One request of the batch. User space may write it meanwhile: each word is read once. */
static __always_inline void learn_one(struct td_learn_request *request, struct learn_run *run)
{
	struct change change = {};

	change.name.addr.a[0] = READ_ONCE(request->addr.a[0]);
	change.name.addr.a[1] = READ_ONCE(request->addr.a[1]);
	change.name.addr.a[2] = READ_ONCE(request->addr.a[2]);
	change.name.addr.a[3] = READ_ONCE(request->addr.a[3]);
	change.name.selector = READ_ONCE(request->selector);
	change.expires_s = READ_ONCE(request->expires_s);
	change.op = READ_ONCE(request->op);
	change.writer = run->writer;
	change.result = request_refusal(&change, READ_ONCE(request->aaaa) != 0);
	if (!change.result) {
		if (change.op == TD_LEARN_ADD && !READ_ONCE(request->offered))
			change.name.space = space_of(READ_ONCE(request->namespace_id));
		change.is_offered = change.name.space == TD_SPACE_OFFERS;
		change_apply(&change);
	}
	if (change.result < 0) {
		count(TD_COUNT_LEARN_REFUSED);
		run->args->failed++;
	}
	run->args->evicted += change.evicted;
	if (change.evicted || (change.has_freed && change.op == TD_LEARN_REMOVE))
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
	struct learn_run run = { .args = args, .writer = writer };

	run.batch = bpf_map_lookup_elem(&learn_requests, &writer);
	if (!run.batch || request_count > TD_LEARN_BATCH_MAX)
		return -EINVAL;
	args->failed = 0;
	args->evicted = 0;
	bpf_loop(request_count, learn_request, &run, 0);
	if (run.has_removed) {
		struct td_group *g = group_get();

		if (g) /* members forget what they believe to be in `fqdn` */
			__sync_fetch_and_add(&g->removals, 1);
	}
	return 0;
}

#endif /* TANDEM_LEARN_H */
