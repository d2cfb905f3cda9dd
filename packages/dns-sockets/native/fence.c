/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * A pipe with a name by which a process lets itself be killed: the kernel sends SIGKILL to it as soon as
 * a process writes into the pipe, whether it runs, is stopped, or turns in a loop, and whichever PID namespace
 * the writer is in. Only who may open the pipe can do that.
 *
 * The process has both ends, each in a descriptor of its own. Without a writer that stays, the last one to close would be an event of
 * the reading end. And only the reading end is asynchronous: the kernel signals a writing end each time that anybody reads, even where
 * nothing was there to be read (pipe_read), so that a backup or a search through the directory would kill.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *arm(int fd)
{
	if (fcntl(fd, F_SETOWN, getpid()) != 0)
		return "fcntl(F_SETOWN)";
	if (fcntl(fd, F_SETSIG, SIGKILL) != 0)
		return "fcntl(F_SETSIG)";
	if (fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC) != 0)
		return "fcntl(O_ASYNC)";
	return NULL;
}

/* armFence(path): fd of the reading end; the pipe is made, for its owner alone, and must not be there before. */
napi_value ds_arm_fence(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	char path[PATH_MAX];

	ds_args_begin(&args, env, info, 1);
	ds_arg_string(&args, 0, "path", path, sizeof path);
	if (args.failed)
		return NULL;
	if (mkfifo(path, S_IRUSR | S_IWUSR) != 0)
		return ds_throw_errno(env, errno, "mkfifo", path);
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	int writing = fd < 0 ? -1 : open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	const char *failed = writing < 0 ? "open" : arm(fd);
	if (failed != NULL) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		if (writing >= 0)
			close(writing);
		unlink(path);
		return ds_throw_errno(env, error, failed, path);
	}
	/* The writing end is not owned, but stays open as long as the process lives: closed before the other one it would kill. */
	if (!ds_own_fd(args.ds, fd))
		return ds_throw_errno(env, errno, "realloc", path);
	return ds_u32(env, (uint32_t)fd);
}
