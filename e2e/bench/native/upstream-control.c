/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Orders of a chaos run to the server while it serves, and the server's messages, a line each:
 * "lost NAME" of a query that it was told not to answer, "seen NAME" of a name that should never have
 * got here, "ok" after an order, and the counts.
 */
#include "upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_BYTES = 12, NAME_MAX_BYTES = 256, PER_MILLE = 1000 };

struct behaviour behaviour;
static unsigned long long queries, lost, seen;

static void obey(const char *order)
{
	unsigned long long number;

	if (sscanf(order, "delay-us %llu", &number) == 1)
		behaviour.delay_ns = number * 1000u;
	else if (sscanf(order, "loss %llu", &number) == 1 && number <= PER_MILLE)
		behaviour.loss_per_mille = (unsigned)number;
	else if (strcmp(order, "stats") == 0)
		printf("{\"queries\":%llu,\"lost\":%llu,\"seen\":%llu}\n", queries, lost, seen);
	else
		printf("error %s\n", order);
	puts("ok");
	fflush(stdout);
}

bool control_read(void)
{
	static char line[128];
	static size_t used;
	ssize_t got = read(STDIN_FILENO, line + used, sizeof(line) - 1 - used);
	char *end;

	if (got <= 0)
		return false;
	used += (size_t)got;
	line[used] = '\0';
	while ((end = strchr(line, '\n')) != NULL) {
		*end = '\0';
		obey(line);
		used -= (size_t)(end + 1 - line);
		memmove(line, end + 1, used + 1);
	}
	if (used == sizeof(line) - 1)
		used = 0; /* no order is that long */
	return true;
}

/* The name in dots, lower case as it came; cut where it does not fit. */
static void read_name(const uint8_t *query, size_t length, char *name)
{
	size_t at = HEADER_BYTES, out = 0;

	while (at < length && query[at] != 0 && query[at] < 64) {
		size_t label = query[at++];

		if (at + label > length || out + label + 2 > NAME_MAX_BYTES)
			break;
		out += (size_t)(out > 0);
		memcpy(name + out, query + at, label);
		out += label;
		name[out] = '.';
		at += label;
	}
	name[out] = '\0';
}

bool control_answers(const uint8_t *query, size_t length)
{
	char name[NAME_MAX_BYTES];
	bool is_lost = behaviour.loss_per_mille > 0 &&
		       (unsigned)(random() % PER_MILLE) < behaviour.loss_per_mille;

	queries++;
	if (!is_lost && behaviour.watched == NULL)
		return true;
	read_name(query, length, name);
	if (is_lost) {
		lost++;
		printf("lost %s\n", name);
	}
	if (behaviour.watched != NULL) {
		size_t suffix = strlen(behaviour.watched), all = strlen(name);

		if (all >= suffix && strcmp(name + all - suffix, behaviour.watched) == 0) {
			seen++;
			printf("seen %s\n", name);
			fflush(stdout);
		}
	}
	return !is_lost;
}
