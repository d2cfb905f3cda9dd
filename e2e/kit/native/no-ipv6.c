/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Preloaded into a process: shows it a kernel without IPv6 (ipv6.disable=1), which cannot be had in a network namespace. Sockets of
 * the family are refused with EAFNOSUPPORT, and what the kernel shows of it under /proc is not there. Addresses and rules
 * are the kernel's own: switch IPv6 off by sysctl, so that there are none.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEXT(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static bool is_absent(const char *path)
{
	static const char *const absent[] = { "/proc/sys/net/ipv6", "/proc/net/if_inet6" };

	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		if (path != NULL && strncmp(path, absent[i], strlen(absent[i])) == 0)
			return true;
	return false;
}

int socket(int family, int type, int protocol)
{
	if (family != AF_INET6)
		return NEXT(socket, family, type, protocol);
	errno = EAFNOSUPPORT;
	return -1;
}

int access(const char *path, int mode)
{
	if (!is_absent(path))
		return NEXT(access, path, mode);
	errno = ENOENT;
	return -1;
}
