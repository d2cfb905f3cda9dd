/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* As much DNS as `bulk` needs: a query for a name, the first address of a reply. */
#include "probe.h"

#include <string.h>

enum { DNS_HEADER_BYTES = 12, DNS_LABEL_BYTES_MAX = 63 };

static uint16_t read16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void write16(uint8_t *bytes, uint16_t value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

/* Length of the query with RD set, 0 if the name (dotted, no escapes) does not fit. */
size_t dns_query(uint8_t *out, size_t size, uint16_t id, const char *name, uint16_t type)
{
	size_t at = DNS_HEADER_BYTES;

	if (strlen(name) + 2 + 4 + DNS_HEADER_BYTES > size)
		return 0;
	memset(out, 0, DNS_HEADER_BYTES);
	write16(out, id);
	out[2] = 1;
	out[5] = 1;
	while (*name != '\0') {
		size_t length = strcspn(name, ".");

		if (length == 0 || length > DNS_LABEL_BYTES_MAX)
			return 0;
		out[at++] = (uint8_t)length;
		memcpy(out + at, name, length);
		at += length;
		name += length + (name[length] == '.');
	}
	out[at++] = 0;
	write16(out + at, type);
	write16(out + at + 2, 1);
	return at + 4;
}

/* Offset after the name at `at`; a pointer ends it. 0 if it leaves the message. */
static size_t skip_name(const uint8_t *bytes, size_t length, size_t at)
{
	while (at < length) {
		if (bytes[at] == 0)
			return at + 1;
		if ((bytes[at] & 0xc0) == 0xc0)
			return at + 2;
		at += (size_t)bytes[at] + 1;
	}
	return 0;
}

/* Bytes of the first address of `type` (4 or 16), 0 if there is none, the rcode negated if not 0. */
int dns_first_address(const uint8_t *reply, size_t length, uint16_t type, uint8_t address[16])
{
	size_t at = DNS_HEADER_BYTES;
	uint16_t answers;

	if (length < DNS_HEADER_BYTES || (reply[2] & 0x80) == 0)
		return 0;
	if ((reply[3] & 15) != 0)
		return -(reply[3] & 15);
	answers = read16(reply + 6);
	for (uint16_t i = read16(reply + 4); i > 0; i--) {
		at = skip_name(reply, length, at);
		if (at == 0 || at + 4 > length)
			return 0;
		at += 4;
	}
	for (; answers > 0; answers--) {
		uint16_t data_length;

		at = skip_name(reply, length, at);
		if (at == 0 || at + 10 > length)
			return 0;
		data_length = read16(reply + at + 8);
		if (at + 10 + data_length > length)
			return 0;
		if (read16(reply + at) == type && data_length == (type == 1 ? 4 : 16)) {
			memcpy(address, reply + at + 10, data_length);
			return data_length;
		}
		at += 10u + data_length;
	}
	return 0;
}
