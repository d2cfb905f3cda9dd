// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// tandem-gate: the last plugin of the node's CNI chain. ADD hands the pod's network to the agent and ends when
// the agent enforces the pod's policy, so that no process of the pod starts before. Without the agent ADD fails,
// and kubelet tries again; DEL, GC, CHECK and STATUS never fail: a pod must be deletable without the agent, and a
// STATUS that fails makes the whole node NotReady.
//
// To the agent: a line with the protocol's version, a line for each CNI_ variable, an empty line, standard
// input. From the agent: '+' and the output, or '!' and an error object of CNI; a final newline.

#include "top-level.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PROTOCOL_LINE "tandem-gate 1\n"
#define DEFAULT_SOCKET "/run/tandem/gate/gate.sock"
// Of standard input, and of the agent's answer.
#define MESSAGE_BYTES_MAX (1 << 20)
// An agent that restarts is waited for; kubelet tries a failed ADD again after 12 to 15 s.
#define ADD_TIMEOUT_SECONDS "20"
#define DEL_TIMEOUT_MS 2000
#define CONNECT_RETRY_MS 100
// Error codes of the CNI specification.
#define CNI_INVALID_ENVIRONMENT 4
#define CNI_IO_FAILURE 5
#define CNI_TRY_AGAIN_LATER 11

static char input[MESSAGE_BYTES_MAX];
static char answer[MESSAGE_BYTES_MAX];
static char version[16] = "1.0.0";
static char add_timeout_seconds[8] = ADD_TIMEOUT_SECONDS;
static char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)] = DEFAULT_SOCKET;

static int fail(int code, const char *message, const char *details)
{
	printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s\"}\n", version, code, message,
	       details);
	return 1;
}

static long now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

// Reads to the end of the file; -1 on an error, or where it does not fit.
static ssize_t read_all(int fd, char *buffer)
{
	size_t length = 0;

	for (;;) {
		if (length == MESSAGE_BYTES_MAX) {
			errno = EMSGSIZE;
			return -1;
		}
		ssize_t count = read(fd, buffer + length, MESSAGE_BYTES_MAX - length);
		if (count == 0)
			return (ssize_t)length;
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -1;
		length += (size_t)count;
	}
}

static int write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t count = send(fd, bytes, length, MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return -1;
		bytes += count;
		length -= (size_t)count;
	}
	return 0;
}

static void limit_time(int fd, long left_ms)
{
	struct timeval time = { .tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
}

// A connection to the agent, or -1 with errno when there is none at `deadline`.
static int connect_agent(long deadline)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, socket_path, sizeof(address.sun_path));
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -1;
		long left = deadline - now_ms();
		limit_time(fd, left > CONNECT_RETRY_MS ? left : CONNECT_RETRY_MS);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		int error = errno;
		close(fd);
		errno = error;
		if (left <= CONNECT_RETRY_MS)
			return -1;
		nanosleep(&(struct timespec){ .tv_nsec = CONNECT_RETRY_MS * 1000000 }, NULL);
	}
}

// Sends the call; 0, or -1 with errno. A value with a line break is no value of CNI.
static int send_call(int fd, size_t length)
{
	static const char *const variables[] = { "CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME",
						 "CNI_ARGS" };
	char line[8192];

	if (write_all(fd, PROTOCOL_LINE, strlen(PROTOCOL_LINE)) != 0)
		return -1;
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		const char *value = getenv(variables[i]);
		int count = snprintf(line, sizeof(line), "%s=%s\n", variables[i], value == NULL ? "" : value);
		if (count < 0 || (size_t)count >= sizeof(line) || strchr(line, '\n') != line + count - 1) {
			errno = EINVAL;
			return -1;
		}
		if (write_all(fd, line, (size_t)count) != 0)
			return -1;
	}
	if (write_all(fd, "\n", 1) != 0 || write_all(fd, input, length) != 0)
		return -1;
	return shutdown(fd, SHUT_WR);
}

// Why a call failed, after errno of a socket with limited time.
static const char *reason(void)
{
	return errno == EAGAIN ? "the time of the call is over" : strerror(errno);
}

static int add(size_t length)
{
	long deadline = now_ms() + atol(add_timeout_seconds) * 1000;
	int fd = connect_agent(deadline);

	if (fd < 0)
		return fail(CNI_TRY_AGAIN_LATER,
			    "the tandem agent of this node cannot be reached (if Tandem was removed from the node, "
			    "remove 00-tandem.conflist from the directory of CNI configurations)",
			    strerror(errno));
	long left = deadline - now_ms();
	limit_time(fd, left > CONNECT_RETRY_MS ? left : CONNECT_RETRY_MS);
	if (send_call(fd, length) != 0) {
		int code = errno == EINVAL ? CNI_INVALID_ENVIRONMENT : CNI_TRY_AGAIN_LATER;
		return fail(code, "the call could not be handed to the tandem agent", reason());
	}
	ssize_t count = read_all(fd, answer);
	if (count < 0)
		return fail(CNI_TRY_AGAIN_LATER, "the tandem agent gave no answer", reason());
	bool is_whole = count > 1 && answer[count - 1] == '\n';
	if (!is_whole || (answer[0] != '+' && answer[0] != '!'))
		return fail(CNI_TRY_AGAIN_LATER, "the tandem agent gave no answer", "the connection was closed");
	fwrite(answer + 1, 1, (size_t)count - 1, stdout);
	return answer[0] == '!';
}

// A notification, not a question: the pod is deleted in any case.
static void del(size_t length)
{
	int fd = connect_agent(now_ms());

	if (fd < 0)
		return;
	limit_time(fd, DEL_TIMEOUT_MS);
	if (send_call(fd, length) == 0)
		read_all(fd, answer);
}

int main(void)
{
	const char *command = getenv("CNI_COMMAND");

	if (command == NULL) {
		fputs("tandem-gate is a CNI plugin: it is run by the container runtime, with CNI_COMMAND\n", stderr);
		return 2;
	}
	ssize_t length = read_all(STDIN_FILENO, input);
	if (length >= 0) {
		top_level_string(input, (size_t)length, "cniVersion", version, sizeof(version));
		top_level_string(input, (size_t)length, "gateSocket", socket_path, sizeof(socket_path));
		top_level_string(input, (size_t)length, "gateTimeoutSeconds", add_timeout_seconds,
				 sizeof(add_timeout_seconds));
	}
	if (strcmp(command, "VERSION") == 0) {
		puts("{\"cniVersion\":\"1.1.0\","
		     "\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}");
		return 0;
	}
	if (strcmp(command, "ADD") == 0) {
		if (length < 0)
			return fail(CNI_IO_FAILURE, "the configuration cannot be read", strerror(errno));
		return add((size_t)length);
	}
	if (strcmp(command, "DEL") == 0 && length >= 0)
		del((size_t)length);
	return 0;
}
