/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Preloaded into a process: counts its bpf(2) calls by command, and lets one of them fail, or ends the process in
 * its place. What libc is asked for by name is intercepted: the loader and libbpf call bpf(2) by syscall(3).
 *
 * BPF_FAULT_COUNTS  file of two times COMMANDS words of 32 bits, made by who starts the process: calls by command; then, by
 *                   command, the errno that each call gives while the word is not 0, which may change at any time
 * BPF_FAULT         COMMAND:NTH:ERRNO in numbers, NTH from 1; ERRNO 0 ends the process by SIGKILL
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COMMANDS  64
#define ARGUMENTS 6

static long (*next_syscall)(long number, ...);
static uint32_t *counts;
static uint32_t *errnos;
static long fault_command = -1;
static uint32_t fault_nth;
static int fault_errno;

__attribute__((constructor)) static void prepare(void)
{
	const char *path = getenv("BPF_FAULT_COUNTS");
	const char *fault = getenv("BPF_FAULT");
	int fd;

	next_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	if (path != NULL && (fd = open(path, O_RDWR | O_CLOEXEC)) >= 0) {
		void *at = mmap(NULL, 2 * COMMANDS * sizeof(*counts), PROT_READ | PROT_WRITE,
				MAP_SHARED, fd, 0);

		close(fd);
		if (at != MAP_FAILED) {
			counts = at;
			errnos = counts + COMMANDS;
		}
	}
	if (fault != NULL &&
	    sscanf(fault, "%ld:%u:%d", &fault_command, &fault_nth, &fault_errno) != 3)
		fault_command = -1;
}

long syscall(long number, ...)
{
	long arguments[ARGUMENTS];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < ARGUMENTS; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (number == __NR_bpf && counts != NULL && arguments[0] >= 0 && arguments[0] < COMMANDS) {
		uint32_t nth =
			__atomic_add_fetch(&counts[arguments[0]], 1, __ATOMIC_RELAXED);

		if (arguments[0] == fault_command && nth == fault_nth) {
			if (fault_errno == 0)
				kill(getpid(), SIGKILL);
			errno = fault_errno;
			return -1;
		}
		errno = (int)__atomic_load_n(&errnos[arguments[0]], __ATOMIC_RELAXED);
		if (errno != 0)
			return -1;
	}
	return next_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
			    arguments[4], arguments[5]);
}
