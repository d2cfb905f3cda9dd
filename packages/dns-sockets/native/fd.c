/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * File descriptors that the addon made or received. JavaScript can close only these: closing any
 * other number could take the event loop's own descriptor away.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool ds_is_v4(const uint8_t bytes[16])
{
	return memcmp(bytes, v4_mapped, sizeof v4_mapped) == 0;
}

/* Zero in either notation: :: and ::ffff:0.0.0.0. */
bool ds_is_unspecified(const uint8_t bytes[16])
{
	static const uint8_t zero[16];

	return memcmp(bytes + 12, zero, 4) == 0 &&
	       (memcmp(bytes, zero, 12) == 0 || ds_is_v4(bytes));
}

void ds_address_to_bytes(const union ds_address *from, uint8_t bytes[16], uint16_t *port)
{
	if (from->any.sa_family == AF_INET) {
		memcpy(bytes, v4_mapped, 12);
		memcpy(bytes + 12, &from->v4.sin_addr, 4);
		*port = ntohs(from->v4.sin_port);
	} else {
		memcpy(bytes, &from->v6.sin6_addr, 16);
		*port = ntohs(from->v6.sin6_port);
	}
}

socklen_t ds_address_from_bytes(union ds_address *to, const uint8_t bytes[16], uint16_t port)
{
	memset(to, 0, sizeof *to);
	if (ds_is_v4(bytes)) {
		to->v4.sin_family = AF_INET;
		to->v4.sin_port = htons(port);
		memcpy(&to->v4.sin_addr, bytes + 12, 4);
		return sizeof to->v4;
	}
	to->v6.sin6_family = AF_INET6;
	to->v6.sin6_port = htons(port);
	memcpy(&to->v6.sin6_addr, bytes, 16);
	return sizeof to->v6;
}

static ino_t inode_of(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

/* Takes over `fd`; on failure it is closed and errno is set. */
bool ds_own_fd(struct ds_env *ds, int fd)
{
	if (ds->owned_count == ds->owned_capacity) {
		size_t capacity = ds->owned_capacity ? ds->owned_capacity * 2 : 64;
		struct ds_owned_fd *grown = realloc(ds->owned, capacity * sizeof *grown);

		if (grown == NULL) {
			close(fd);
			errno = ENOMEM;
			return false;
		}
		ds->owned = grown;
		ds->owned_capacity = capacity;
	}
	ds->owned[ds->owned_count++] = (struct ds_owned_fd){.fd = fd, .inode = inode_of(fd)};
	return true;
}

/* True if `fd` was ours and still names the file that we registered. */
bool ds_owns_fd(const struct ds_env *ds, int fd)
{
	for (size_t i = 0; i < ds->owned_count; i++) {
		if (ds->owned[i].fd == fd && ds->owned[i].inode != 0 && ds->owned[i].inode == inode_of(fd))
			return true;
	}
	return false;
}

bool ds_disown_fd(struct ds_env *ds, int fd)
{
	/* Newest first: a stale entry of the same number may lie below. */
	for (size_t i = ds->owned_count; i-- > 0;) {
		if (ds->owned[i].fd != fd)
			continue;
		ino_t inode = ds->owned[i].inode;
		ds->owned[i] = ds->owned[--ds->owned_count];
		if (inode == inode_of(fd) && inode != 0)
			return true;
	}
	return false;
}

void ds_close_owned_fds(struct ds_env *ds)
{
	for (size_t i = ds->owned_count; i-- > 0;)
		if (ds->owned[i].inode != 0 && ds->owned[i].inode == inode_of(ds->owned[i].fd))
			close(ds->owned[i].fd);
	ds->owned_count = 0;
	free(ds->owned);
	ds->owned = NULL;
	ds->owned_capacity = 0;
}

/* closeFd(fd) */
napi_value ds_close_fd(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 1);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	if (args.failed)
		return NULL;
	if (!ds_disown_fd(args.ds, fd))
		return ds_throw_errno(env, EBADF, "close", "closeFd of a foreign or closed fd");
	close(fd);
	return NULL;
}

/* releaseFd(fd): from now on the caller (node:net) closes it. */
napi_value ds_release_fd(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 1);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	if (args.failed)
		return NULL;
	if (!ds_disown_fd(args.ds, fd))
		return ds_throw_errno(env, EBADF, "close", "releaseFd of a foreign or closed fd");
	return ds_u32(env, (uint32_t)fd);
}

/* duplicateFd(fd): any open fd; the duplicate is ours. */
napi_value ds_duplicate_fd(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 1);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	if (args.failed)
		return NULL;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return ds_throw_errno(env, errno, "fcntl(F_DUPFD_CLOEXEC)", "duplicateFd");
	if (!ds_own_fd(args.ds, copy))
		return ds_throw_errno(env, errno, "realloc", "duplicateFd");
	return ds_u32(env, (uint32_t)copy);
}

/* tryLockFd(fd, shared): false if another process holds the lock; see flock(2) */
napi_value ds_try_lock_fd(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	napi_value result = NULL;

	ds_args_begin(&args, env, info, 2);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	bool shared = ds_arg_u32(&args, 1, "shared", 0, 1);
	if (args.failed)
		return NULL;
	bool locked = flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0;
	if (!locked && errno != EWOULDBLOCK)
		return ds_throw_errno(env, errno, "flock", "lock");
	napi_get_boolean(env, locked, &result);
	return result;
}

/* localPort(fd) */
napi_value ds_local_port(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	union ds_address address = {.any.sa_family = AF_UNSPEC};
	socklen_t length = sizeof address;
	uint8_t bytes[16];
	uint16_t port;

	ds_args_begin(&args, env, info, 1);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	if (args.failed)
		return NULL;
	if (getsockname(fd, &address.any, &length) != 0)
		return ds_throw_errno(env, errno, "getsockname", "localPort");
	if (address.any.sa_family != AF_INET && address.any.sa_family != AF_INET6)
		return ds_throw_errno(env, EAFNOSUPPORT, "getsockname", "localPort");
	ds_address_to_bytes(&address, bytes, &port);
	return ds_u32(env, port);
}
