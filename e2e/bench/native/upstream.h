/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
#ifndef TANDEM_UPSTREAM_H
#define TANDEM_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the server behaves from now on; orders on standard input change it (--control). */
struct behaviour {
	uint64_t delay_ns;
	unsigned loss_per_mille; /* of the queries, 1000: all */
	const char *watched;     /* a suffix of names, or NULL */
};
extern struct behaviour behaviour;

/* Reads orders, a line each: "delay-us N", "loss N", "stats". False at the end of input. */
bool control_read(void);
/* Whether this query is to be answered; says so of those that are not, and of watched names. */
bool control_answers(const uint8_t *query, size_t length);

#endif
