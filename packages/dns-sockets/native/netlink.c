/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Netlink sockets: what JavaScript sends goes to the kernel as it is, and what the kernel sends comes in
 * batches of whole messages. Only bytes: the codec is packages/netlink. A datagram of another process is
 * dropped: a process that may send to our port could otherwise speak as the kernel.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* linux/netlink.h since 5.1 and 4.20 */
#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif
#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif

enum { LOSS_INTERVAL_MS = 1000 };

static struct ds_netlink *find_netlink(struct ds_args *args)
{
	uint32_t id = ds_arg_u32(args, 0, "socket", 0, UINT32_MAX);

	if (args->failed)
		return NULL;
	struct ds_netlink *found = args->ds->netlinks[id % DS_NETLINK_MAX];
	return found != NULL && found->id == id ? found : NULL;
}

static void on_closed(uv_handle_t *handle)
{
	struct ds_netlink *closed = handle->data;
	struct ds_env *ds = closed->env;

	free(closed);
	ds_handle_closed(ds);
}

void ds_netlink_shut(struct ds_netlink *netlink, bool delete_references)
{
	if (netlink->closing)
		return;
	netlink->closing = true;
	netlink->env->netlinks[netlink->id % DS_NETLINK_MAX] = NULL;
	uv_poll_stop(&netlink->poll);
	uv_close((uv_handle_t *)&netlink->poll, on_closed);
	close(netlink->fd);
	netlink->fd = -1;
	if (delete_references)
		napi_delete_reference(netlink->env->env, netlink->on_event);
}

static void emit(struct ds_netlink *netlink, uint32_t event, napi_value what)
{
	napi_env env = netlink->env->env;
	napi_value callee, receiver, arguments[2] = {ds_u32(env, event), what};

	if (netlink->closing ||
	    napi_get_reference_value(env, netlink->on_event, &callee) != napi_ok ||
	    callee == NULL || napi_get_global(env, &receiver) != napi_ok)
		return;
	if (napi_make_callback(env, netlink->env->async_context, receiver, callee, 2, arguments,
			       NULL) != napi_ok)
		ds_uncaught(env);
}

static void emit_batch(struct ds_netlink *netlink, size_t length)
{
	napi_env env = netlink->env->env;
	napi_value bytes;
	void *copy = NULL;

	if (napi_create_arraybuffer(env, length, &copy, &bytes) != napi_ok) {
		ds_uncaught(env);
		return;
	}
	memcpy(copy, netlink->env->netlink_batch, length);
	emit(netlink, DS_NETLINK_MESSAGES, bytes);
}

/*
 * Fills the batch with datagrams, each at an aligned offset; its length. `*error` is what ended it: EAGAIN
 * or 0 when nothing is wrong, ENOBUFS when the kernel had messages for which there was no room.
 */
static size_t receive_batch(struct ds_netlink *netlink, int *error)
{
	uint8_t *batch = netlink->env->netlink_batch;
	size_t length = 0;

	*error = 0;
	for (int i = 0; i < DS_NETLINK_READS_MAX; i++) {
		if (DS_NETLINK_BATCH_BYTES - length < DS_NETLINK_DATAGRAM_MAX)
			break;
		struct sockaddr_nl from = {0};
		struct iovec iov = {batch + length, DS_NETLINK_DATAGRAM_MAX};
		struct msghdr header = {
			.msg_name = &from,
			.msg_namelen = sizeof from,
			.msg_iov = &iov,
			.msg_iovlen = 1,
		};
		ssize_t got = recvmsg(netlink->fd, &header, MSG_DONTWAIT);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			*error = errno;
			break;
		}
		if (from.nl_pid != 0)
			continue;
		if (header.msg_flags & MSG_TRUNC) {
			*error = ENOBUFS;
			break;
		}
		size_t padding = NLMSG_ALIGN((size_t)got) - (size_t)got;
		memset(batch + length + got, 0, padding);
		length += (size_t)got + padding;
	}
	return length;
}

/*
 * Whether a loss is to be reported. The kernel reports it once (ENOBUFS); then it drops every message, without
 * another error, until the queue is empty (NETLINK_S_CONGESTED in net/netlink/af_netlink.c).
 * So what a receiver reads again after ENOBUFS may be old again: the loss is reported once more when the queue
 * is empty, and every LOSS_INTERVAL_MS while it does not get there.
 */
static bool is_loss_due(struct ds_netlink *netlink, int error)
{
	uint64_t now = uv_now(netlink->env->uv);
	struct pollfd queue = {.fd = netlink->fd, .events = POLLIN};

	if (netlink->loss_at == 0 && error != ENOBUFS)
		return false;
	/* A full batch may have ended with the last message: no later event would tell. */
	if (error == EAGAIN || (error == 0 && poll(&queue, 1, 0) == 0)) {
		netlink->loss_at = 0;
		return true;
	}
	if (netlink->loss_at != 0 && now - netlink->loss_at < LOSS_INTERVAL_MS)
		return false;
	netlink->loss_at = now != 0 ? now : 1;
	return true;
}

/* Reads a batch, hands it on, and reports what went wrong; false when nothing is queued any more. */
static bool receive(struct ds_netlink *netlink)
{
	napi_env env = netlink->env->env;
	napi_handle_scope scope;
	napi_value undefined;
	int error;

	if (netlink->closing || napi_open_handle_scope(env, &scope) != napi_ok)
		return false;
	size_t length = receive_batch(netlink, &error);
	if (length > 0)
		emit_batch(netlink, length);
	if (is_loss_due(netlink, error) && napi_get_undefined(env, &undefined) == napi_ok)
		emit(netlink, DS_NETLINK_OVERRUN, undefined);
	if (error != 0 && error != EAGAIN && error != ENOBUFS)
		emit(netlink, DS_NETLINK_ERROR, ds_u32(env, (uint32_t)error));
	napi_close_handle_scope(env, scope);
	return error == 0 || error == ENOBUFS;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct ds_netlink *netlink = poll->data;

	(void)events;
	(void)receive(netlink);
	/* libuv stops a poll that met EPOLLERR, which is how an overrun shows. */
	if (status < 0 && !netlink->closing)
		uv_poll_start(&netlink->poll, UV_READABLE, on_readable);
}

/* NULL, or the system call that failed. */
static const char *open_socket(int *fd, int protocol, uint32_t receive_buffer_bytes)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	const int one = 1;

	*fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	if (*fd < 0)
		return "socket(AF_NETLINK)";
	if (setsockopt(*fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one) != 0)
		return "setsockopt(NETLINK_EXT_ACK)";
	if (setsockopt(*fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one) != 0)
		return "setsockopt(NETLINK_CAP_ACK)";
	if (setsockopt(*fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one) != 0)
		return "setsockopt(NETLINK_GET_STRICT_CHK)";
	if (ds_set_buffer(*fd, SO_RCVBUFFORCE, SO_RCVBUF, receive_buffer_bytes) != 0)
		return "setsockopt(SO_RCVBUF)";
	if (bind(*fd, (struct sockaddr *)&address, sizeof address) != 0)
		return "bind(AF_NETLINK)";
	return NULL;
}

/* Takes `fd` over; NULL with `*error` set if it cannot be watched. */
static struct ds_netlink *watch(struct ds_args *args, int fd, size_t callback, int *error)
{
	struct ds_env *ds = args->ds;
	uint32_t index = 0;

	while (index < DS_NETLINK_MAX && ds->netlinks[index] != NULL)
		index++;
	*error = ENOBUFS;
	struct ds_netlink *opened = index < DS_NETLINK_MAX ? calloc(1, sizeof *opened) : NULL;
	if (opened == NULL || napi_create_reference(args->env, args->value[callback], 1,
						    &opened->on_event) != napi_ok) {
		free(opened);
		close(fd);
		return NULL;
	}
	*error = -uv_poll_init(ds->uv, &opened->poll, fd);
	if (*error != 0) {
		napi_delete_reference(args->env, opened->on_event);
		free(opened);
		close(fd);
		return NULL;
	}
	opened->env = ds;
	opened->fd = fd;
	opened->poll.data = opened;
	opened->id = ++ds->netlink_generation % (1u << 24) * DS_NETLINK_MAX + index;
	ds->netlinks[index] = opened;
	ds->open_handles++;
	*error = -uv_poll_start(&opened->poll, UV_READABLE, on_readable);
	if (*error == 0)
		return opened;
	ds_netlink_shut(opened, true);
	return NULL;
}

/* netlinkOpen(protocol, receive_buffer_bytes, on_event): socket */
napi_value ds_netlink_open(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	int fd, error;

	ds_args_begin(&args, env, info, 3);
	int protocol = (int)ds_arg_u32(&args, 0, "protocol", 0, MAX_LINKS - 1);
	uint32_t bytes = ds_arg_u32(&args, 1, "receiveBufferBytes", 1, INT32_MAX / 2);
	ds_arg_function(&args, 2, "onEvent");
	if (args.failed)
		return NULL;
	const char *failed = open_socket(&fd, protocol, bytes);
	if (failed != NULL) {
		error = errno;
		if (fd >= 0)
			close(fd);
		return ds_throw_errno(env, error, failed, "netlink socket");
	}
	struct ds_netlink *opened = watch(&args, fd, 2, &error);
	if (opened == NULL)
		return ds_throw_errno(env, error, "uv_poll", "netlink socket");
	return ds_u32(env, opened->id);
}

/* netlinkJoin(socket, group): a multicast group of the socket's protocol */
napi_value ds_netlink_join(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 2);
	struct ds_netlink *netlink = find_netlink(&args);
	int group = (int)ds_arg_u32(&args, 1, "group", 1, INT32_MAX);
	if (args.failed)
		return NULL;
	if (netlink == NULL)
		return ds_throw_errno(env, EBADF, "setsockopt", "closed netlink socket");
	if (setsockopt(netlink->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0)
		return ds_throw_errno(env, errno, "setsockopt(NETLINK_ADD_MEMBERSHIP)",
				      "netlink socket");
	return NULL;
}

/* netlinkSend(socket, bytes): to the kernel */
napi_value ds_netlink_send(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	bool is_typed = false;
	napi_typedarray_type type;
	size_t length = 0;
	void *data = NULL;
	ssize_t sent;

	ds_args_begin(&args, env, info, 2);
	struct ds_netlink *netlink = find_netlink(&args);
	if (args.failed)
		return NULL;
	if (napi_is_typedarray(env, args.value[1], &is_typed) != napi_ok || !is_typed ||
	    napi_get_typedarray_info(env, args.value[1], &type, &length, &data, NULL, NULL) !=
		    napi_ok ||
	    type != napi_uint8_array || length == 0 || length > DS_NETLINK_DATAGRAM_MAX ||
	    data == NULL)
		return ds_throw_argument(env, "bytes", "must be a Uint8Array of 1..65536 bytes");
	if (netlink == NULL)
		return ds_throw_errno(env, EBADF, "sendto", "closed netlink socket");
	do
		sent = sendto(netlink->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL,
			      (const struct sockaddr *)&kernel, sizeof kernel);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return ds_throw_errno(env, errno, "sendto", "netlink socket");
	return NULL;
}

/* netlinkReceive(socket): what is queued comes now, as events; false when nothing is queued any more */
napi_value ds_netlink_receive(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	napi_value more;

	ds_args_begin(&args, env, info, 1);
	struct ds_netlink *netlink = find_netlink(&args);
	if (args.failed)
		return NULL;
	if (napi_get_boolean(env, netlink != NULL && receive(netlink), &more) != napi_ok)
		return NULL;
	return more;
}

/* netlinkClose(socket): idempotent; no event follows */
napi_value ds_netlink_close(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 1);
	struct ds_netlink *netlink = find_netlink(&args);
	if (netlink != NULL)
		ds_netlink_shut(netlink, true);
	return NULL;
}
