/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Listening SOCK_SEQPACKET sockets. The path's mode is set through the inode before bind(), so it
 * is never wider than asked for; a path that a dead process left is replaced, a live one is not.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * A socket file that refuses: no process listens there any more. The kernel refuses a connection to any
 * other file, too, hence the look at its type.
 */
static bool is_abandoned(const struct sockaddr_un *address)
{
	struct stat status;

	if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	bool refused = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
		       errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static const char *bind_path(int fd, const struct sockaddr_un *address, mode_t mode, int backlog)
{
	if (fchmod(fd, mode) != 0)
		return "fchmod";
	if (bind(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
		if (errno != EADDRINUSE)
			return "bind";
		if (!is_abandoned(address)) {
			errno = EADDRINUSE;
			return "bind";
		}
		if (unlink(address->sun_path) != 0)
			return "unlink";
		if (bind(fd, (const struct sockaddr *)address, sizeof *address) != 0)
			return "bind";
	}
	/* The umask may have taken bits away that were asked for. */
	if (chmod(address->sun_path, mode) != 0)
		return "chmod";
	if (listen(fd, backlog) != 0)
		return "listen";
	return NULL;
}

/* unixListen(path, mode, backlog, on_event): socket */
napi_value ds_unix_listen(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;

	ds_args_begin(&args, env, info, 4);
	ds_arg_string(&args, 0, "path", address.sun_path, sizeof address.sun_path);
	mode_t mode = ds_arg_u32(&args, 1, "mode", 0, 0777);
	int backlog = (int)ds_arg_u32(&args, 2, "backlog", 1, 4096);
	ds_arg_function(&args, 3, "onEvent");
	if (args.failed)
		return NULL;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ds_throw_errno(env, errno, "socket", address.sun_path);
	const char *failed = bind_path(fd, &address, mode, backlog);
	if (failed == NULL && stat(address.sun_path, &status) != 0)
		failed = "stat";
	if (failed != NULL) {
		int error = errno;
		close(fd);
		return ds_throw_errno(env, error, failed, address.sun_path);
	}
	struct ds_unix *opened = ds_unix_open(&args, fd, true, 3);
	if (opened == NULL)
		return NULL;
	opened->device = status.st_dev;
	opened->inode = status.st_ino;
	memcpy(opened->path, address.sun_path, sizeof opened->path);
	return ds_u32(env, opened->id);
}

void ds_unix_remove_path(struct ds_unix *listener)
{
	struct stat status;

	if (stat(listener->path, &status) == 0 && status.st_dev == listener->device &&
	    status.st_ino == listener->inode)
		unlink(listener->path);
}

/*
 * A listener of the other member is one open file with that member's, O_NONBLOCK included, which it can clear at any time: accept4
 * would wait for the next connection, and with it this thread. SOCK_NONBLOCK is about the accepted connection alone.
 */
static bool make_nonblocking(int listener_fd)
{
	int flags = fcntl(listener_fd, F_GETFL);

	return flags >= 0 &&
	       ((flags & O_NONBLOCK) || fcntl(listener_fd, F_SETFL, flags | O_NONBLOCK) == 0);
}

/*
 * Out of file descriptors: the connection would stay in the queue and wake us for ever. A reserve
 * descriptor is given up to accept it and close it.
 */
static void refuse_one(struct ds_env *ds, int listener_fd)
{
	close(ds->reserve_fd);
	int fd = make_nonblocking(listener_fd) ? accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
	if (fd >= 0)
		close(fd);
	ds->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/*
 * False when this wake is over: none waits, or the accept failed. (Without a free descriptor it
 * fails whether one waits or not; the poll knows.)
 */
static bool accept_one(struct ds_unix *listener)
{
	static const struct linger none;
	struct ds_env *ds = listener->env;
	napi_value undefined;
	int fd = -1;

	if (make_nonblocking(listener->fd))
		fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int error = fd < 0 ? errno : 0;

	if (error == EAGAIN)
		return false;
	if (error == EINTR || error == ECONNABORTED)
		return true;
	/* A connection inherits it, and close(2) would wait for the client. */
	if (error == 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	if (error == 0 && !ds_own_fd(ds, fd))
		error = errno;
	if (error == EMFILE || error == ENFILE)
		refuse_one(ds, listener->fd);
	if (napi_get_undefined(ds->env, &undefined) != napi_ok)
		return false;
	ds_unix_emit(listener, error == 0 ? DS_UNIX_CONNECTION : DS_UNIX_ERROR,
		     ds_u32(ds->env, (uint32_t)(error == 0 ? fd : error)), undefined);
	return error == 0 && !listener->closing;
}

void ds_unix_on_connection(uv_poll_t *poll, int status, int events)
{
	struct ds_unix *listener = poll->data;
	napi_handle_scope scope;

	(void)events;
	if (listener->closing || napi_open_handle_scope(listener->env->env, &scope) != napi_ok)
		return;
	for (int i = 0; i < listener->accepts_max; i++)
		if (!accept_one(listener))
			break;
	if (status < 0 && !listener->closing)
		uv_poll_start(&listener->poll, UV_READABLE, ds_unix_on_connection);
	napi_close_handle_scope(listener->env->env, scope);
}
