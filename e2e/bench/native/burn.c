/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Takes CPU time from other processes: a thread for each CPU that computes for a share of each
 * period of 100 ms of wall-clock time. At the end of input it says what share of all CPUs it got.
 *
 *   burn --percent 1..100
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD_NS = 100000000 };

static uint64_t busy_ns;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *burn(void *unused)
{
	(void)unused;
	for (uint64_t period = now_ns();; period += PERIOD_NS) {
		struct timespec next = { (time_t)((period + PERIOD_NS) / 1000000000u),
					 (long)((period + PERIOD_NS) % 1000000000u) };

		while (now_ns() - period < busy_ns)
			;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct option known[] = { { "percent", required_argument, NULL, 'p' }, { 0 } };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t started = now_ns();
	struct rusage usage;
	int percent = 0;
	char byte;

	if (getopt_long(argc, argv, "", known, NULL) == 'p')
		percent = atoi(optarg);
	if (percent < 1 || percent > 100) {
		fprintf(stderr, "burn: --percent 1..100\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	busy_ns = (uint64_t)percent * (PERIOD_NS / 100);
	for (long i = 0; i < cpus; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, burn, NULL) != 0) {
			perror("burn: thread");
			return 1;
		}
	}
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"share\":%.3f}\n",
	       ((double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6) /
		       ((double)(now_ns() - started) / 1e9) / (double)cpus);
	return 0;
}
