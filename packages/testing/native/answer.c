/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Answers: one line on stdout for each request. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char line[4 * 1024 * 1024];
static size_t line_length;

static void append(const char *format, va_list arguments)
{
	size_t room = sizeof(line) - line_length - 1;
	int length = vsnprintf(line + line_length, room, format, arguments);

	if (length > 0)
		line_length += (size_t)length < room ? (size_t)length : room - 1;
}

void answer_ok(uint32_t id)
{
	line_length = (size_t)snprintf(line, sizeof(line), "%u ok", id);
}

void answer_field(const char *format, ...)
{
	va_list arguments;

	if (line_length < sizeof(line) - 2)
		line[line_length++] = ' ';
	va_start(arguments, format);
	append(format, arguments);
	va_end(arguments);
}

void answer_hex(const char *key, const uint8_t *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";

	answer_field("%s=", key);
	for (size_t i = 0; i < length && line_length + 3 < sizeof(line); i++) {
		line[line_length++] = digits[bytes[i] >> 4];
		line[line_length++] = digits[bytes[i] & 15];
	}
}

size_t address_text(const struct sockaddr_storage *address, char *text, size_t size)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	const void *bytes = &v6->sin6_addr;
	int family = address->ss_family;

	if (family == AF_INET)
		bytes = &v4->sin_addr;
	else if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		family = AF_INET;
		bytes = v6->sin6_addr.s6_addr + 12;
	}
	if (inet_ntop(family, bytes, text, (socklen_t)size) == NULL)
		snprintf(text, size, "?");
	return strlen(text);
}

void answer_address(const char *key, const struct sockaddr_storage *address)
{
	char text[INET6_ADDRSTRLEN];

	address_text(address, text, sizeof(text));
	answer_field("%s=%s", key, text);
	answer_field("%sPort=%u", key, address_port(address));
}

void answer_end(void)
{
	size_t written = 0;

	line[line_length++] = '\n';
	while (written < line_length) {
		ssize_t length = write(STDOUT_FILENO, line + written, line_length - written);

		if (length < 0 && errno == EINTR)
			continue;
		/* The peer does not read any more: the end of our input follows. */
		if (length < 0)
			return;
		written += (size_t)length;
	}
}

void answer_error(uint32_t id, int error, const char *format, ...)
{
	const char *name = strerrorname_np(error);
	va_list arguments;

	line_length = (size_t)snprintf(line, sizeof(line), "%u error %s ", id, name ? name : "EUNKNOWN");
	va_start(arguments, format);
	append(format, arguments);
	va_end(arguments);
	answer_end();
}
