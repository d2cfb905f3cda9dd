/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Ring buffers on Node's event loop. One wake copies as many records as fit into one buffer of
 * JavaScript and makes one call; what does not fit waits for the next turn of the loop, because the
 * map stays readable. The consumer is our own, since libbpf's advances past a record that the
 * callback refuses.
 *
 *   map memory:  | consumer position | producer position | data | data again |
 *                  page, read-write    page, read-only     mapped twice: a record never wraps
 *   batch:       record i starts at the sum of the lengths before it, each rounded up to 8
 */
#include "loader.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

#define RECORDS_PER_BATCH_MAX 65536u

struct ring {
	struct loader *loader;
	uv_poll_t poll;
	int fd;
	uint32_t ring_bytes;
	size_t page_bytes;
	void *consumer_page;
	void *producer_pages;
	uint64_t position; /* ours alone; the page only tells the kernel */
	napi_ref callback;
	napi_ref batch;   /* Uint8Array */
	napi_ref lengths; /* Uint32Array */
	uint32_t batch_bytes;
	uint32_t records_max;
	napi_async_context context;
	bool is_delivering;
	bool is_closing;
	uint64_t records;
	uint64_t batches;
	uint64_t oversized; /* longer than the batch: skipped */
};

static void ring_unmap(struct ring *ring)
{
	if (ring->consumer_page != MAP_FAILED)
		munmap(ring->consumer_page, ring->page_bytes);
	if (ring->producer_pages != MAP_FAILED)
		munmap(ring->producer_pages, ring->page_bytes + 2 * (size_t)ring->ring_bytes);
	if (ring->fd >= 0)
		close(ring->fd);
}

static void ring_free(struct ring *ring)
{
	napi_env env = ring->loader->env;

	ring_unmap(ring);
	if (ring->context != NULL)
		napi_async_destroy(env, ring->context);
	if (ring->callback != NULL)
		napi_delete_reference(env, ring->callback);
	if (ring->batch != NULL)
		napi_delete_reference(env, ring->batch);
	if (ring->lengths != NULL)
		napi_delete_reference(env, ring->lengths);
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

/* Copies records until the batch is full or the ring is empty; returns their number. */
static uint32_t ring_copy(struct ring *ring, uint8_t *batch, uint32_t *lengths)
{
	uint64_t *producer = ring->producer_pages;
	uint8_t *data = (uint8_t *)ring->producer_pages + ring->page_bytes;
	uint64_t end = __atomic_load_n(producer, __ATOMIC_ACQUIRE);
	uint32_t used = 0, count = 0;

	while (ring->position < end && count < ring->records_max) {
		uint8_t *record = data + (ring->position & (ring->ring_bytes - 1));
		uint32_t header = __atomic_load_n((uint32_t *)record, __ATOMIC_ACQUIRE);
		uint32_t length = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		uint32_t padded = (length + 7) & ~7u;

		if (header & BPF_RINGBUF_BUSY_BIT) /* reserved, not committed yet */
			break;
		if (!(header & BPF_RINGBUF_DISCARD_BIT)) {
			if (padded > ring->batch_bytes) {
				ring->oversized++;
			} else if (padded > ring->batch_bytes - used) {
				break;
			} else {
				memcpy(batch + used, record + BPF_RINGBUF_HDR_SZ, length);
				lengths[count++] = length;
				used += padded;
			}
		}
		ring->position += padded + BPF_RINGBUF_HDR_SZ;
		__atomic_store_n((uint64_t *)ring->consumer_page, ring->position, __ATOMIC_RELEASE);
	}
	ring->records += count;
	return count;
}

/* The batch arrays are JavaScript's: someone may have detached them since the last wake. */
static bool ring_arrays(struct ring *ring, napi_value *batch, napi_value *lengths, uint8_t **bytes,
			uint32_t **words)
{
	napi_env env = ring->loader->env;
	size_t batch_length = 0, lengths_length = 0;
	void *batch_data = NULL, *lengths_data = NULL;

	if (napi_get_reference_value(env, ring->batch, batch) != napi_ok ||
	    napi_get_reference_value(env, ring->lengths, lengths) != napi_ok ||
	    napi_get_typedarray_info(env, *batch, NULL, &batch_length, &batch_data, NULL, NULL) !=
		    napi_ok ||
	    napi_get_typedarray_info(env, *lengths, NULL, &lengths_length, &lengths_data, NULL,
				     NULL) != napi_ok)
		return false;
	if (batch_data == NULL || lengths_data == NULL || batch_length != ring->batch_bytes ||
	    lengths_length != ring->records_max)
		return false;
	*bytes = batch_data;
	*words = lengths_data;
	return true;
}

/* One batch: copy and call. Returns the records, or -1 with a JavaScript exception pending. */
static int64_t ring_deliver(struct ring *ring)
{
	napi_env env = ring->loader->env;
	napi_value batch, lengths, callback, receiver, arguments[3], result;
	uint8_t *bytes;
	uint32_t *words, count;
	napi_status status;

	if (!ring_arrays(ring, &batch, &lengths, &bytes, &words)) {
		napi_throw_error(env, "TANDEM_BPF_STATE", "the batch of a ring buffer was detached");
		return -1;
	}
	count = ring_copy(ring, bytes, words);
	if (count == 0)
		return 0;
	ring->batches++;
	if (napi_get_reference_value(env, ring->callback, &callback) != napi_ok ||
	    napi_get_global(env, &receiver) != napi_ok)
		return -1;
	arguments[0] = batch;
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

static int ring_map(struct ring *ring, int map_fd)
{
	ring->fd = fd_duplicate(map_fd);
	if (ring->fd < 0)
		return errno;
	ring->consumer_page = mmap(NULL, ring->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
				   ring->fd, 0);
	if (ring->consumer_page == MAP_FAILED)
		return errno;
	ring->producer_pages = mmap(NULL, ring->page_bytes + 2 * (size_t)ring->ring_bytes, PROT_READ,
				    MAP_SHARED, ring->fd, (off_t)ring->page_bytes);
	if (ring->producer_pages == MAP_FAILED)
		return errno;
	ring->position = __atomic_load_n((uint64_t *)ring->consumer_page, __ATOMIC_ACQUIRE);
	if (ring->position % BPF_RINGBUF_HDR_SZ != 0)
		return EINVAL; /* someone else wrote nonsense into the page */
	return 0;
}

/* Takes the arrays and the callback of ringOpen; false with an error thrown. */
static bool ring_arguments(struct call *call, struct ring *ring)
{
	napi_env env = call->env;
	napi_typedarray_type type;
	napi_valuetype value_type;
	struct bytes batch;
	size_t records;
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
	/* A batch longer than the ring could read past the second mapping of its data. */
	if (batch.length < 8 || batch.length > ring->ring_bytes || batch.length % 8 != 0) {
		throw_range(call, "batch must have 8 to %u bytes, a multiple of 8", ring->ring_bytes);
		return false;
	}
	if (records < 1 || records > RECORDS_PER_BATCH_MAX) {
		throw_range(call, "lengths must have 1 to %u words", RECORDS_PER_BATCH_MAX);
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
	result = uv_poll_init(loop, &ring->poll, ring->fd);
	if (result != 0)
		return -result;
	ring->poll.data = ring;
	/* From here on the memory belongs to the loop until ring_closed. */
	return -uv_poll_start(&ring->poll, UV_READABLE, ring_wake);
}

/* ringOpen(map, batch: Uint8Array, lengths: Uint32Array, onRecords): handle */
EXPORTED(ring_open)
{
	struct call call;
	struct handle *map, *handle;
	struct ring *ring;
	char name[NAME_BYTES];
	int error;

	if (!call_begin(env, info, 4, &call))
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
	ring->ring_bytes = map->map.max_entries;
	ring->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	ring->consumer_page = MAP_FAILED;
	ring->producer_pages = MAP_FAILED;
	ring->fd = -1;
	if (!ring_arguments(&call, ring)) {
		ring_free(ring);
		return NULL;
	}
	error = ring_map(ring, map->fd);
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
	struct handle *handle;

	if (!call_begin(env, info, count, call))
		return NULL;
	handle = argument_handle(call, 0, HANDLE_RING);
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

/* ringStats(ring): {records, batches, oversized} */
EXPORTED(ring_stats)
{
	struct call call;
	struct ring *ring = ring_begin(env, info, 1, &call);
	napi_value result, number;

	if (ring == NULL)
		return NULL;
	napi_create_object(env, &result);
	napi_create_double(env, (double)ring->records, &number);
	napi_set_named_property(env, result, "records", number);
	napi_create_double(env, (double)ring->batches, &number);
	napi_set_named_property(env, result, "batches", number);
	napi_create_double(env, (double)ring->oversized, &number);
	napi_set_named_property(env, result, "oversized", number);
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
