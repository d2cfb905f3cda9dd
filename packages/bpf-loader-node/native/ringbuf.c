/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Ring buffers on Node's event loop. One wake copies as many records as fit into one buffer of
 * JavaScript and makes one call; what does not fit waits for the next turn of the loop, because the
 * map stays readable. A held ring is read when asked alone: it stays readable until its records are
 * committed. Reading itself is in ring-memory.c.
 *
 *   batch:       record i starts at the sum of the lengths before it, each rounded up to 8
 */
#include "loader.h"
#include "ring.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define RECORDS_PER_BATCH_MAX 65536u

struct ring {
	struct loader *loader;
	uv_poll_t poll;
	struct ring_memory memory;
	napi_ref callback;
	napi_ref batch;     /* Uint8Array */
	napi_ref lengths;   /* Uint32Array */
	napi_ref positions; /* Float64Array of a held ring; NULL: not held */
	uint32_t batch_bytes;
	uint32_t records_max;
	napi_async_context context;
	bool is_delivering;
	bool is_closing;
	uint64_t records;
	uint64_t batches;
};

static void ring_free(struct ring *ring)
{
	napi_env env = ring->loader->env;

	ring_memory_close(&ring->memory);
	if (ring->context != NULL)
		napi_async_destroy(env, ring->context);
	if (ring->callback != NULL)
		napi_delete_reference(env, ring->callback);
	if (ring->batch != NULL)
		napi_delete_reference(env, ring->batch);
	if (ring->lengths != NULL)
		napi_delete_reference(env, ring->lengths);
	if (ring->positions != NULL)
		napi_delete_reference(env, ring->positions);
	free(ring);
}

static void ring_closed(uv_handle_t *poll)
{
	struct ring *ring = poll->data;
	struct loader *loader = ring->loader;
	napi_handle_scope scope;

	napi_open_handle_scope(loader->env, &scope);
	ring_free(ring);
	napi_close_handle_scope(loader->env, scope);
	loader->rings_closing--;
	if (loader->is_exiting && loader->rings_closing == 0)
		loader_exit_finish(loader);
}

void ring_close(struct loader *loader, struct ring *ring)
{
	ring->is_closing = true;
	loader->rings_closing++;
	uv_poll_stop(&ring->poll);
	uv_close((uv_handle_t *)&ring->poll, ring_closed);
}

/* An array of ours by its reference: someone may have detached it since the last wake. */
static bool ring_array(struct ring *ring, napi_ref reference, size_t length_wanted, napi_value *array,
		       void **data)
{
	napi_env env = ring->loader->env;
	size_t length = 0;

	*data = NULL;
	return napi_get_reference_value(env, reference, array) == napi_ok &&
	       napi_get_typedarray_info(env, *array, NULL, &length, data, NULL, NULL) == napi_ok &&
	       *data != NULL && length == length_wanted;
}

/* One batch: copy and call. Returns the records, or -1 with a JavaScript exception pending. */
static int64_t ring_deliver(struct ring *ring)
{
	napi_env env = ring->loader->env;
	napi_value bytes, lengths, positions, callback, receiver, arguments[3], result;
	struct ring_batch batch = { .bytes_max = ring->batch_bytes,
				    .records_max = ring->records_max };
	void *data[3] = { NULL };
	napi_status status;
	uint32_t count;

	if (!ring_array(ring, ring->batch, ring->batch_bytes, &bytes, &data[0]) ||
	    !ring_array(ring, ring->lengths, ring->records_max, &lengths, &data[1]) ||
	    (ring->positions != NULL &&
	     !ring_array(ring, ring->positions, ring->records_max, &positions, &data[2]))) {
		napi_throw_error(env, "TANDEM_BPF_STATE", "the batch of a ring buffer was detached");
		return -1;
	}
	batch.bytes = data[0];
	batch.lengths = data[1];
	batch.positions = data[2];
	count = ring_memory_read(&ring->memory, &batch);
	if (count == 0)
		return 0;
	ring->records += count;
	ring->batches++;
	if (napi_get_reference_value(env, ring->callback, &callback) != napi_ok ||
	    napi_get_global(env, &receiver) != napi_ok)
		return -1;
	arguments[0] = bytes;
	arguments[1] = lengths;
	arguments[2] = make_u32(env, count);
	ring->is_delivering = true;
	status = napi_make_callback(env, ring->context, receiver, callback, 3, arguments, &result);
	ring->is_delivering = false;
	return status == napi_ok ? (int64_t)count : -1;
}

static void ring_wake(uv_poll_t *poll, int status, int events)
{
	struct ring *ring = poll->data;
	napi_env env = ring->loader->env;
	napi_handle_scope scope;

	/* The ring's fd cannot fail; a failed poll is tried again by the level trigger. */
	(void)status;
	(void)events;
	if (ring->is_closing || ring->loader->is_exiting)
		return;
	if (napi_open_handle_scope(env, &scope) != napi_ok)
		return;
	if (ring_deliver(ring) < 0) {
		napi_value error;
		bool is_pending = false;

		napi_is_exception_pending(env, &is_pending);
		if (is_pending && napi_get_and_clear_last_exception(env, &error) == napi_ok)
			napi_fatal_exception(env, error);
	}
	napi_close_handle_scope(env, scope);
}

/* Takes the arrays and the callback of ringOpen; false with an error thrown. */
static bool ring_arguments(struct call *call, struct ring *ring)
{
	napi_env env = call->env;
	napi_typedarray_type type;
	napi_valuetype value_type;
	struct bytes batch;
	size_t records, positions;
	napi_value name;

	if (!argument_bytes(call, 1, "batch", &batch))
		return false;
	if (napi_get_typedarray_info(env, call->values[2], &type, &records, NULL, NULL, NULL) !=
		    napi_ok ||
	    type != napi_uint32_array) {
		napi_throw_type_error(env, "TANDEM_BPF_ARGUMENT", "lengths must be a Uint32Array");
		return false;
	}
	if (napi_typeof(env, call->values[3], &value_type) != napi_ok ||
	    value_type != napi_function) {
		napi_throw_type_error(env, "TANDEM_BPF_ARGUMENT", "onRecords must be a function");
		return false;
	}
	if (batch.length < 8 || batch.length > ring->memory.ring_bytes || batch.length % 8 != 0) {
		throw_range(call, "batch must have 8 to %u bytes, a multiple of 8",
			    ring->memory.ring_bytes);
		return false;
	}
	if (records < 1 || records > RECORDS_PER_BATCH_MAX) {
		throw_range(call, "lengths must have 1 to %u words", RECORDS_PER_BATCH_MAX);
		return false;
	}
	if (!is_nullish(call, 4)) {
		if (napi_get_typedarray_info(env, call->values[4], &type, &positions, NULL, NULL,
					     NULL) != napi_ok ||
		    type != napi_float64_array || positions != records) {
			napi_throw_type_error(env, "TANDEM_BPF_ARGUMENT",
					      "positions must be a Float64Array as long as lengths");
			return false;
		}
		if (napi_create_reference(env, call->values[4], 1, &ring->positions) != napi_ok)
			return false;
	}
	ring->batch_bytes = (uint32_t)batch.length;
	ring->records_max = (uint32_t)records;
	return napi_create_reference(env, call->values[1], 1, &ring->batch) == napi_ok &&
	       napi_create_reference(env, call->values[2], 1, &ring->lengths) == napi_ok &&
	       napi_create_reference(env, call->values[3], 1, &ring->callback) == napi_ok &&
	       napi_create_string_utf8(env, "tandem:bpf-ring", NAPI_AUTO_LENGTH, &name) == napi_ok &&
	       napi_async_init(env, NULL, name, &ring->context) == napi_ok;
}

static int ring_start(napi_env env, struct ring *ring)
{
	uv_loop_t *loop;
	int result;

	if (napi_get_uv_event_loop(env, &loop) != napi_ok)
		return EINVAL;
	result = uv_poll_init(loop, &ring->poll, ring->memory.fd);
	if (result != 0)
		return -result;
	ring->poll.data = ring;
	/* From here on the memory belongs to the loop until ring_closed. */
	if (ring->positions != NULL)
		return 0; /* held records keep the map readable: polling would spin */
	return -uv_poll_start(&ring->poll, UV_READABLE, ring_wake);
}

/* ringOpen(map, batch: Uint8Array, lengths: Uint32Array, onRecords, positions: Float64Array | null): handle */
EXPORTED(ring_open)
{
	struct call call;
	struct handle *map, *handle;
	struct ring *ring;
	char name[NAME_BYTES];
	int error, fd;

	if (!call_begin(env, info, 5, &call))
		return NULL;
	map = argument_handle(&call, 0, HANDLE_MAP);
	if (map == NULL)
		return NULL;
	memcpy(name, map->name, sizeof(name));
	if (map->map.type != BPF_MAP_TYPE_RINGBUF)
		return throw_errno(&call, EINVAL, "read as a ring buffer the map", name, NULL);
	ring = calloc(1, sizeof(*ring));
	if (ring == NULL)
		return throw_errno(&call, ENOMEM, "open ring buffer", name, NULL);
	ring->loader = call.loader;
	ring->memory.ring_bytes = map->map.max_entries;
	ring->memory.fd = -1;
	if (!ring_arguments(&call, ring)) {
		ring_free(ring);
		return NULL;
	}
	fd = fd_duplicate(map->fd);
	error = fd < 0 ? errno
		       : ring_memory_open(&ring->memory, fd, map->map.max_entries,
					  ring->positions != NULL);
	if (error != 0) {
		ring_free(ring);
		return throw_errno(&call, error, "map memory of", name, "mmap");
	}
	handle = handle_new(&call, HANDLE_RING, name);
	if (handle == NULL) {
		ring_free(ring);
		return NULL;
	}
	error = ring_start(env, ring);
	if (error != 0) {
		/* Never entered the loop: undo by hand instead of by ring_close. */
		handle->kind = HANDLE_FREE;
		handle->next_free = call.loader->first_free;
		call.loader->first_free = (uint32_t)(handle - call.loader->handles);
		ring_free(ring);
		return throw_errno(&call, error, "poll ring buffer", name, "epoll_ctl");
	}
	handle->ring = ring;
	return handle_number(call.loader, handle);
}

static struct ring *ring_begin(napi_env env, napi_callback_info info, size_t count,
			       struct call *call)
{
	struct handle *handle = handle_begin(env, info, count, call, HANDLE_RING);

	return handle != NULL ? handle->ring : NULL;
}

/* ringConsume(ring): records delivered now, in one batch at most */
EXPORTED(ring_consume)
{
	struct call call;
	struct ring *ring = ring_begin(env, info, 1, &call);
	int64_t count;

	if (ring == NULL)
		return NULL;
	if (ring->is_delivering)
		return throw_errno(&call, EBUSY, "consume, inside its own callback,", "a ring", NULL);
	count = ring_deliver(ring);
	return count < 0 ? NULL : make_u32(env, (uint32_t)count);
}

/* ringCommit(ring, position): false when another reader has moved the position */
EXPORTED(ring_commit)
{
	struct call call;
	struct ring *ring = ring_begin(env, info, 2, &call);
	double position;

	if (ring == NULL)
		return NULL;
	if (napi_get_value_double(env, call.values[1], &position) != napi_ok || !(position >= 0) ||
	    position > (double)ring->memory.position)
		return throw_range(&call, "position must be one up to which records were read");
	return make_bool(env, ring_memory_commit(&ring->memory, (uint64_t)position));
}

/* ringRewind(ring): reads on from the position that is committed; returns it */
EXPORTED(ring_rewind)
{
	struct call call;
	struct ring *ring = ring_begin(env, info, 1, &call);
	napi_value result;

	if (ring == NULL)
		return NULL;
	ring_memory_rewind(&ring->memory);
	napi_create_double(env, (double)ring->memory.position, &result);
	return result;
}

/* ringStats(ring): {records, batches, oversized, fenced, repaired, position, end} */
EXPORTED(ring_stats)
{
	struct call call;
	struct ring *ring = ring_begin(env, info, 1, &call);
	napi_value result, number;

	if (ring == NULL)
		return NULL;
	const struct {
		const char *name;
		uint64_t value;
	} facts[] = {
		{ "records", ring->records },	       { "batches", ring->batches },
		{ "oversized", ring->memory.oversized }, { "fenced", ring->memory.fenced },
		{ "repaired", ring->memory.repaired }, { "position", ring->memory.position },
		{ "end", ring_memory_end(&ring->memory) },
	};
	napi_create_object(env, &result);
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		napi_create_double(env, (double)facts[i].value, &number);
		napi_set_named_property(env, result, facts[i].name, number);
	}
	return result;
}

/* ringSetRef(ring, keepsAlive): whether the open ring keeps the process alive */
EXPORTED(ring_set_ref)
{
	struct call call;
	struct ring *ring = ring_begin(env, info, 2, &call);
	bool keeps_alive;

	if (ring == NULL || !argument_bool(&call, 1, "keepsAlive", &keeps_alive))
		return NULL;
	if (keeps_alive)
		uv_ref((uv_handle_t *)&ring->poll);
	else
		uv_unref((uv_handle_t *)&ring->poll);
	return NULL;
}
