/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Stands in for include/tandem/order_trace.h in tests: each step goes to the map `order_steps`, under the lock of the order, so that
 * the steps of all processes are there in the order in which they happened.
 */
#ifndef TANDEM_ORDER_TRACE_H
#define TANDEM_ORDER_TRACE_H

#include <tandem/maps.h>

enum order_step {
	TD_STEP_TAKE,
	TD_STEP_EVICT,
	TD_STEP_REFUSE,
	TD_STEP_SPARE,
	TD_STEP_LINK,
	TD_STEP_FREE,
	TD_STEP_TOUCH,
	TD_STEP_REMOVE,
};

#define TD_STEPS_MAX 262144u /* a power of two; what comes after takes the place of the oldest, and `count` tells it */

struct order_step_entry {
	__u32 step_and_other; /* the step in the low octet */
	__u32 space_and_place; /* the place in the low TD_SLOT_SPACE_SHIFT bits */
};

struct order_steps {
	__u32 count;
	__u32 reserved;
	struct order_step_entry entry[TD_STEPS_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct order_steps);
	__uint(max_entries, 1);
} order_steps SEC(".maps");

struct order_trace {
	struct order_steps *steps;
};

static __always_inline bool order_trace_get(struct order_trace *trace)
{
	__u32 zero = 0;

	trace->steps = bpf_map_lookup_elem(&order_steps, &zero);
	return trace->steps;
}

static __always_inline void order_trace_add(struct order_trace *trace, enum order_step step, __u32 space,
					    __u32 place, __u32 other)
{
	__u32 at = trace->steps->count;

	trace->steps->count = at + 1;
	at &= TD_STEPS_MAX - 1;
	asm volatile("" : "+r"(at));
	at &= TD_STEPS_MAX - 1;
	trace->steps->entry[at].step_and_other = step | other << 8;
	trace->steps->entry[at].space_and_place = space << TD_SLOT_SPACE_SHIFT | place;
}

#endif /* TANDEM_ORDER_TRACE_H */
