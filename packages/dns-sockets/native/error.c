/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Arguments are read strictly and failures become JavaScript errors with code, errno, syscall. */
#include "dns_sockets.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void set_string(napi_env env, napi_value object, const char *key, const char *text)
{
	napi_value value;
	if (napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value) == napi_ok)
		napi_set_named_property(env, object, key, value);
}

napi_value ds_throw_errno(napi_env env, int error, const char *syscall, const char *what)
{
	char message[256];
	napi_value code, text, object, number;
	const char *name = strerrorname_np(error);

	if (name == NULL)
		name = "EUNKNOWN";
	snprintf(message, sizeof message, "%s: %s: %s (%s)", what, syscall, strerror(error), name);
	if (napi_create_string_utf8(env, "TANDEM_SOCKET_SYSTEM", NAPI_AUTO_LENGTH, &code) !=
		    napi_ok ||
	    napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text) != napi_ok ||
	    napi_create_error(env, code, text, &object) != napi_ok)
		return NULL;
	if (napi_create_int32(env, error, &number) == napi_ok)
		napi_set_named_property(env, object, "errno", number);
	set_string(env, object, "errnoName", name);
	set_string(env, object, "syscall", syscall);
	napi_throw(env, object);
	return NULL;
}

napi_value ds_throw_argument(napi_env env, const char *name, const char *problem)
{
	char message[160];

	snprintf(message, sizeof message, "%s: %s", name, problem);
	napi_throw_type_error(env, "TANDEM_SOCKET_ARGUMENT", message);
	return NULL;
}

/* Fetches exactly `count` arguments (missing ones are undefined). */
bool ds_args_begin(struct ds_args *args, napi_env env, napi_callback_info info, size_t count)
{
	void *data = NULL;

	*args = (struct ds_args){.env = env, .count = count};
	if (napi_get_cb_info(env, info, &count, args->value, NULL, &data) != napi_ok) {
		args->failed = true;
		return false;
	}
	args->ds = data;
	return true;
}

static void fail(struct ds_args *args, const char *name, const char *problem)
{
	if (!args->failed)
		ds_throw_argument(args->env, name, problem);
	args->failed = true;
}

uint32_t ds_arg_u32(struct ds_args *args, size_t index, const char *name, uint32_t low,
		    uint32_t high)
{
	char problem[80];
	double number;

	if (args->failed)
		return 0;
	if (napi_get_value_double(args->env, args->value[index], &number) == napi_ok &&
	    number >= low && number <= high && trunc(number) == number)
		return (uint32_t)number;
	snprintf(problem, sizeof problem, "must be an integer from %u to %u", low, high);
	fail(args, name, problem);
	return 0;
}

bool ds_arg_is_nullish(struct ds_args *args, size_t index)
{
	napi_valuetype type;

	return napi_typeof(args->env, args->value[index], &type) == napi_ok &&
	       (type == napi_undefined || type == napi_null);
}

void ds_arg_address(struct ds_args *args, size_t index, const char *name, uint8_t out[16])
{
	bool is_typed = false;
	napi_typedarray_type type;
	size_t length = 0;
	void *data = NULL;

	memset(out, 0, 16);
	if (args->failed)
		return;
	if (napi_is_typedarray(args->env, args->value[index], &is_typed) == napi_ok && is_typed &&
	    napi_get_typedarray_info(args->env, args->value[index], &type, &length, &data, NULL,
				     NULL) == napi_ok &&
	    type == napi_uint8_array && length == 16 && data != NULL) {
		memcpy(out, data, 16);
		return;
	}
	fail(args, name, "must be an address of 16 bytes");
}

void ds_arg_string(struct ds_args *args, size_t index, const char *name, char *out, size_t size)
{
	size_t length = 0;

	out[0] = '\0';
	if (args->failed)
		return;
	/* A buffer that is filled to its end may have been cut. */
	if (napi_get_value_string_utf8(args->env, args->value[index], out, size, &length) !=
		    napi_ok ||
	    length == 0 || length >= size - 1 || strlen(out) != length)
		fail(args, name, "must be a non-empty string without NUL that fits its limit");
}

void ds_arg_function(struct ds_args *args, size_t index, const char *name)
{
	napi_valuetype type;

	if (args->failed)
		return;
	if (napi_typeof(args->env, args->value[index], &type) != napi_ok || type != napi_function)
		fail(args, name, "must be a function");
}

napi_value ds_u32(napi_env env, uint32_t value)
{
	napi_value result = NULL;

	napi_create_uint32(env, value, &result);
	return result;
}

/* Turns the pending exception of a callback into an uncaught one of the process or worker. */
void ds_uncaught(napi_env env)
{
	bool pending = false;
	napi_value exception;

	if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
	    napi_get_and_clear_last_exception(env, &exception) == napi_ok)
		napi_fatal_exception(env, exception);
}
