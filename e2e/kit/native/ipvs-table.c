/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Preloaded into a process: opens another file in the place of /proc/net/ip_vs, which a kernel without the module ip_vs
 * does not have.
 *
 * IPVS_TABLE  path of the other file
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "/proc/net/ip_vs"

static const char *instead(const char *path)
{
	const char *other = getenv("IPVS_TABLE");

	return other != NULL && strcmp(path, TABLE) == 0 ? other : path;
}

/* The mode is read as libc does: an unused argument is harmless. */
#define OPENED(name)                                                                               \
	int name(const char *path, int flags, ...)                                                 \
	{                                                                                          \
		int (*next)(const char *, int, ...) =                                              \
			(int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                  \
		va_list list;                                                                      \
		mode_t mode;                                                                       \
                                                                                                   \
		va_start(list, flags);                                                             \
		mode = va_arg(list, mode_t);                                                       \
		va_end(list);                                                                      \
		return next(instead(path), flags, mode);                                           \
	}

OPENED(open)
OPENED(open64)
