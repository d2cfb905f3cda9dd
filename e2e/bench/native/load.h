/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
#ifndef TANDEM_LOAD_H
#define TANDEM_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QUERY_BYTES_MAX = 300 };

/* names.c: where queries come from */
struct names {
	const char *format; /* with one %u, or NULL: the list */
	uint32_t start, count; /* generated names: start .. start + count - 1, round and round; 0: no end */
	uint16_t type;
	bool has_edns;
	uint8_t (*list)[QUERY_BYTES_MAX]; /* made queries; their length is in `lengths` */
	uint16_t *lengths;
	size_t list_count;
};
bool names_read(struct names *names, const char *path);
size_t names_query(const struct names *names, uint64_t number, uint16_t id, uint8_t *out);

/* load-options.c */
enum { SOCKETS_MAX = 1024 };
struct load_options {
	struct sockaddr_in6 server; /* or sockaddr_in: the family tells */
	uint64_t rate, window;      /* one of them is 0 */
	uint64_t count, timeout_ns, duration_ns;
	uint32_t sockets, queries_per_port; /* 0: ports live as long as the run */
	struct names names;
	const char *record_path; /* NULL: no records */
	uint16_t connect_port;   /* 0: answers are not used */
	uint32_t connect_every;  /* of so many answers with an address */
};
extern struct load_options options;
bool load_options_read(int argc, char **argv);

/* record.c; in the file as here, little endian */
struct record {
	uint64_t sent_ns; /* CLOCK_MONOTONIC */
	uint32_t number;  /* of the run, from 0 */
	uint32_t latency_us; /* UINT32_MAX: lost */
	uint32_t address;    /* IPv4, network order; 0: none */
	uint32_t connect_us; /* to the address; 0: not tried, UINT32_MAX: failed */
	uint8_t rcode, answers, retransmits, reserved;
	uint16_t source, reserved2; /* number of the socket */
};
_Static_assert(sizeof(struct record) == 32, "what readers expect");
bool records_open(void);
bool records_close(void);
void record_lost(uint64_t sent_ns, uint32_t number, uint16_t source);
void record_answer(int epoll_fd, struct record *record, const uint8_t *reply, size_t length,
		   uint64_t now);
bool is_attempt(const void *pointer);
void attempt_ready(void *pointer, uint64_t now);
bool attempts_pending(uint64_t now);

/* histogram.c: microseconds, 1.6 % wide */
enum { HISTOGRAM_BUCKETS = 64 * 27 };
struct histogram {
	uint64_t count, max;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};
void histogram_add(struct histogram *histogram, uint64_t value);
uint64_t histogram_at(const struct histogram *histogram, double share);

#endif
