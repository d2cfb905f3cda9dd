/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The server behind every subject of the benchmark: fast enough not to be what is measured. Answers each
 * A or AAAA question with one address made from the number in the first label (198.18.0.0/15,
 * 2001:db8:1::/96), so that names and addresses are many; everything else with no data.
 *
 *   upstream --address ADDRESS [--address ADDRESS ...] [--port 53] [--ttl 60] [--delay-us N] [--tcp]
 *            [--control [--watch SUFFIX] [--seed N]]
 *
 * With --control it takes orders on standard input and tells what it saw: upstream-control.c. Answers leave
 * in the order of the queries, so a delay that was made shorter counts once the longer ones are out.
 */
#include "upstream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH = 64,
	ADDRESSES_MAX = 16,
	QUERY_BYTES_MAX = UPSTREAM_QUERY_BYTES_MAX,
	REPLY_BYTES_MAX = UPSTREAM_REPLY_BYTES_MAX,
	DELAYED_MAX = 65536,
	SOCKET_BUFFER_BYTES = 4 << 20,
	HEADER_BYTES = 12,
	TYPE_A = 1,
	TYPE_AAAA = 28,
};

struct reply {
	int fd;
	uint16_t length;
	socklen_t peer_length;
	uint64_t due_ns;
	struct sockaddr_in6 peer;
	uint8_t bytes[REPLY_BYTES_MAX];
};

static uint32_t ttl = 60;
static bool has_control;
static bool has_tcp;
static struct reply *delayed; /* a ring in the order of arrival */
static uint64_t delayed_head, delayed_tail;

static void die(const char *what)
{
	fprintf(stderr, "upstream: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Offset after the question, 0 if there is none that can be read. */
static size_t question_end(const uint8_t *bytes, size_t length)
{
	size_t at = HEADER_BYTES;

	while (at < length && bytes[at] != 0) {
		if (bytes[at] > 63)
			return 0;
		at += (size_t)bytes[at] + 1;
	}
	return at + 5 <= length ? at + 5 : 0;
}

static uint32_t label_number(const uint8_t *label)
{
	uint32_t number = 0;

	for (unsigned i = 1; i <= label[0]; i++)
		number = label[i] >= '0' && label[i] <= '9' ? number * 10 + (label[i] - '0') : 0;
	return number;
}

static void put32(uint8_t *bytes, uint32_t value)
{
	value = htonl(value);
	memcpy(bytes, &value, sizeof(value));
}

/* An OPT is not echoed. */
size_t upstream_reply(uint8_t *bytes, size_t length)
{
	static const uint8_t prefix6[12] = { 0x20, 0x01, 0x0d, 0xb8, 0, 1 };
	size_t at = length < HEADER_BYTES ? 0 : question_end(bytes, length);
	uint32_t number;
	unsigned type;

	if (at == 0 || (bytes[2] & 0x80) != 0)
		return 0;
	number = label_number(bytes + HEADER_BYTES);
	type = (unsigned)(bytes[at - 4] << 8 | bytes[at - 3]);
	bytes[2] |= 0x80;
	bytes[3] = 0x80;
	memset(bytes + 6, 0, 6);
	if (type != TYPE_A && type != TYPE_AAAA)
		return at;
	bytes[7] = 1;
	memcpy(bytes + at, (uint8_t[]){ 0xc0, HEADER_BYTES, 0, (uint8_t)type, 0, 1 }, 6);
	put32(bytes + at + 6, ttl);
	bytes[at + 10] = 0;
	bytes[at + 11] = type == TYPE_A ? 4 : 16;
	at += 12;
	if (type == TYPE_A) {
		put32(bytes + at, 0xc6120000u + (number & 0x1ffff));
		return at + 4;
	}
	memcpy(bytes + at, prefix6, sizeof(prefix6));
	put32(bytes + at + 12, number);
	return at + 16;
}

static void send_delayed(void)
{
	uint64_t now = now_ns();

	for (; delayed_head < delayed_tail; delayed_head++) {
		struct reply *reply = &delayed[delayed_head % DELAYED_MAX];

		if (reply->due_ns > now)
			return;
		(void)!sendto(reply->fd, reply->bytes, reply->length, 0,
			      (struct sockaddr *)&reply->peer, reply->peer_length);
	}
}

/* A full ring loses the reply, as an overloaded server would. */
static void delay(int fd, const struct msghdr *message, size_t length)
{
	struct reply *reply = &delayed[delayed_tail % DELAYED_MAX];

	if (delayed_tail - delayed_head == DELAYED_MAX)
		return;
	delayed_tail++;
	reply->fd = fd;
	reply->length = (uint16_t)length;
	reply->peer_length = message->msg_namelen;
	reply->due_ns = now_ns() + behaviour.delay_ns;
	memcpy(&reply->peer, message->msg_name, message->msg_namelen);
	memcpy(reply->bytes, message->msg_iov->iov_base, length);
}

static void serve(int fd)
{
	static uint8_t bytes[BATCH][REPLY_BYTES_MAX];
	static struct sockaddr_in6 peers[BATCH];
	struct mmsghdr messages[BATCH];
	struct mmsghdr replies[BATCH];
	struct iovec parts[BATCH];
	unsigned count = 0, sent = 0;
	int received;

	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ bytes[i], QUERY_BYTES_MAX };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1,
						       .msg_name = &peers[i],
						       .msg_namelen = sizeof(peers[i]) };
	}
	received = recvmmsg(fd, messages, BATCH, 0, NULL);
	for (int i = 0; i < received; i++) {
		size_t length;

		if (has_control && !control_answers(bytes[i], messages[i].msg_len))
			continue;
		length = upstream_reply(bytes[i], messages[i].msg_len);
		if (length == 0)
			continue;
		if (behaviour.delay_ns > 0 || delayed_head < delayed_tail) {
			delay(fd, &messages[i].msg_hdr, length);
			continue;
		}
		parts[i].iov_len = length;
		replies[count++].msg_hdr = messages[i].msg_hdr;
	}
	while (sent < count) {
		int done = sendmmsg(fd, replies + sent, count - sent, 0);

		sent += done > 0 ? (unsigned)done : 1;
	}
}

static int open_socket(const char *text, uint16_t port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	bool is_v4 = inet_pton(AF_INET, text, &v4.sin_addr) == 1;
	int size = SOCKET_BUFFER_BYTES;
	int fd;

	if (!is_v4 && inet_pton(AF_INET6, text, &v6.sin6_addr) != 1)
		return -1;
	fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
			   is_v4 ? sizeof(v4) : sizeof(v6)) != 0)
		die(text);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (has_tcp && !tcp_listen(is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
				   is_v4 ? sizeof(v4) : sizeof(v6)))
		die("TCP");
	return fd;
}

static int read_options(int argc, char **argv, const char **addresses, uint16_t *port)
{
	static const struct option known[] = {
		{ "address", required_argument, NULL, 'a' }, { "port", required_argument, NULL, 'p' },
		{ "ttl", required_argument, NULL, 't' },     { "delay-us", required_argument, NULL, 'd' },
		{ "control", no_argument, NULL, 'c' },       { "watch", required_argument, NULL, 'w' },
		{ "seed", required_argument, NULL, 's' },    { "tcp", no_argument, NULL, 'o' },
		{ 0 },
	};
	int count = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (option == 'a' && count < ADDRESSES_MAX)
			addresses[count++] = optarg;
		else if (option == 'p')
			*port = (uint16_t)atoi(optarg);
		else if (option == 't')
			ttl = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'd')
			behaviour.delay_ns = strtoull(optarg, NULL, 10) * 1000u;
		else if (option == 'c')
			has_control = true;
		else if (option == 'o')
			has_tcp = true;
		else if (option == 'w')
			behaviour.watched = optarg;
		else if (option == 's')
			srandom((unsigned)strtoul(optarg, NULL, 10));
		else
			return 0;
	}
	return count;
}

static void watch(int epoll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		die("epoll_ctl");
}

int main(int argc, char **argv)
{
	const char *addresses[ADDRESSES_MAX];
	uint16_t port = 53;
	int count = read_options(argc, argv, addresses, &port);
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[BATCH];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	delayed = calloc(DELAYED_MAX, sizeof(*delayed));
	if (delayed == NULL || epoll_fd < 0)
		die("start");
	for (int i = 0; i < count; i++) {
		int fd = open_socket(addresses[i], port);

		if (fd < 0)
			die(addresses[i]);
		watch(epoll_fd, fd);
	}
	if (count == 0) {
		fprintf(stderr, "upstream: --address ADDRESS [--port 53] [--ttl 60] [--delay-us N] [--tcp] "
				"[--control [--watch SUFFIX] [--seed N]]\n");
		return 2;
	}
	if (has_control)
		watch(epoll_fd, STDIN_FILENO);
	if (has_tcp)
		watch(epoll_fd, tcp_epoll_fd());
	puts("ready");
	fflush(stdout);
	for (;;) {
		/* Delays are kept to a millisecond. */
		int timeout_ms = delayed_head < delayed_tail ? 1 : -1;
		int ready = epoll_wait(epoll_fd, events, BATCH, timeout_ms);

		for (int i = 0; i < ready; i++) {
			if (has_tcp && events[i].data.fd == tcp_epoll_fd())
				tcp_serve();
			else if (events[i].data.fd != STDIN_FILENO)
				serve(events[i].data.fd);
			else if (!control_read())
				return 0;
		}
		send_delayed();
	}
}
