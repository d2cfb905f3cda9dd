/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Requests: "ID OPERATION key=value ..." cut in place, and their values. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* `request->id` is set even where the rest is refused, as far as it can be read. */
bool request_parse(char *line, struct request *request)
{
	char *end = NULL;
	char *rest;
	char *word;

	memset(request, 0, sizeof(*request));
	request->id = (uint32_t)strtoul(line, &end, 10);
	if (end == line || *end != ' ')
		return false;
	request->operation = strtok_r(end + 1, " ", &rest);
	if (request->operation == NULL)
		return false;
	while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
		char *equals = strchr(word, '=');

		if (equals == NULL || request->count == PROBE_ARGUMENTS_MAX)
			return false;
		*equals = '\0';
		request->argument[request->count++] = (struct argument){ word, equals + 1 };
	}
	return true;
}

const char *arg_text(const struct request *request, const char *key, const char *otherwise)
{
	for (size_t i = 0; i < request->count; i++)
		if (strcmp(request->argument[i].key, key) == 0)
			return request->argument[i].value;
	return otherwise;
}

long arg_number(const struct request *request, const char *key, long otherwise)
{
	const char *text = arg_text(request, key, NULL);

	return text == NULL ? otherwise : strtol(text, NULL, 0);
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Value of "@": large data that is sent often is given once. */
static struct {
	uint8_t *bytes;
	size_t length;
} kept;

static uint8_t *kept_copy(size_t *length)
{
	uint8_t *bytes = malloc(kept.length + 1);

	if (bytes != NULL && kept.length > 0)
		memcpy(bytes, kept.bytes, kept.length);
	*length = kept.length;
	return bytes;
}

/* keep data= */
void op_keep(const struct request *request)
{
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);

	if (bytes == NULL) {
		answer_error(request->id, EINVAL, "data is not hex");
		return;
	}
	free(kept.bytes);
	kept.bytes = bytes;
	kept.length = length;
	answer_ok(request->id);
	answer_end();
}

/* Allocated bytes of a hex value; an absent value is empty. NULL if it is not hex or memory is out. */
uint8_t *arg_bytes(const struct request *request, const char *key, size_t *length)
{
	const char *text = arg_text(request, key, "");
	size_t size = strlen(text) / 2;
	uint8_t *bytes;

	if (strcmp(text, "@") == 0)
		return kept_copy(length);
	bytes = malloc(size + 1);
	if (bytes == NULL || strlen(text) % 2 != 0) {
		free(bytes);
		return NULL;
	}
	for (size_t i = 0; i < size; i++) {
		int high = hex_digit(text[2 * i]);
		int low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0) {
			free(bytes);
			return NULL;
		}
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	*length = size;
	return bytes;
}

/* False if the address is absent or no address. An absent port is 0. */
bool arg_address(const struct request *request, const char *key, const char *port_key,
		 struct address *address)
{
	const char *text = arg_text(request, key, NULL);
	uint16_t port = htons((uint16_t)arg_number(request, port_key, 0));
	struct sockaddr_in *v4 = (struct sockaddr_in *)&address->storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->storage;

	memset(address, 0, sizeof(*address));
	if (text == NULL)
		return false;
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = port;
		address->length = sizeof(*v4);
		return true;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		return false;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = port;
	v6->sin6_scope_id = (uint32_t)arg_number(request, "scope", 0);
	address->length = sizeof(*v6);
	return true;
}

uint64_t arg_deadline(const struct request *request, long otherwise_ms)
{
	long timeout_ms = arg_number(request, "timeout", otherwise_ms);

	if (timeout_ms < 1 || timeout_ms > PROBE_TIMEOUT_MS_MAX)
		timeout_ms = PROBE_TIMEOUT_MS_MAX;
	return now_ns() + (uint64_t)timeout_ms * 1000000u;
}
