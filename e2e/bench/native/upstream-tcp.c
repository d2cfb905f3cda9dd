/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The upstream over TCP (--tcp): answers what has come on a connection in one write, in order and at once,
 * whatever the delay of UDP is. A client that does not read its answers loses the connection.
 */
#include "upstream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	EVENTS = 64,
	BACKLOG = 1024,
	IN_BYTES = 16384,
	OUT_BYTES = 65536,
};

struct connection {
	int fd;
	bool is_listener;
	size_t in;
	uint8_t bytes[IN_BYTES];
};

static int epoll_fd = -1;

static bool watch(int fd, bool is_listener)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };

	if (connection == NULL)
		return false;
	connection->fd = fd;
	connection->is_listener = is_listener;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		return true;
	free(connection);
	return false;
}

bool tcp_listen(const struct sockaddr *address, socklen_t length)
{
	int one = 1;
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (epoll_fd < 0)
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return fd >= 0 && epoll_fd >= 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	       bind(fd, address, length) == 0 && listen(fd, BACKLOG) == 0 && watch(fd, true);
}

int tcp_epoll_fd(void)
{
	return epoll_fd;
}

static void accept_all(int listener)
{
	int one = 1;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (!watch(fd, false))
			close(fd);
	}
}

/* Moves whole queries of the connection into `out` as replies; false for what is no DNS. */
static bool answer(struct connection *connection, uint8_t *out, size_t *out_length)
{
	size_t at = 0;

	while (connection->in - at >= 2) {
		const uint8_t *query = connection->bytes + at;
		size_t length = (size_t)query[0] << 8 | query[1];

		if (length > UPSTREAM_QUERY_BYTES_MAX)
			return false;
		if (connection->in - at < length + 2 ||
		    *out_length + UPSTREAM_REPLY_BYTES_MAX + 2 > OUT_BYTES)
			break;
		memcpy(out + *out_length + 2, query + 2, length);
		at += length + 2;
		length = upstream_reply(out + *out_length + 2, length);
		if (length == 0)
			return false;
		out[*out_length] = (uint8_t)(length >> 8);
		out[*out_length + 1] = (uint8_t)length;
		*out_length += length + 2;
	}
	connection->in -= at;
	memmove(connection->bytes, connection->bytes + at, connection->in);
	return true;
}

static bool serve(struct connection *connection)
{
	static uint8_t out[OUT_BYTES];
	size_t out_length = 0;
	ssize_t length = recv(connection->fd, connection->bytes + connection->in,
			      IN_BYTES - connection->in, 0);

	if (length < 0 && errno == EAGAIN)
		return true;
	if (length <= 0)
		return false;
	connection->in += (size_t)length;
	return answer(connection, out, &out_length) &&
	       (out_length == 0 ||
		send(connection->fd, out, out_length, MSG_NOSIGNAL) == (ssize_t)out_length);
}

void tcp_serve(void)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(epoll_fd, events, EVENTS, 0);

	for (int i = 0; i < count; i++) {
		struct connection *connection = events[i].data.ptr;

		if (connection->is_listener) {
			accept_all(connection->fd);
		} else if (!serve(connection)) {
			close(connection->fd);
			free(connection);
		}
	}
}
