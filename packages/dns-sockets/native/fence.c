/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * A pipe with a name by which a process lets itself be killed: the kernel sends SIGKILL to it as soon as
 * a process writes into the pipe, whether it runs, is stopped, or turns in a loop, and whichever PID namespace
 * the writer is in. Only who may open the pipe can do that.
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
	if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK | O_ASYNC) != 0)
		return "fcntl(O_ASYNC)";
	return NULL;
}

/* armFence(path): fd; the pipe is made, for its owner alone, and must not be there before. */
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
	/* For reading and writing: a pipe whose last writer closes it is no reason to kill anybody. */
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	const char *failed = fd < 0 ? "open" : arm(fd);
	if (failed != NULL) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		unlink(path);
		return ds_throw_errno(env, error, failed, path);
	}
	if (!ds_own_fd(args.ds, fd))
		return ds_throw_errno(env, errno, "realloc", path);
	return ds_u32(env, (uint32_t)fd);
}
