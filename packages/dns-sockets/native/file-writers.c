/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Whether a process has a file open for writing: the kernel gives a read lease (fcntl(2), F_SETLEASE) only while none
 * has. The lease is returned at once. Who opens the file in that moment makes the kernel send us a signal, whose default
 * would end the process: SIGURG in its place is ignored.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Whether the file system is local. Others (NFS, CIFS) refuse a lease with the same errno for reasons of their own. */
static bool gives_leases(int fd)
{
	struct statfs system;
	struct stat file;

	if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) || fstatfs(fd, &system) != 0)
		return false;
	switch ((unsigned long)system.f_type) {
	case 0xef53:     /* ext2, ext3, ext4 */
	case 0x58465342: /* XFS */
	case 0x9123683e: /* Btrfs */
	case 0xf2f52010: /* F2FS */
	case 0x01021994: /* tmpfs */
	case 0x794c7630: /* overlayfs */
		return true;
	default:
		return false;
	}
}

/* hasWriter(fd): `fd` is open for reading alone. False also where the kernel does not say: the file is of another user. */
napi_value ds_has_writer(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	bool has_writer = false;
	napi_value result = NULL;

	ds_args_begin(&args, env, info, 1);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	if (args.failed)
		return NULL;
	if (gives_leases(fd) && fcntl(fd, F_SETSIG, SIGURG) == 0) {
		if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
			fcntl(fd, F_SETLEASE, F_UNLCK);
		else
			has_writer = errno == EAGAIN;
	}
	napi_get_boolean(env, has_writer, &result);
	return result;
}
