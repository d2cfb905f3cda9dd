/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The table of handles: what JavaScript has open in one environment. A handle number is
 * generation << 14 | index; the generation changes at each close, so a stale number is noticed.
 * Every fd in the table is the table's own (duplicated or created), close-on-exec.
 */
#include "loader.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX_BITS       14u
#define INDEX_MASK       (HANDLES_MAX - 1)
#define GENERATION_MASK  0x1ffffu /* 17 bits: a handle number is a small integer of 31 bits */
#define HANDLES_INITIAL  64u

_Static_assert(HANDLES_MAX == 1u << INDEX_BITS, "a handle's index must fit its bits");

static const char *const kind_names[HANDLE_KINDS] = {
	"free", "ring buffer", "link", "program", "map", "object",
};

static bool table_grow(struct loader *loader)
{
	uint32_t capacity = loader->capacity == 0 ? HANDLES_INITIAL : loader->capacity * 2;
	struct handle *handles;

	if (capacity > HANDLES_MAX)
		return false;
	handles = realloc(loader->handles, capacity * sizeof(*handles));
	if (handles == NULL)
		return false;
	loader->handles = handles;
	for (uint32_t i = loader->capacity; i < capacity; i++) {
		handles[i] = (struct handle){
			.kind = HANDLE_FREE,
			.generation = 1,
			.next_free = i + 1,
			.fd = -1,
		};
	}
	loader->first_free = loader->capacity;
	loader->capacity = capacity;
	return true;
}

struct handle *handle_new(struct call *call, enum handle_kind kind, const char *name)
{
	struct loader *loader = call->loader;
	struct handle *handle;

	if (loader->first_free >= loader->capacity && !table_grow(loader)) {
		throw_errno(call, EMFILE, "open one more handle for", name, NULL);
		return NULL;
	}
	handle = &loader->handles[loader->first_free];
	loader->first_free = handle->next_free;
	handle->kind = kind;
	handle->fd = -1;
	snprintf(handle->name, sizeof(handle->name), "%s", name);
	return handle;
}

napi_value handle_number(struct loader *loader, const struct handle *handle)
{
	uint32_t index = (uint32_t)(handle - loader->handles);

	return make_u32(loader->env, handle->generation << INDEX_BITS | index);
}

void handle_close(struct loader *loader, struct handle *handle)
{
	switch (handle->kind) {
	case HANDLE_RING:
		ring_close(loader, handle->ring);
		handle->ring = NULL;
		break;
	case HANDLE_OBJECT:
		bpf_object__close(handle->object);
		handle->object = NULL;
		free(handle->map_names);
		handle->map_names = NULL;
		break;
	case HANDLE_LINK:
	case HANDLE_PROGRAM:
	case HANDLE_MAP:
		close(handle->fd);
		break;
	case HANDLE_FREE:
	case HANDLE_KINDS:
		return;
	}
	handle->fd = -1;
	handle->kind = HANDLE_FREE;
	handle->generation = (handle->generation + 1) & GENERATION_MASK;
	if (handle->generation == 0)
		handle->generation = 1;
	handle->next_free = loader->first_free;
	loader->first_free = (uint32_t)(handle - loader->handles);
}

void handle_close_all(struct loader *loader)
{
	for (int kind = HANDLE_RING; kind < HANDLE_KINDS; kind++) {
		for (uint32_t i = 0; i < loader->capacity; i++) {
			if (loader->handles[i].kind == (enum handle_kind)kind)
				handle_close(loader, &loader->handles[i]);
		}
	}
}

static struct handle *find_handle(struct loader *loader, uint32_t number)
{
	uint32_t index = number & INDEX_MASK;
	struct handle *handle;

	if (index >= loader->capacity)
		return NULL;
	handle = &loader->handles[index];
	if (handle->kind == HANDLE_FREE || handle->generation != number >> INDEX_BITS)
		return NULL;
	return handle;
}

static void throw_closed(struct call *call, const char *what)
{
	struct failure failure = {
		.code = "TANDEM_BPF_CLOSED",
		.action = "use",
		.object = what,
		.error = EBADF,
		.completed = -1,
	};

	throw_failure(call, &failure);
}

struct handle *argument_handle(struct call *call, size_t index, enum handle_kind kind)
{
	uint32_t number = 0;
	struct handle *handle;

	/* The hot path: no range check, since the table refuses every number that is not its own. */
	if (napi_get_value_uint32(call->env, call->values[index], &number) != napi_ok) {
		napi_throw_type_error(call->env, "TANDEM_BPF_ARGUMENT", "a handle must be a number");
		return NULL;
	}
	handle = find_handle(call->loader, number);
	if (handle == NULL || handle->kind != kind) {
		throw_closed(call, handle == NULL ? "a closed handle" : kind_names[handle->kind]);
		return NULL;
	}
	return handle;
}

struct handle *handle_begin(napi_env env, napi_callback_info info, size_t count, struct call *call,
			    enum handle_kind kind)
{
	if (!call_begin(env, info, count, call))
		return NULL;
	return argument_handle(call, 0, kind);
}

struct handle *argument_fd_handle(struct call *call, size_t index)
{
	uint32_t number = 0;
	struct handle *handle;

	if (!argument_u32(call, index, "handle", &number))
		return NULL;
	handle = find_handle(call->loader, number);
	if (handle == NULL || handle->fd < 0) {
		throw_closed(call, "a closed handle");
		return NULL;
	}
	return handle;
}

EXPORTED(handle_close_js)
{
	struct call call;
	struct handle *handle;
	uint32_t number;

	if (!call_begin(env, info, 1, &call) || !argument_u32(&call, 0, "handle", &number))
		return NULL;
	handle = find_handle(call.loader, number);
	if (handle != NULL)
		handle_close(call.loader, handle);
	return NULL;
}

EXPORTED(handle_fd_js)
{
	struct call call;
	struct handle *handle;

	if (!call_begin(env, info, 1, &call))
		return NULL;
	handle = argument_fd_handle(&call, 0);
	return handle != NULL ? make_i32(env, handle->fd) : NULL;
}
