/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Checked conversion of JavaScript arguments and results. Nothing here trusts the TypeScript side:
 * a wrong type or size throws before any pointer is handed to the kernel.
 */
#include "loader.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CODE "TANDEM_BPF_ARGUMENT"

static bool throw_type(struct call *call, const char *name, const char *expected)
{
	char text[160];

	snprintf(text, sizeof(text), "%s must be %s", name, expected);
	napi_throw_type_error(call->env, CODE, text);
	return false;
}

napi_value throw_range(struct call *call, const char *format, ...)
{
	char text[256];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	napi_throw_range_error(call->env, CODE, text);
	return NULL;
}

bool call_begin(napi_env env, napi_callback_info info, size_t count, struct call *call)
{
	void *data = NULL;

	call->env = env;
	call->loader = NULL;
	call->count = ARGUMENTS_MAX;
	/* Missing arguments are filled with undefined, which every getter then refuses. */
	if (napi_get_cb_info(env, info, &call->count, call->values, NULL, &data) != napi_ok)
		return false;
	call->loader = data;
	if (call->count < count) {
		napi_throw_type_error(env, CODE, "too few arguments");
		return false;
	}
	return true;
}

static bool argument_integer(struct call *call, size_t index, const char *name, double low,
			     double high, double *value)
{
	if (napi_get_value_double(call->env, call->values[index], value) != napi_ok)
		return throw_type(call, name, "a number");
	if (!(*value >= low && *value <= high) || *value != floor(*value)) {
		throw_range(call, "%s must be an integer from %.0f to %.0f, not %g", name, low, high,
			    *value);
		return false;
	}
	return true;
}

bool argument_u32(struct call *call, size_t index, const char *name, uint32_t *value)
{
	double number;

	if (!argument_integer(call, index, name, 0, UINT32_MAX, &number))
		return false;
	*value = (uint32_t)number;
	return true;
}

bool argument_i32(struct call *call, size_t index, const char *name, int32_t *value)
{
	double number;

	if (!argument_integer(call, index, name, INT32_MIN, INT32_MAX, &number))
		return false;
	*value = (int32_t)number;
	return true;
}

bool argument_bool(struct call *call, size_t index, const char *name, bool *value)
{
	if (napi_get_value_bool(call->env, call->values[index], value) != napi_ok)
		return throw_type(call, name, "a boolean");
	return true;
}

bool argument_bytes(struct call *call, size_t index, const char *name, struct bytes *bytes)
{
	napi_typedarray_type type;
	void *data = NULL;

	/* A detached buffer gives length 0 and no data. */
	if (napi_get_typedarray_info(call->env, call->values[index], &type, &bytes->length, &data,
				     NULL, NULL) != napi_ok ||
	    type != napi_uint8_array)
		return throw_type(call, name, "a Uint8Array");
	bytes->data = data;
	if (bytes->data == NULL)
		bytes->length = 0;
	return true;
}

bool argument_words(struct call *call, size_t index, const char *name, struct words *words)
{
	napi_typedarray_type type;
	void *data = NULL;

	if (napi_get_typedarray_info(call->env, call->values[index], &type, &words->length, &data,
				     NULL, NULL) != napi_ok ||
	    type != napi_uint32_array)
		return throw_type(call, name, "a Uint32Array");
	words->data = data;
	if (words->data == NULL)
		words->length = 0;
	return true;
}

bool is_nullish(struct call *call, size_t index)
{
	napi_valuetype type;

	return napi_typeof(call->env, call->values[index], &type) == napi_ok &&
	       (type == napi_undefined || type == napi_null);
}

bool argument_optional_bytes(struct call *call, size_t index, const char *name,
			     struct bytes *bytes)
{
	if (is_nullish(call, index)) {
		*bytes = (struct bytes){ NULL, 0 };
		return true;
	}
	return argument_bytes(call, index, name, bytes);
}

bool argument_bytes_exact(struct call *call, size_t index, const char *name, size_t length,
			  uint8_t **data)
{
	struct bytes bytes;

	if (!argument_bytes(call, index, name, &bytes))
		return false;
	if (bytes.length != length) {
		throw_range(call, "%s must have %zu bytes, not %zu", name, length, bytes.length);
		return false;
	}
	*data = bytes.data;
	return true;
}

bool argument_string(struct call *call, size_t index, const char *name, char *text, size_t size)
{
	size_t length = 0;

	if (napi_get_value_string_utf8(call->env, call->values[index], NULL, 0, &length) != napi_ok)
		return throw_type(call, name, "a string");
	if (length == 0 || length >= size) {
		throw_range(call, "%s must have 1 to %zu bytes, not %zu", name, size - 1, length);
		return false;
	}
	napi_get_value_string_utf8(call->env, call->values[index], text, size, &length);
	if (strlen(text) != length)
		return throw_type(call, name, "a string without NUL characters");
	return true;
}

napi_value make_u32(napi_env env, uint32_t value)
{
	napi_value result = NULL;

	napi_create_uint32(env, value, &result);
	return result;
}

napi_value make_i32(napi_env env, int32_t value)
{
	napi_value result = NULL;

	napi_create_int32(env, value, &result);
	return result;
}

napi_value make_bool(napi_env env, bool value)
{
	napi_value result = NULL;

	napi_get_boolean(env, value, &result);
	return result;
}

napi_value make_string(napi_env env, const char *text)
{
	napi_value result = NULL;

	napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &result);
	return result;
}

napi_value make_bytes(napi_env env, const void *data, size_t length)
{
	napi_value buffer = NULL, result = NULL;
	void *target = NULL;

	if (napi_create_arraybuffer(env, length, &target, &buffer) != napi_ok)
		return NULL;
	if (length > 0)
		memcpy(target, data, length);
	napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &result);
	return result;
}

void set_u32(napi_env env, napi_value object, const char *key, uint32_t value)
{
	napi_set_named_property(env, object, key, make_u32(env, value));
}

void set_i32(napi_env env, napi_value object, const char *key, int32_t value)
{
	napi_set_named_property(env, object, key, make_i32(env, value));
}

void set_u64(napi_env env, napi_value object, const char *key, uint64_t value)
{
	napi_value number = NULL;

	napi_create_bigint_uint64(env, value, &number);
	napi_set_named_property(env, object, key, number);
}

void set_string(napi_env env, napi_value object, const char *key, const char *text)
{
	napi_set_named_property(env, object, key, make_string(env, text));
}
