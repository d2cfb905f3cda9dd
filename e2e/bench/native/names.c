/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Queries from a file of names or from a numbered pattern. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DNS_HEADER_BYTES = 12, LABEL_BYTES_MAX = 63, NAMES_MAX = 2000000, OPT_BYTES = 11 };

/* Length of the query for a dotted name, 0 if the name is too long or has an empty label. */
static size_t make_query(const char *name, uint16_t type, bool has_edns, uint8_t *out)
{
	static const uint8_t opt[OPT_BYTES] = { 0, 0, 41, 1232 >> 8, 1232 & 255 };
	size_t at = DNS_HEADER_BYTES;

	if (strlen(name) > 253)
		return 0;
	memset(out, 0, DNS_HEADER_BYTES);
	out[2] = 1; /* recursion desired */
	out[5] = 1; /* one question */
	out[11] = has_edns;
	while (*name != '\0') {
		size_t length = strcspn(name, ".");

		if (length == 0 || length > LABEL_BYTES_MAX)
			return 0;
		out[at++] = (uint8_t)length;
		memcpy(out + at, name, length);
		at += length;
		name += length + (name[length] == '.');
	}
	out[at++] = 0;
	out[at++] = (uint8_t)(type >> 8);
	out[at++] = (uint8_t)type;
	out[at++] = 0;
	out[at++] = 1;
	if (has_edns) {
		memcpy(out + at, opt, sizeof(opt));
		at += sizeof(opt);
	}
	return at;
}

/* Reads one name a line. */
bool names_read(struct names *names, const char *path)
{
	FILE *file = fopen(path, "r");
	size_t capacity = 0;
	char line[512];

	if (file == NULL)
		return false;
	while (fgets(line, sizeof(line), file) != NULL && names->list_count < NAMES_MAX) {
		size_t length;

		line[strcspn(line, "\r\n")] = '\0';
		if (names->list_count == capacity) {
			capacity = capacity == 0 ? 1024 : capacity * 2;
			names->list = realloc(names->list, capacity * sizeof(*names->list));
			names->lengths = realloc(names->lengths, capacity * sizeof(*names->lengths));
			if (names->list == NULL || names->lengths == NULL)
				break;
		}
		length = make_query(line, names->type, names->has_edns, names->list[names->list_count]);
		if (length > DNS_HEADER_BYTES + 5)
			names->lengths[names->list_count++] = (uint16_t)length;
	}
	fclose(file);
	return names->list_count > 0;
}

/* The query number `number` of the run, with this id; 0 if the pattern makes no name. */
size_t names_query(const struct names *names, uint64_t number, uint16_t id, uint8_t *out)
{
	size_t length;
	char name[512];

	if (names->format == NULL) {
		size_t i = number % names->list_count;

		length = names->lengths[i];
		memcpy(out, names->list[i], length);
	} else {
		const char *hole = strstr(names->format, "%u");
		uint64_t turn = names->count == 0 ? number : number % names->count;

		snprintf(name, sizeof(name), "%.*s%u%s", (int)(hole - names->format), names->format,
			 (uint32_t)(names->start + turn), hole + 2);
		length = make_query(name, names->type, names->has_edns, out);
	}
	out[0] = (uint8_t)(id >> 8);
	out[1] = (uint8_t)id;
	return length;
}
