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
};
extern struct load_options options;
bool load_options_read(int argc, char **argv);

/* histogram.c: microseconds, 1.6 % wide */
enum { HISTOGRAM_BUCKETS = 64 * 27 };
struct histogram {
	uint64_t count, max;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};
void histogram_add(struct histogram *histogram, uint64_t value);
uint64_t histogram_at(const struct histogram *histogram, double share);

#endif
