/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Preloaded into a process: counts its calls that change the file system or, by netlink, the network, and its starts of programs,
 * and ends it in the place of one of them. Only in node: programs that it starts inherit the environment.
 *
 * FILE_FAULT_COUNT  file of one word of 32 bits, made by who starts the process: calls so far
 * FILE_FAULT        the call, from 1, in whose place the process is ended by SIGKILL; 0: none
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t *count;
static uint32_t fault;

__attribute__((constructor)) static void prepare(void)
{
	const char *path = getenv("FILE_FAULT_COUNT");
	const char *nth = getenv("FILE_FAULT");
	char program[4096];
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
	int fd;

	if (length < 5 || memcmp(program + length - 5, "/node", 5) != 0)
		return;
	if (path != NULL && (fd = open(path, O_RDWR | O_CLOEXEC)) >= 0) {
		void *at = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		close(fd);
		if (at != MAP_FAILED)
			count = at;
	}
	fault = nth == NULL ? 0 : (uint32_t)atoi(nth);
}

static void counted(void)
{
	if (count != NULL && __atomic_add_fetch(count, 1, __ATOMIC_RELAXED) == fault)
		kill(getpid(), SIGKILL);
}

#define NEXT(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)
#define COUNTED(name, parameters, ...)                                                             \
	int name parameters                                                                        \
	{                                                                                          \
		counted();                                                                         \
		return NEXT(name, __VA_ARGS__);                                                    \
	}

COUNTED(mkdir, (const char *path, mode_t mode), path, mode)
COUNTED(rmdir, (const char *path), path)
COUNTED(rename, (const char *from, const char *to), from, to)
COUNTED(unlink, (const char *path), path)
COUNTED(link, (const char *from, const char *to), from, to)
COUNTED(symlink, (const char *target, const char *path), target, path)
COUNTED(chmod, (const char *path, mode_t mode), path, mode)
COUNTED(chown, (const char *path, uid_t uid, gid_t gid), path, uid, gid)
COUNTED(fsync, (int fd), fd)
COUNTED(fdatasync, (int fd), fd)
COUNTED(bind, (int fd, const struct sockaddr *address, socklen_t length), fd, address, length)
COUNTED(listen, (int fd, int backlog), fd, backlog)

/* nft and iptables write the kernel's tables. */
COUNTED(fork, (void))

/* Requests that are to be acknowledged, without those of rtnetlink that read. */
static int is_change(const void *data, size_t length, const struct sockaddr *to)
{
	const struct nlmsghdr *message = data;

	if (to == NULL || to->sa_family != AF_NETLINK || length < sizeof(*message) ||
	    (message->nlmsg_flags & NLM_F_ACK) == 0)
		return 0;
	return message->nlmsg_type < RTM_BASE || message->nlmsg_type > RTM_MAX ||
	       (message->nlmsg_type & 3) != (RTM_GETLINK & 3);
}

ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to,
	       socklen_t to_length)
{
	if (is_change(data, length, to))
		counted();
	return NEXT(sendto, fd, data, length, flags, to, to_length);
}

/* Writes to files of a disk count; pipes and sockets are no file system. */
ssize_t write(int fd, const void *data, size_t length)
{
	struct stat status;

	if (count != NULL && fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
		counted();
	return NEXT(write, fd, data, length);
}
