// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// tandem-probe SOCKET livez|readyz: what kubelet starts in the pod of an agent or a DNS proxy. Asks the process by its
// own socket, since a port of the node's network is answered by whichever process has it, in an upgrade the old one.
// Prints the answer. Exit code 0: it begins with "ok"; 1: it does not, or there is none within a second.

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX 1024

enum {
	EXIT_NOT_OK = 1,
	EXIT_USAGE = 2,
};

static int fail(const char *path)
{
	fprintf(stderr, "tandem-probe: %s: %s\n", path, strerror(errno));
	return EXIT_NOT_OK;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval timeout = {.tv_sec = 1};
	char question[16], answer[ANSWER_BYTES_MAX];
	size_t length = 0;

	if (argc != 3 || (strcmp(argv[2], "livez") != 0 && strcmp(argv[2], "readyz") != 0)) {
		fputs("usage: tandem-probe SOCKET livez|readyz\n", stderr);
		return EXIT_USAGE;
	}
	if (strlen(argv[1]) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return fail(argv[1]);
	}
	strcpy(address.sun_path, argv[1]);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		return fail(argv[1]);
	int bytes = snprintf(question, sizeof question, "%s\n", argv[2]);
	if (write(fd, question, (size_t)bytes) != bytes)
		return fail(argv[1]);
	while (length < sizeof answer) {
		ssize_t got = read(fd, answer + length, sizeof answer - length);

		if (got < 0)
			return fail(argv[1]);
		if (got == 0)
			break;
		length += (size_t)got;
	}
	fwrite(answer, 1, length, stdout);
	return length >= 2 && memcmp(answer, "ok", 2) == 0 ? 0 : EXIT_NOT_OK;
}
