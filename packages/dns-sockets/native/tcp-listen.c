/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Accepting TCP connections without reading them: JavaScript gets a file descriptor and the two
 * addresses, and decides when, and whether, a socket is made of it. Accepting itself is that of
 * unix-listen.c.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/*
 * Longest wait of an accept4 in which the other member clears O_NONBLOCK of its listener just before (unix-listen.c); the kernel
 * rounds it up to a tick.
 */
static const struct timeval accept_wait_max = {.tv_usec = 1};

/* tcpListen(fd, on_event): listener; watches a duplicate of a listening TCP socket. */
napi_value ds_tcp_listen(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	int type = 0, listening = 0;
	socklen_t length = sizeof type;

	ds_args_begin(&args, env, info, 2);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	ds_arg_function(&args, 1, "onEvent");
	if (args.failed)
		return NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0)
		return ds_throw_errno(env, errno, "getsockopt", "TCP listener");
	if (type != SOCK_STREAM || !listening)
		return ds_throw_errno(env, EPROTOTYPE, "getsockopt", "TCP listener");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &accept_wait_max, sizeof accept_wait_max) != 0)
		return ds_throw_errno(env, errno, "setsockopt(SO_RCVTIMEO)", "TCP listener");
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return ds_throw_errno(env, errno, "fcntl(F_DUPFD_CLOEXEC)", "TCP listener");
	struct ds_unix *opened = ds_unix_open(&args, copy, true, 1);
	if (opened == NULL)
		return NULL;
	opened->accepts_max = DS_TCP_ACCEPTS_MAX;
	return ds_u32(env, opened->id);
}

/*
 * tcpAddresses(fd, bytes): the peer's port; bytes[0..15] the peer's address, bytes[16..31] the local
 * one. Throws ENOTCONN when the peer is gone already.
 */
napi_value ds_tcp_addresses(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	union ds_address peer = {0}, local = {0};
	socklen_t peer_length = sizeof peer, local_length = sizeof local;
	bool is_typed = false;
	napi_typedarray_type type;
	size_t length = 0;
	void *data = NULL;
	uint16_t peer_port, local_port;

	ds_args_begin(&args, env, info, 2);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	if (args.failed)
		return NULL;
	if (napi_is_typedarray(env, args.value[1], &is_typed) != napi_ok || !is_typed ||
	    napi_get_typedarray_info(env, args.value[1], &type, &length, &data, NULL, NULL) !=
		    napi_ok ||
	    type != napi_uint8_array || length < 32 || data == NULL)
		return ds_throw_argument(env, "bytes", "must be a Uint8Array of 32 bytes");
	if (getpeername(fd, &peer.any, &peer_length) != 0)
		return ds_throw_errno(env, errno, "getpeername", "TCP connection");
	if (getsockname(fd, &local.any, &local_length) != 0)
		return ds_throw_errno(env, errno, "getsockname", "TCP connection");
	if ((peer.any.sa_family != AF_INET && peer.any.sa_family != AF_INET6) ||
	    local.any.sa_family != peer.any.sa_family)
		return ds_throw_errno(env, EAFNOSUPPORT, "getpeername", "TCP connection");
	ds_address_to_bytes(&peer, data, &peer_port);
	ds_address_to_bytes(&local, (uint8_t *)data + 16, &local_port);
	return ds_u32(env, peer_port);
}

/*
 * tcpResetOnClose(fd): the close of the last descriptor sends RST, whatever is unread or unsent. Any open socket; needs no descriptor.
 */
napi_value ds_tcp_reset_on_close(napi_env env, napi_callback_info info)
{
	static const struct linger none = {.l_onoff = 1, .l_linger = 0};
	struct ds_args args;

	ds_args_begin(&args, env, info, 1);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	if (args.failed)
		return NULL;
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) != 0)
		return ds_throw_errno(env, errno, "setsockopt(SO_LINGER)", "tcpResetOnClose");
	return NULL;
}
