/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Life cycle of a loop and its sockets. JavaScript names both by numbers that carry a generation, so a
 * stale or invented number is refused. A socket is our own duplicate of the given fd: the caller
 * may close its fd at any time, and no number is polled that other code reused.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

enum {
	INDEX_BITS     = 12,
	GENERATION_MAX = (1 << 18) - 1, /* a handle stays below 2^30: a small integer in V8 */
};

_Static_assert(DS_SOCKETS_MAX == 1 << INDEX_BITS, "the low bits of a handle are its index");

static struct ds_loop *find_loop(struct ds_args *args)
{
	uint32_t id = ds_arg_u32(args, 0, "loop", 0, UINT32_MAX);

	if (args->failed)
		return NULL;
	struct ds_loop *loop = args->ds->loops[id % DS_LOOPS_MAX];
	if (loop == NULL || loop->id != id) {
		ds_throw_errno(args->env, EBADF, "UdpLoop", "closed or unknown loop");
		args->failed = true;
		return NULL;
	}
	return loop;
}

/* NULL for a handle that is not, or no longer, a socket of this loop. */
struct ds_socket *ds_loop_socket(struct ds_loop *loop, uint32_t handle)
{
	struct ds_socket *socket = loop->sockets[handle % DS_SOCKETS_MAX];

	return socket != NULL && socket->handle == handle ? socket : NULL;
}

/* A Uint8Array's memory and ArrayBuffer; false if it is something else. */
static bool bytes_of(napi_env env, napi_value value, uint8_t **data, size_t *length,
		     napi_value *array_buffer)
{
	bool is_typed = false;
	napi_typedarray_type type;
	void *memory = NULL;

	if (napi_is_typedarray(env, value, &is_typed) != napi_ok || !is_typed ||
	    napi_get_typedarray_info(env, value, &type, length, &memory, array_buffer, NULL) !=
		    napi_ok ||
	    type != napi_uint8_array || memory == NULL || *length == 0)
		return false;
	*data = memory;
	return true;
}

static struct ds_loop *allocate(struct ds_args *args)
{
	struct ds_env *ds = args->ds;

	for (uint32_t i = 0; i < DS_LOOPS_MAX; i++) {
		if (ds->loops[i] != NULL)
			continue;
		struct ds_loop *loop = calloc(1, sizeof *loop);
		if (loop == NULL)
			break;
		loop->env = ds;
		loop->id = ++ds->loop_generation % (1u << 24) * DS_LOOPS_MAX + i;
		ds_receiver_init(&loop->receiver);
		ds_sender_init(&loop->sender);
		ds->loops[i] = loop;
		return loop;
	}
	ds_throw_errno(args->env, ENOBUFS, "UdpLoop", "too many loops or no memory");
	return NULL;
}

/* loopCreate(payload, control, slots, on_batch, on_socket_error, metadata_in_payload): loop */
napi_value ds_loop_create(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	uint8_t *payload = NULL, *control = NULL;
	size_t payload_length = 0, control_length = 0;
	napi_value payload_buffer, control_buffer;

	ds_args_begin(&args, env, info, 6);
	uint32_t slots = ds_arg_u32(&args, 2, "slots", 1, DS_SLOTS_MAX);
	ds_arg_function(&args, 3, "onBatch");
	ds_arg_function(&args, 4, "onSocketError");
	uint32_t metadata_in_payload = ds_arg_u32(&args, 5, "metadataInBuffer", 0, 1);
	if (args.failed)
		return NULL;
	if (!bytes_of(env, args.value[0], &payload, &payload_length, &payload_buffer))
		return ds_throw_argument(env, "buffer", "must be a non-empty Uint8Array");
	size_t needed = sizeof(struct ds_header) + slots * sizeof(struct ds_rx_record) +
			(size_t)slots * DS_TX_PER_SLOT * sizeof(struct ds_tx_record);
	if (!bytes_of(env, args.value[1], &control, &control_length, &control_buffer) ||
	    control_length < needed || (uintptr_t)control % _Alignof(struct ds_header) != 0)
		return ds_throw_argument(env, "control", "must be an aligned Uint8Array that "
							 "holds header and records");
	/* A detached control block would leave us without a place for results. */
	bool detachable = true;
	if (napi_is_arraybuffer(env, control_buffer, &detachable) != napi_ok || detachable)
		return ds_throw_argument(env, "control", "must lie in a SharedArrayBuffer");

	struct ds_loop *loop = allocate(&args);
	if (loop == NULL)
		return NULL;
	loop->payload = payload;
	loop->payload_length = payload_length;
	loop->slots = slots;
	loop->metadata_in_payload = metadata_in_payload != 0;
	loop->tx_capacity = slots * DS_TX_PER_SLOT;
	loop->header = (struct ds_header *)control;
	loop->rx = (struct ds_rx_record *)(loop->header + 1);
	loop->tx = (struct ds_tx_record *)(loop->rx + slots);
	if (napi_create_reference(env, payload_buffer, 1, &loop->payload_ref) != napi_ok ||
	    napi_create_reference(env, control_buffer, 1, &loop->control_ref) != napi_ok ||
	    napi_create_reference(env, args.value[3], 1, &loop->on_batch) != napi_ok ||
	    napi_create_reference(env, args.value[4], 1, &loop->on_socket_error) != napi_ok) {
		ds_loop_shut(loop, true);
		return ds_throw_errno(env, ENOMEM, "napi_create_reference", "UdpLoop");
	}
	return ds_u32(env, loop->id);
}

static uint32_t memory_info(int fd, int which)
{
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t length = sizeof info;

	return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) != 0 ? 0 : info[which];
}

static uint64_t kernel_drops(int fd)
{
	return memory_info(fd, SK_MEMINFO_DROPS);
}

/* Its memory stays until no call of ours is up the stack. */
static void shut_socket(struct ds_loop *loop, struct ds_socket *socket)
{
	struct ds_socket **link = &loop->errored;

	while (*link != NULL && *link != socket)
		link = &(*link)->next_errored;
	if (*link == socket)
		*link = socket->next_errored;
	loop->removed_kernel_drops += kernel_drops(socket->fd);
	loop->sockets[socket->handle % DS_SOCKETS_MAX] = NULL;
	loop->socket_count--;
	socket->closing = true;
	ds_unwatch(socket);
	close(socket->fd);
	socket->fd = -1;
	socket->next_closed = loop->env->closed_sockets;
	loop->env->closed_sockets = socket;
}

void ds_loop_shut(struct ds_loop *loop, bool delete_references)
{
	napi_ref *references[] = {&loop->payload_ref, &loop->control_ref, &loop->on_batch,
				  &loop->on_socket_error};

	loop->closing = true;
	for (uint32_t i = 0; i < DS_SOCKETS_MAX && loop->socket_count > 0; i++)
		if (loop->sockets[i] != NULL)
			shut_socket(loop, loop->sockets[i]);
	for (size_t i = 0; delete_references && i < sizeof references / sizeof *references; i++)
		if (*references[i] != NULL)
			napi_delete_reference(loop->env->env, *references[i]);
	loop->env->loops[loop->id % DS_LOOPS_MAX] = NULL;
	loop->next_closed = loop->env->closed_loops;
	loop->env->closed_loops = loop;
	ds_free_closed(loop->env);
}

/* 0, or the errno that says why this fd cannot be a socket of a loop. */
static int inspect(struct ds_socket *socket, int fd)
{
	int type = 0, domain = 0;
	socklen_t length = sizeof type;
	union ds_address peer = {.any.sa_family = AF_UNSPEC};

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
		return errno;
	length = sizeof domain;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0)
		return errno;
	if (type != SOCK_DGRAM || (domain != AF_INET && domain != AF_INET6))
		return EPROTOTYPE;
	socket->family = domain;
	if (!socket->connected)
		return 0;
	length = sizeof peer;
	if (getpeername(fd, &peer.any, &length) != 0)
		return errno;
	ds_address_to_bytes(&peer, socket->peer, &socket->peer_port);
	return 0;
}

static uint32_t claim_handle(struct ds_loop *loop, struct ds_socket *socket)
{
	for (uint32_t i = 0; i < DS_SOCKETS_MAX; i++) {
		if (loop->sockets[i] != NULL)
			continue;
		loop->generation[i] = loop->generation[i] % GENERATION_MAX + 1;
		socket->handle = loop->generation[i] << INDEX_BITS | i;
		loop->sockets[i] = socket;
		loop->socket_count++;
		return socket->handle;
	}
	return 0;
}

static int start(struct ds_loop *loop, struct ds_socket *socket, int fd)
{
	int error = loop->socket_count == DS_SOCKETS_MAX ? ENOBUFS : inspect(socket, fd);

	if (error != 0)
		return error;
	socket->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (socket->fd < 0)
		return errno;
	claim_handle(loop, socket);
	error = ds_watch(socket);
	if (error == 0)
		return 0;
	loop->sockets[socket->handle % DS_SOCKETS_MAX] = NULL;
	loop->socket_count--;
	close(socket->fd);
	return error;
}

/* loopAdd(loop, fd, kind): handle */
napi_value ds_loop_add(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 3);
	struct ds_loop *loop = find_loop(&args);
	int fd = (int)ds_arg_u32(&args, 1, "fd", 0, INT32_MAX);
	uint32_t kind = ds_arg_u32(&args, 2, "kind", 0, DS_SOCKET_KINDS - 1);
	if (args.failed)
		return NULL;
	struct ds_socket *socket = calloc(1, sizeof *socket);
	if (socket == NULL)
		return ds_throw_errno(env, ENOMEM, "calloc", "UdpLoop.add");
	socket->loop = loop;
	socket->kind = (enum ds_socket_kind)kind;
	socket->connected = kind == DS_CONNECTED || kind == DS_LATE_CONNECTED;
	int error = start(loop, socket, fd);
	if (error != 0) {
		free(socket);
		return ds_throw_errno(env, error, "UdpLoop.add", "not a usable UDP socket");
	}
	return ds_u32(env, socket->handle);
}

/* loopRemove(loop, handle): whether it was there */
napi_value ds_loop_remove(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	napi_value result = NULL;

	ds_args_begin(&args, env, info, 2);
	struct ds_loop *loop = find_loop(&args);
	uint32_t handle = ds_arg_u32(&args, 1, "handle", 0, UINT32_MAX);
	if (args.failed)
		return NULL;
	struct ds_socket *socket = ds_loop_socket(loop, handle);
	if (socket != NULL)
		shut_socket(loop, socket);
	napi_get_boolean(env, socket != NULL, &result);
	ds_free_closed(args.ds);
	return result;
}

static void put(napi_env env, napi_value object, const char *name, uint64_t number)
{
	napi_value value;

	if (napi_create_double(env, (double)number, &value) == napi_ok)
		napi_set_named_property(env, object, name, value);
}

/* loopMemory(loop, handle): octets that wait in its receive buffer, and datagrams dropped; null: unknown. For metrics. */
napi_value ds_loop_memory(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	napi_value object = NULL;

	ds_args_begin(&args, env, info, 2);
	struct ds_loop *loop = find_loop(&args);
	uint32_t handle = ds_arg_u32(&args, 1, "handle", 0, UINT32_MAX);
	if (args.failed)
		return NULL;
	struct ds_socket *socket = ds_loop_socket(loop, handle);
	if (socket == NULL) {
		napi_get_null(env, &object);
		return object;
	}
	if (napi_create_object(env, &object) != napi_ok)
		return NULL;
	put(env, object, "queuedBytes", memory_info(socket->fd, SK_MEMINFO_RMEM_ALLOC));
	put(env, object, "drops", memory_info(socket->fd, SK_MEMINFO_DROPS));
	return object;
}

/* loopFlush(loop): datagrams that the kernel took */
napi_value ds_loop_flush(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 1);
	struct ds_loop *loop = find_loop(&args);
	if (args.failed)
		return NULL;
	if (!ds_payload_is_usable(loop)) {
		napi_throw_error(env, "TANDEM_SOCKET_DETACHED", "the payload buffer is detached");
		return NULL;
	}
	ds_enter(args.ds);
	uint32_t sent = ds_send_and_report(loop);
	ds_leave(args.ds);
	return ds_u32(env, sent);
}

/* loopStats(loop): an object of counters; for metrics, not for the hot path */
napi_value ds_loop_stats(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	napi_value object;

	ds_args_begin(&args, env, info, 1);
	struct ds_loop *loop = find_loop(&args);
	if (args.failed || napi_create_object(env, &object) != napi_ok)
		return NULL;
#define X(name) put(env, object, #name, loop->counters.name);
	DS_COUNTERS(X)
#undef X
	uint64_t drops = loop->removed_kernel_drops;
	for (uint32_t i = 0; i < DS_SOCKETS_MAX; i++)
		if (loop->sockets[i] != NULL)
			drops += kernel_drops(loop->sockets[i]->fd);
	put(env, object, "kernelDrops", drops);
	put(env, object, "sockets", loop->socket_count);
	return object;
}

/* loopClose(loop) */
napi_value ds_loop_close(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 1);
	struct ds_loop *loop = find_loop(&args);
	if (!args.failed)
		ds_loop_shut(loop, true);
	return NULL;
}
