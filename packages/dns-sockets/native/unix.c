/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * SOCK_SEQPACKET connections that carry messages with file descriptors: the link between the two
 * members. These are control messages, so JavaScript is called with the full checkpoint
 * (napi_make_callback): promises work. A connection that ended closes itself.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static struct ds_unix *find_unix(struct ds_args *args)
{
	uint32_t id = ds_arg_u32(args, 0, "socket", 0, UINT32_MAX);

	if (args->failed)
		return NULL;
	struct ds_unix *found = args->ds->unixes[id % DS_UNIX_MAX];
	return found != NULL && found->id == id ? found : NULL;
}

static void on_closed(uv_handle_t *handle)
{
	struct ds_unix *closed = handle->data;
	struct ds_env *ds = closed->env;

	free(closed);
	ds_handle_closed(ds);
}

void ds_unix_shut(struct ds_unix *unix_socket, bool delete_references)
{
	if (unix_socket->closing)
		return;
	unix_socket->closing = true;
	unix_socket->env->unixes[unix_socket->id % DS_UNIX_MAX] = NULL;
	uv_poll_stop(&unix_socket->poll);
	uv_close((uv_handle_t *)&unix_socket->poll, on_closed);
	close(unix_socket->fd);
	unix_socket->fd = -1;
	if (delete_references)
		napi_delete_reference(unix_socket->env->env, unix_socket->on_event);
}

/* The caller has a handle scope open. */
void ds_unix_emit(struct ds_unix *unix_socket, uint32_t event, napi_value first, napi_value second)
{
	napi_env env = unix_socket->env->env;
	napi_value callee, receiver, arguments[3] = {ds_u32(env, event), first, second};

	if (napi_get_reference_value(env, unix_socket->on_event, &callee) != napi_ok ||
	    callee == NULL || napi_get_global(env, &receiver) != napi_ok)
		return;
	if (napi_make_callback(env, unix_socket->env->async_context, receiver, callee, 3, arguments,
			       NULL) != napi_ok)
		ds_uncaught(env);
}

static void emit_error(struct ds_unix *unix_socket, int error)
{
	napi_env env = unix_socket->env->env;
	napi_value undefined;

	if (napi_get_undefined(env, &undefined) == napi_ok)
		ds_unix_emit(unix_socket, DS_UNIX_ERROR, ds_u32(env, (uint32_t)error), undefined);
}

static void emit_end(struct ds_unix *unix_socket)
{
	napi_value undefined;

	if (napi_get_undefined(unix_socket->env->env, &undefined) == napi_ok)
		ds_unix_emit(unix_socket, DS_UNIX_END, undefined, undefined);
	ds_unix_shut(unix_socket, true);
}

struct received_fds {
	int fd[DS_UNIX_FDS_MAX];
	size_t count;
};

static void collect_fds(struct msghdr *header, struct received_fds *fds)
{
	fds->count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (fds->count < DS_UNIX_FDS_MAX)
				fds->fd[fds->count++] = fd;
			else
				close(fd);
		}
	}
}

/* Registers the fds as ours and hands them over with a copy of the bytes. */
static void emit_message(struct ds_unix *unix_socket, const struct received_fds *fds, size_t length)
{
	napi_env env = unix_socket->env->env;
	napi_value bytes, array, number;
	void *copy = NULL;
	size_t owned = 0;

	while (owned < fds->count && ds_own_fd(unix_socket->env, fds->fd[owned]))
		owned++;
	for (size_t i = owned + 1; i < fds->count; i++)
		close(fds->fd[i]);
	if (owned < fds->count) {
		emit_error(unix_socket, ENOMEM);
		return;
	}
	if (napi_create_arraybuffer(env, length, &copy, &bytes) != napi_ok ||
	    napi_create_array_with_length(env, fds->count, &array) != napi_ok) {
		ds_uncaught(env);
		return;
	}
	memcpy(copy, unix_socket->env->message, length);
	for (size_t i = 0; i < fds->count; i++)
		if (napi_create_int32(env, fds->fd[i], &number) == napi_ok)
			napi_set_element(env, array, (uint32_t)i, number);
	ds_unix_emit(unix_socket, DS_UNIX_MESSAGE, bytes, array);
}

/*
 * False when there is nothing more to read now. A message that lost bytes or fds on the way breaks
 * any protocol over it: error, then end.
 */
static bool read_message(struct ds_unix *unix_socket)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int) * DS_UNIX_FDS_MAX)];
	} control;
	struct iovec iov = {unix_socket->env->message, DS_UNIX_MESSAGE_MAX};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof control.bytes,
	};
	struct received_fds fds;
	ssize_t length = recvmsg(unix_socket->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (length < 0) {
		if (errno == EAGAIN)
			return false;
		/* A peer that died with our messages unread: what it sent before is still here. */
		if (errno == EINTR || errno == ECONNRESET)
			return true;
		emit_error(unix_socket, errno);
		if (!unix_socket->closing)
			emit_end(unix_socket);
		return false;
	}
	collect_fds(&header, &fds);
	bool is_cut = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
	if (is_cut || length == 0) {
		/* An empty message reads as the end, and may carry fds. */
		for (size_t i = 0; i < fds.count; i++)
			close(fds.fd[i]);
		if (is_cut)
			emit_error(unix_socket, EMSGSIZE);
		if (!unix_socket->closing)
			emit_end(unix_socket);
		return false;
	}
	emit_message(unix_socket, &fds, (size_t)length);
	return !unix_socket->closing;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct ds_unix *unix_socket = poll->data;
	napi_handle_scope scope;

	(void)events;
	if (unix_socket->closing ||
	    napi_open_handle_scope(unix_socket->env->env, &scope) != napi_ok)
		return;
	for (int i = 0; i < DS_UNIX_READS_MAX; i++)
		if (!read_message(unix_socket))
			break;
	if (status < 0 && !unix_socket->closing)
		uv_poll_start(&unix_socket->poll, UV_READABLE, on_readable);
	napi_close_handle_scope(unix_socket->env->env, scope);
}

/* Takes `fd` over (closed on failure, with an exception thrown). */
struct ds_unix *ds_unix_open(struct ds_args *args, int fd, bool is_listener, size_t callback)
{
	struct ds_env *ds = args->ds;
	uint32_t index = 0;
	int error = ENOBUFS;
	struct ds_unix *opened = NULL;

	while (index < DS_UNIX_MAX && ds->unixes[index] != NULL)
		index++;
	if (index < DS_UNIX_MAX)
		opened = calloc(1, sizeof *opened);
	if (opened != NULL && napi_create_reference(args->env, args->value[callback], 1,
						    &opened->on_event) == napi_ok) {
		error = -uv_poll_init(ds->uv, &opened->poll, fd);
		if (error != 0)
			napi_delete_reference(args->env, opened->on_event);
	}
	if (error != 0) {
		free(opened);
		close(fd);
		ds_throw_errno(args->env, error, "uv_poll_init", "unix socket");
		return NULL;
	}
	opened->env = ds;
	opened->fd = fd;
	opened->is_listener = is_listener;
	opened->accepts_max = DS_UNIX_READS_MAX;
	opened->poll.data = opened;
	opened->id = ++ds->unix_generation % (1u << 22) * DS_UNIX_MAX + index;
	ds->unixes[index] = opened;
	ds->open_handles++;
	error = -uv_poll_start(&opened->poll, UV_READABLE,
			       is_listener ? ds_unix_on_connection : on_readable);
	if (error != 0) {
		ds_unix_shut(opened, true);
		ds_throw_errno(args->env, error, "uv_poll_start", "unix socket");
		return NULL;
	}
	return opened;
}

/* unixConnect(path, on_event): socket */
napi_value ds_unix_connect(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	ds_args_begin(&args, env, info, 2);
	ds_arg_string(&args, 0, "path", address.sun_path, sizeof address.sun_path);
	ds_arg_function(&args, 1, "onEvent");
	if (args.failed)
		return NULL;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ds_throw_errno(env, errno, "socket", address.sun_path);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		int error = errno;
		close(fd);
		return ds_throw_errno(env, error, "connect", address.sun_path);
	}
	struct ds_unix *opened = ds_unix_open(&args, fd, false, 1);
	return opened == NULL ? NULL : ds_u32(env, opened->id);
}

/* unixAdopt(fd, on_event): socket; a connected SOCK_SEQPACKET fd that this environment owns */
napi_value ds_unix_adopt(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	int type = 0, domain = 0;
	socklen_t length = sizeof type;

	ds_args_begin(&args, env, info, 2);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	ds_arg_function(&args, 1, "onEvent");
	if (args.failed)
		return NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0)
		return ds_throw_errno(env, errno, "getsockopt", "unix socket");
	if (type != SOCK_SEQPACKET || domain != AF_UNIX)
		return ds_throw_errno(env, EPROTOTYPE, "getsockopt", "unix socket");
	if (!ds_disown_fd(args.ds, fd))
		return ds_throw_errno(env, EBADF, "unixAdopt", "foreign fd");
	struct ds_unix *opened = ds_unix_open(&args, fd, false, 1);
	return opened == NULL ? NULL : ds_u32(env, opened->id);
}

static bool read_fd_array(struct ds_args *args, size_t index, int *fds, size_t *count)
{
	uint32_t length = 0;
	bool is_array = false;

	*count = 0;
	if (napi_is_array(args->env, args->value[index], &is_array) != napi_ok || !is_array ||
	    napi_get_array_length(args->env, args->value[index], &length) != napi_ok ||
	    length > DS_UNIX_FDS_MAX)
		return false;
	for (uint32_t i = 0; i < length; i++) {
		napi_value element;
		double number;

		if (napi_get_element(args->env, args->value[index], i, &element) != napi_ok ||
		    napi_get_value_double(args->env, element, &number) != napi_ok ||
		    !(number >= 0 && number <= INT32_MAX) || (int)number != number)
			return false;
		fds[i] = (int)number;
	}
	*count = length;
	return true;
}

/* unixSend(socket, bytes, fds): false if the peer's queue is full */
napi_value ds_unix_send(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(sizeof(int) * DS_UNIX_FDS_MAX)];
	} control = {0};
	int fds[DS_UNIX_FDS_MAX];
	size_t fd_count = 0, length = 0;
	bool is_typed = false;
	napi_typedarray_type type;
	void *data = NULL;
	napi_value result = NULL;

	ds_args_begin(&args, env, info, 3);
	struct ds_unix *unix_socket = find_unix(&args);
	if (args.failed)
		return NULL;
	if (!read_fd_array(&args, 2, fds, &fd_count))
		return ds_throw_argument(env, "fds", "must be an array of at most 16 fds");
	if (napi_is_typedarray(env, args.value[1], &is_typed) != napi_ok || !is_typed ||
	    napi_get_typedarray_info(env, args.value[1], &type, &length, &data, NULL, NULL) !=
		    napi_ok ||
	    type != napi_uint8_array || length == 0 || length > DS_UNIX_MESSAGE_MAX || data == NULL)
		return ds_throw_argument(env, "bytes", "must be a Uint8Array of 1..65536 bytes");
	if (unix_socket == NULL || unix_socket->closing || unix_socket->is_listener)
		return ds_throw_errno(env, EPIPE, "sendmsg", "closed unix socket");

	struct iovec iov = {data, length};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd_count > 0) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * fd_count);
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
	}
	ssize_t sent;
	do
		sent = sendmsg(unix_socket->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		return ds_throw_errno(env, errno, "sendmsg", "unix socket");
	napi_get_boolean(env, sent >= 0, &result);
	return result;
}

/* unixClose(socket): idempotent; a listener also removes its path if it is still its own */
napi_value ds_unix_close(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 1);
	struct ds_unix *unix_socket = find_unix(&args);
	if (unix_socket == NULL)
		return NULL;
	if (unix_socket->is_listener)
		ds_unix_remove_path(unix_socket);
	ds_unix_shut(unix_socket, true);
	return NULL;
}

/* peerCredentials(fd): [pid, uid, gid] at the time of connect or listen (SO_PEERCRED) */
napi_value ds_peer_credentials(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	struct ucred credentials;
	socklen_t length = sizeof credentials;
	napi_value array;

	ds_args_begin(&args, env, info, 1);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	if (args.failed)
		return NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
		return ds_throw_errno(env, errno, "getsockopt(SO_PEERCRED)", "peerCredentials");
	/* Any socket answers; one without a peer says pid 0 and uid -1. */
	if (credentials.pid == 0 && credentials.uid == (uid_t)-1)
		return ds_throw_errno(env, ENOTCONN, "getsockopt(SO_PEERCRED)", "peerCredentials");
	if (napi_create_array_with_length(env, 3, &array) != napi_ok)
		return NULL;
	napi_set_element(env, array, 0, ds_u32(env, (uint32_t)credentials.pid));
	napi_set_element(env, array, 1, ds_u32(env, credentials.uid));
	napi_set_element(env, array, 2, ds_u32(env, credentials.gid));
	return array;
}
