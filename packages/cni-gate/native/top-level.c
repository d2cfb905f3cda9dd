// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

#include "top-level.h"

#include <ctype.h>
#include <string.h>

// After the closing quote of the string that begins at `at`; NULL where it does not end.
static const char *string_end(const char *at, const char *end)
{
	for (at++; at < end; at++) {
		if (*at == '\\')
			at++;
		else if (*at == '"')
			return at + 1;
	}
	return NULL;
}

static const char *skip_space(const char *at, const char *end)
{
	while (at < end && isspace((unsigned char)*at))
		at++;
	return at;
}

bool top_level_string(const char *json, size_t length, const char *key, char *value, size_t room)
{
	const char *end = json + length;
	size_t key_length = strlen(key);
	int depth = 0;

	for (const char *at = json; at < end;) {
		if (*at == '{' || *at == '[') {
			depth++;
			at++;
			continue;
		}
		if (*at == '}' || *at == ']') {
			depth--;
			at++;
			continue;
		}
		if (*at != '"') {
			at++;
			continue;
		}
		const char *after = string_end(at, end);
		if (after == NULL)
			return false;
		const char *colon = skip_space(after, end);
		bool is_key = depth == 1 && colon < end && *colon == ':' &&
			      (size_t)(after - at) == key_length + 2 && memcmp(at + 1, key, key_length) == 0;
		at = after;
		if (!is_key)
			continue;
		const char *text = skip_space(colon + 1, end);
		if (text >= end || *text != '"')
			return false;
		const char *text_end = string_end(text, end);
		if (text_end == NULL)
			return false;
		size_t text_length = (size_t)(text_end - text) - 2;
		if (text_length >= room || memchr(text, '\\', text_length + 1) != NULL)
			return false;
		memcpy(value, text + 1, text_length);
		value[text_length] = '\0';
		return true;
	}
	return false;
}
