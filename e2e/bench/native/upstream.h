/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
#ifndef TANDEM_UPSTREAM_H
#define TANDEM_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { UPSTREAM_QUERY_BYTES_MAX = 512, UPSTREAM_REPLY_BYTES_MAX = UPSTREAM_QUERY_BYTES_MAX + 28 };

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

/* upstream.c: turns the query in `bytes` into its reply, in place; 0 if it is no query. */
size_t upstream_reply(uint8_t *bytes, size_t length);

/* upstream-tcp.c: to be served when the descriptor is readable; -1 without a listener. */
bool tcp_listen(const struct sockaddr *address, socklen_t length);
int tcp_epoll_fd(void);
void tcp_serve(void);

#endif
