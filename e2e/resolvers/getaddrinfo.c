/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Answer of getaddrinfo for the name in the argument: milliseconds, then its addresses or "-" and the error. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	struct timespec before, after;
	char text[INET6_ADDRSTRLEN];
	int error;

	if (argc != 2)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &before);
	error = getaddrinfo(argv[1], "80", &hints, &found);
	clock_gettime(CLOCK_MONOTONIC, &after);
	printf("%.0f", (after.tv_sec - before.tv_sec) * 1e3 + (after.tv_nsec - before.tv_nsec) / 1e6);
	if (error != 0) {
		printf(" - %s\n", gai_strerror(error));
		return 0;
	}
	for (; found != NULL; found = found->ai_next) {
		getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
		printf(" %s", text);
	}
	printf("\n");
	return 0;
}
