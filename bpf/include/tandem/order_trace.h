/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Steps of the order of learned pairs, for tests that compare them with a model. These functions do nothing in the shipped programs: the
 * stand-in that writes steps down is tests/include/tandem/order_trace.h.
 */
#ifndef TANDEM_ORDER_TRACE_H
#define TANDEM_ORDER_TRACE_H

#include <tandem/maps.h>

enum order_step {
	TD_STEP_TAKE,	/* a free place */
	TD_STEP_EVICT,	/* the place of the oldest pair of another space, or of its own */
	TD_STEP_REFUSE,
	TD_STEP_SPARE,
	TD_STEP_LINK,
	TD_STEP_FREE,	/* of a pair that is in no list */
	TD_STEP_TOUCH,
	TD_STEP_REMOVE, /* of a pair that is in a list */
};

struct order_trace {};

static __always_inline bool order_trace_get(struct order_trace *trace __attribute__((unused)))
{
	return true;
}

/* Under the lock. `other`: the space of the victim. */
static __always_inline void order_trace_add(struct order_trace *trace __attribute__((unused)),
					    enum order_step step __attribute__((unused)),
					    __u32 space __attribute__((unused)),
					    __u32 place __attribute__((unused)),
					    __u32 other __attribute__((unused)))
{
}

#endif /* TANDEM_ORDER_TRACE_H */
