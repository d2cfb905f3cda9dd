/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Errors with facts: code, errno, system call, object, and what libbpf and the verifier said.
 * libbpf has one print callback per process. Ours is set once and appends to the capture of the
 * calling thread, if there is one, so loads in several workers do not mix their logs.
 */
#include "loader.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERRNO_ENOTSUPP 524 /* kernel-internal, but bpf(2) returns it; libc has no name for it */

static __thread struct log_capture *capture_of_thread;

/* Appends, and drops from the front what exceeds the limit. */
static void log_append(struct log_capture *capture, const char *text, size_t length)
{
	if (length >= LOG_TAIL_BYTES) {
		memcpy(capture->text, text + (length - LOG_TAIL_BYTES), LOG_TAIL_BYTES);
		capture->length = LOG_TAIL_BYTES;
		return;
	}
	if (capture->length + length > LOG_TAIL_BYTES) {
		size_t excess = capture->length + length - LOG_TAIL_BYTES;

		memmove(capture->text, capture->text + excess, capture->length - excess);
		capture->length -= excess;
	}
	memcpy(capture->text + capture->length, text, length);
	capture->length += length;
}

static int log_print(enum libbpf_print_level level, const char *format, va_list list)
{
	struct log_capture *capture = capture_of_thread;
	char *text = NULL;
	int length;

	if (level == LIBBPF_DEBUG || capture == NULL || capture->text == NULL)
		return 0;
	length = vasprintf(&text, format, list);
	if (length < 0)
		return 0;
	log_append(capture, text, (size_t)length);
	free(text);
	return length;
}

static void log_set_print(void)
{
	libbpf_set_print(log_print);
}

void log_setup(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, log_set_print);
}

void log_begin(struct log_capture *capture)
{
	capture->text = malloc(LOG_TAIL_BYTES + 1);
	capture->length = 0;
	capture->outer = capture_of_thread;
	capture_of_thread = capture;
}

void log_end(struct log_capture *capture)
{
	capture_of_thread = capture->outer;
	if (capture->text != NULL)
		capture->text[capture->length] = '\0';
}

void log_free(struct log_capture *capture)
{
	free(capture->text);
	capture->text = NULL;
}

static const char *errno_name(int error)
{
	const char *name;

	if (error == ERRNO_ENOTSUPP)
		return "ENOTSUPP";
	name = strerrorname_np(error);
	return name != NULL ? name : "EUNKNOWN";
}

static const char *errno_code(int error)
{
	switch (error) {
	case EPERM:
	case EACCES:
		return "TANDEM_BPF_PERMISSION";
	case ENOENT:
	case ENODEV:
	case ESRCH:
		return "TANDEM_BPF_NOT_FOUND";
	case EEXIST:
		return "TANDEM_BPF_EXISTS";
	case E2BIG:
	case ENOSPC:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return "TANDEM_BPF_FULL";
	case EOPNOTSUPP:
	case ERRNO_ENOTSUPP:
		return "TANDEM_BPF_UNSUPPORTED";
	default:
		return "TANDEM_BPF_SYSCALL";
	}
}

static napi_value optional_string(napi_env env, const char *text)
{
	napi_value result = NULL;

	if (text != NULL)
		return make_string(env, text);
	napi_get_undefined(env, &result);
	return result;
}

napi_value make_failure(struct call *call, const struct failure *failure)
{
	napi_env env = call->env;
	napi_value class = NULL, error = NULL, facts = NULL;

	if (napi_create_object(env, &facts) != napi_ok)
		return NULL;
	set_string(env, facts, "code",
		   failure->code != NULL ? failure->code : errno_code(failure->error));
	set_string(env, facts, "action", failure->action);
	set_string(env, facts, "object", failure->object);
	set_i32(env, facts, "errno", failure->error);
	if (failure->error != 0) {
		set_string(env, facts, "errnoName", errno_name(failure->error));
		set_string(env, facts, "errnoText",
			   failure->error == ERRNO_ENOTSUPP ? "Operation is not supported" :
							      strerror(failure->error));
	}
	napi_set_named_property(env, facts, "syscall", optional_string(env, failure->syscall));
	if (failure->log != NULL && failure->log[0] != '\0')
		set_string(env, facts, "log", failure->log);
	if (failure->completed >= 0)
		set_u32(env, facts, "completed", (uint32_t)failure->completed);
	if (call->loader->error_class == NULL ||
	    napi_get_reference_value(env, call->loader->error_class, &class) != napi_ok ||
	    napi_new_instance(env, class, 1, &facts, &error) != napi_ok)
		return NULL;
	return error;
}

napi_value throw_failure(struct call *call, const struct failure *failure)
{
	napi_value error = make_failure(call, failure);
	bool is_pending = false;

	if (error != NULL) {
		napi_throw(call->env, error);
		return NULL;
	}
	/* Before set_error_class has run (start-up of the wrapper) a plain Error has to do. */
	napi_is_exception_pending(call->env, &is_pending);
	if (!is_pending)
		napi_throw_error(call->env, "TANDEM_BPF_SYSCALL", failure->action);
	return NULL;
}

napi_value throw_errno(struct call *call, int error, const char *action, const char *object,
		       const char *syscall)
{
	struct failure failure = {
		.action = action,
		.object = object,
		.syscall = syscall,
		.error = error,
		.completed = -1,
	};

	return throw_failure(call, &failure);
}

napi_value throw_state(struct call *call, const char *action, const char *object)
{
	struct failure failure = {
		.code = "TANDEM_BPF_STATE",
		.action = action,
		.object = object,
		.completed = -1,
	};

	return throw_failure(call, &failure);
}

napi_value throw_missing(struct call *call, const char *action, const char *object)
{
	struct failure failure = {
		.code = "TANDEM_BPF_NOT_FOUND",
		.action = action,
		.object = object,
		.error = ENOENT,
		.completed = -1,
	};

	return throw_failure(call, &failure);
}

EXPORTED(set_error_class)
{
	struct call call;
	napi_valuetype type;

	if (!call_begin(env, info, 1, &call))
		return NULL;
	if (napi_typeof(env, call.values[0], &type) != napi_ok || type != napi_function)
		return throw_range(&call, "the error class must be a constructor");
	if (call.loader->error_class != NULL)
		return throw_range(&call, "the error class is set once");
	napi_create_reference(env, call.values[0], 1, &call.loader->error_class);
	return NULL;
}
