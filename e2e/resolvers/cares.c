/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Answer of c-ares for the name in the argument: milliseconds, then its addresses or "-" and the error. */
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/select.h>
#include <time.h>

static struct timespec before;

static void on_result(void *unused, int status, int timeouts, struct ares_addrinfo *result)
{
	struct timespec after;
	char text[INET6_ADDRSTRLEN];

	(void)unused;
	(void)timeouts;
	clock_gettime(CLOCK_MONOTONIC, &after);
	printf("%.0f", (after.tv_sec - before.tv_sec) * 1e3 + (after.tv_nsec - before.tv_nsec) / 1e6);
	if (status != ARES_SUCCESS) {
		printf(" - %s\n", ares_strerror(status));
		return;
	}
	for (struct ares_addrinfo_node *node = result->nodes; node != NULL; node = node->ai_next) {
		getnameinfo(node->ai_addr, node->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
		printf(" %s", text);
	}
	printf("\n");
	ares_freeaddrinfo(result);
}

int main(int argc, char **argv)
{
	struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	ares_channel channel;

	if (argc != 2 || ares_library_init(ARES_LIB_INIT_ALL) != 0 || ares_init(&channel) != 0)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &before);
	ares_getaddrinfo(channel, argv[1], "80", &hints, on_result, NULL);
	for (;;) {
		struct timeval interval;
		fd_set readers, writers;
		int count;

		FD_ZERO(&readers);
		FD_ZERO(&writers);
		count = ares_fds(channel, &readers, &writers);
		if (count == 0)
			return 0;
		select(count, &readers, &writers, NULL, ares_timeout(channel, NULL, &interval));
		ares_process(channel, &readers, &writers);
	}
}
