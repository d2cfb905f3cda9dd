/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The network namespace of the calling thread, as the kernel reports it.
 */
#include "loader.h"

#include <errno.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* netnsCookie(): bigint, unique on this kernel until it reboots */
EXPORTED(netns_cookie)
{
	struct call call;
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);
	napi_value result = NULL;
	int fd, error = 0;

	if (!call_begin(env, info, 0, &call))
		return NULL;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return throw_errno(&call, errno, "open a socket in", "the network namespace",
				   "socket");
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0)
		error = errno;
	close(fd);
	if (error != 0)
		return throw_errno(&call, error, "read the cookie of", "the network namespace",
				   "SO_NETNS_COOKIE");
	napi_create_bigint_uint64(env, cookie, &result);
	return result;
}

/* interfaceIndex(name): 0 when there is no such interface */
EXPORTED(interface_index)
{
	struct call call;
	char name[IF_NAMESIZE];

	if (!call_begin(env, info, 1, &call) || !argument_string(&call, 0, "name", name, sizeof(name)))
		return NULL;
	return make_u32(env, if_nametoindex(name));
}
