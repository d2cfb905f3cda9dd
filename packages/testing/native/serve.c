/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Servers that say who asked them: for each datagram, and for each piece of a stream, the text
 * "PEER PEER-PORT LOCAL LOCAL-PORT\n"; or echo; or silence; or, over TCP, what a hostile server does: it reads
 * nothing, or from the first byte on it sends the same data without end. They answer from the address they
 * were asked at, also on addresses that are only local routes.
 */
#include "probe.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { SERVE_BUFFER_BYTES = 16384, SERVE_CONNECTIONS_MAX = 16384, SERVE_BURST = 64 };

enum mode { MODE_WHO, MODE_ECHO, MODE_SINK, MODE_HOLD, MODE_STREAM };

struct server {
	struct watch watch;
	enum mode mode;
	uint64_t accepted, refused, datagrams, bytes;
	size_t open;
	uint8_t *data; /* of MODE_STREAM */
	size_t data_length;
};

struct connection {
	struct watch watch;
	uint32_t server_id;
	size_t length, sent;
	uint8_t buffer[SERVE_BUFFER_BYTES];
};

static void on_datagram(struct watch *watch, uint32_t events);
static void on_accept(struct watch *watch, uint32_t events);

static struct server *find_server(uint32_t id)
{
	struct watch *watch = watch_find(id, on_datagram);

	return (struct server *)(watch != NULL ? watch : watch_find(id, on_accept));
}

static int who_text(const struct sockaddr_storage *peer, const struct sockaddr_storage *local,
		    char *text, size_t size)
{
	char from[64], to[64];

	address_text(peer, from, sizeof(from));
	address_text(local, to, sizeof(to));
	return snprintf(text, size, "%s %u %s %u\n", from, address_port(peer), to,
			address_port(local));
}

/* ---- datagrams ---- */

struct control {
	_Alignas(struct cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

/* The address the datagram came to; turns the control message into one for the reply. */
static void take_local(struct msghdr *message, struct sockaddr_storage *local)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);

	if (header == NULL)
		return;
	if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO) {
		struct in_pktinfo info;

		memcpy(&info, CMSG_DATA(header), sizeof(info));
		((struct sockaddr_in *)local)->sin_addr = info.ipi_addr;
		info.ipi_spec_dst = info.ipi_addr;
		info.ipi_ifindex = 0;
		memcpy(CMSG_DATA(header), &info, sizeof(info));
	} else if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_PKTINFO) {
		struct in6_pktinfo info;

		memcpy(&info, CMSG_DATA(header), sizeof(info));
		((struct sockaddr_in6 *)local)->sin6_addr = info.ipi6_addr;
		if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
			info.ipi6_ifindex = 0;
		memcpy(CMSG_DATA(header), &info, sizeof(info));
	}
}

static void on_datagram(struct watch *watch, uint32_t events)
{
	static uint8_t bytes[PROBE_DATAGRAM_BYTES_MAX];
	struct server *server = (struct server *)watch;
	struct address bound = address_local(watch->fd);

	(void)events;
	for (int i = 0; i < SERVE_BURST; i++) {
		struct sockaddr_storage peer;
		struct sockaddr_storage local = bound.storage;
		struct control control;
		struct iovec part = { bytes, sizeof(bytes) };
		struct msghdr message = {
			.msg_name = &peer, .msg_namelen = sizeof(peer), .msg_iov = &part,
			.msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
		};
		ssize_t length = recvmsg(watch->fd, &message, 0);

		if (length < 0)
			return;
		server->datagrams++;
		server->bytes += (uint64_t)length;
		if (server->mode == MODE_SINK)
			continue;
		part.iov_len = (size_t)length;
		take_local(&message, &local);
		if (server->mode == MODE_WHO)
			part.iov_len = (size_t)who_text(&peer, &local, (char *)bytes, sizeof(bytes));
		/* A full queue loses the reply, as the network may. */
		(void)!sendmsg(watch->fd, &message, 0);
	}
}

/* ---- streams ---- */

static void on_connection_close(struct watch *watch)
{
	struct server *server = find_server(((struct connection *)watch)->server_id);

	if (server != NULL)
		server->open--;
}

static void flush(struct connection *connection)
{
	while (connection->sent < connection->length) {
		ssize_t length = send(connection->watch.fd, connection->buffer + connection->sent,
				      connection->length - connection->sent, MSG_NOSIGNAL);

		if (length < 0 && errno == EAGAIN) {
			watch_events(&connection->watch, EPOLLOUT);
			return;
		}
		if (length < 0) {
			watch_close(&connection->watch);
			return;
		}
		connection->sent += (size_t)length;
	}
	connection->length = connection->sent = 0;
	watch_events(&connection->watch, EPOLLIN);
}

/* Sends the server's data from where it is on; a whole number of times, if the client reads for so long. */
static void stream_on(struct connection *connection, const struct server *server)
{
	ssize_t length = send(connection->watch.fd, server->data + connection->sent,
			      server->data_length - connection->sent, MSG_NOSIGNAL);

	if (length >= 0)
		connection->sent = (connection->sent + (size_t)length) % server->data_length;
	else if (errno != EAGAIN)
		watch_close(&connection->watch);
}

static void on_connection(struct watch *watch, uint32_t events)
{
	struct connection *connection = (struct connection *)watch;
	struct server *server = find_server(connection->server_id);
	ssize_t length;

	if (server != NULL && server->mode == MODE_STREAM && (events & EPOLLOUT) != 0) {
		stream_on(connection, server);
		if (watch->is_dead || (events & EPOLLIN) == 0)
			return;
		events &= ~(uint32_t)EPOLLOUT;
	}
	if ((events & EPOLLOUT) != 0) {
		flush(connection);
		return;
	}
	length = recv(watch->fd, connection->buffer, sizeof(connection->buffer), 0);
	if (length < 0 && errno == EAGAIN)
		return;
	if (length <= 0 || server == NULL) {
		watch_close(watch);
		return;
	}
	server->bytes += (uint64_t)length;
	if (server->mode == MODE_SINK)
		return;
	if (server->mode == MODE_STREAM) {
		watch_events(watch, EPOLLIN | EPOLLOUT);
		return;
	}
	connection->length = (size_t)length;
	if (server->mode == MODE_WHO) {
		struct address peer = { .length = sizeof(peer.storage) };
		struct address local = address_local(watch->fd);

		getpeername(watch->fd, (struct sockaddr *)&peer.storage, &peer.length);
		connection->length =
			(size_t)who_text(&peer.storage, &local.storage, (char *)connection->buffer,
					 sizeof(connection->buffer));
	}
	flush(connection);
}

static void on_accept(struct watch *watch, uint32_t events)
{
	struct server *server = (struct server *)watch;

	(void)events;
	for (int i = 0; i < SERVE_BURST; i++) {
		int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct connection *connection;

		if (fd < 0)
			return;
		if (server->open >= SERVE_CONNECTIONS_MAX) {
			server->refused++;
			close(fd);
			continue;
		}
		connection = watch_new(sizeof(*connection), fd, 0,
				       server->mode == MODE_HOLD ? 0 : EPOLLIN);
		if (connection == NULL) {
			server->refused++;
			continue;
		}
		connection->server_id = watch->id;
		connection->watch.on_ready = on_connection;
		connection->watch.on_close = on_connection_close;
		server->accepted++;
		server->open++;
	}
}

/* ---- operations ---- */

static bool set_mode(const struct request *request, enum mode *mode)
{
	static const char *const names[] = { "who", "echo", "sink", "hold", "stream" };
	const char *name = arg_text(request, "mode", "who");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], name) == 0) {
			*mode = (enum mode)i;
			return true;
		}
	}
	return false;
}

/* The whole group of the socket goes to its member of this number: a classic program says so. */
static int choose_member(const struct request *request, int fd)
{
	long member = arg_number(request, "member", -1);
	struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, (uint32_t)member);
	struct sock_fprog program = { .len = 1, .filter = &code };

	if (member < 0)
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program));
}

static void on_server_close(struct watch *watch)
{
	free(((struct server *)watch)->data);
}

/* listen protocol=tcp|udp source= sport= mode= data= backlog= */
void op_listen(const struct request *request)
{
	bool is_tcp = strcmp(arg_text(request, "protocol", "tcp"), "tcp") == 0;
	int on = 1, buffer = 4 << 20, least = 4096;
	struct server *server;
	struct address local;
	enum mode mode;
	int fd;

	if (!arg_address(request, "source", "sport", &local) || !set_mode(request, &mode)) {
		answer_error(request->id, EINVAL, "no address to listen on, or no such mode");
		return;
	}
	fd = socket_open(request, local.storage.ss_family, is_tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	/* Data that is not read waits with the sender, not here. */
	if (fd >= 0 && mode == MODE_HOLD)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least));
	/* A TCP socket joins its group when it listens. */
	if (fd < 0 || (is_tcp && listen(fd, (int)arg_number(request, "backlog", 4096)) != 0) ||
	    choose_member(request, fd) != 0) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		answer_error(request->id, error, "listen");
		return;
	}
	if (!is_tcp) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
		setsockopt(fd, local.storage.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
			   local.storage.ss_family == AF_INET ? IP_PKTINFO : IPV6_RECVPKTINFO, &on,
			   sizeof(on));
	}
	server = watch_new(sizeof(*server), fd, request->id, EPOLLIN);
	if (server == NULL) {
		answer_error(request->id, errno, "watch");
		return;
	}
	server->mode = mode;
	server->data = arg_bytes(request, "data", &server->data_length);
	server->watch.on_close = on_server_close;
	if (server->data == NULL || (mode == MODE_STREAM && server->data_length == 0)) {
		answer_error(request->id, EINVAL, "no data to stream");
		watch_close(&server->watch);
		return;
	}
	server->watch.is_handle = true;
	server->watch.on_ready = is_tcp ? on_accept : on_datagram;
	local = address_local(fd);
	answer_ok(request->id);
	answer_address("local", &local.storage);
	answer_end();
}

/* served handle= : what a server has seen so far */
void op_served(const struct request *request)
{
	struct server *server = find_server((uint32_t)arg_number(request, "handle", 0));

	if (server == NULL) {
		answer_error(request->id, ENOENT, "no such server");
		return;
	}
	answer_ok(request->id);
	answer_field("accepted=%llu refused=%llu datagrams=%llu bytes=%llu open=%zu",
		     (unsigned long long)server->accepted, (unsigned long long)server->refused,
		     (unsigned long long)server->datagrams, (unsigned long long)server->bytes,
		     server->open);
	answer_end();
}

static void on_bound(struct watch *watch, uint32_t events)
{
	(void)watch;
	(void)events;
}

/* bind protocol=tcp|udp source= sport= uid= reuseport= : holds the port and reads nothing */
void op_bind(const struct request *request)
{
	bool is_tcp = strcmp(arg_text(request, "protocol", "udp"), "tcp") == 0;
	struct address local;
	struct watch *watch;
	int fd;

	if (!arg_address(request, "source", "sport", &local)) {
		answer_error(request->id, EINVAL, "no address");
		return;
	}
	fd = socket_open(request, local.storage.ss_family, is_tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	watch = fd < 0 ? NULL : watch_new(sizeof(*watch), fd, request->id, 0);
	if (watch == NULL) {
		answer_error(request->id, errno, "bind");
		return;
	}
	watch->on_ready = on_bound;
	watch->is_handle = true;
	local = address_local(fd);
	answer_ok(request->id);
	answer_address("local", &local.storage);
	answer_end();
}
