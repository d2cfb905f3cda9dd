/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Streams as an attacker writes them: connections that send one piece of data as fast as it is taken, read
 * and drop what comes back, or leave it unread, and are opened again when they end.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
	POUR_CONNECTIONS_MAX = 1024,
	POUR_BUFFER_BYTES = 128 * 1024, /* at least; whole copies of the data */
	POUR_TICK_NS = 10 * 1000000,
	POUR_REOPEN_NS = 50 * 1000000,
};

struct connection;

struct pour {
	struct watch watch; /* a timer: opens, closes, ends a pause, ends it all */
	struct address peer;
	uint32_t spread;          /* addresses from the peer's on, one connection after the other */
	uint32_t connections;
	uint64_t burst_bytes;     /* then it waits for `pause_ns`; 0: no end */
	uint64_t pause_ns, life_ns, end_ns;
	uint32_t in;              /* EPOLLIN; 0: it never reads */
	size_t data_length;
	uint8_t *buffer;
	size_t buffer_length;
	uint64_t opened, failed, ended, written, read;
	struct connection **open; /* by place; NULL: not open */
	uint64_t *reopen_ns;      /* by place: not before */
};

struct connection {
	struct watch watch;
	struct pour *pour;
	uint32_t place;
	bool is_connected;
	uint64_t sent;      /* of the burst */
	uint64_t opened_ns, paused_until_ns;
};

static uint8_t discarded[65536];

static void drop(struct connection *connection, uint64_t now)
{
	struct pour *pour = connection->pour;

	pour->open[connection->place] = NULL;
	pour->reopen_ns[connection->place] = now + POUR_REOPEN_NS;
	watch_close(&connection->watch);
}

static void write_more(struct connection *connection)
{
	struct pour *pour = connection->pour;
	size_t at = (size_t)(connection->sent % pour->buffer_length);
	size_t length = pour->buffer_length - at;
	ssize_t taken;

	if (pour->burst_bytes > 0 && length > pour->burst_bytes - connection->sent)
		length = (size_t)(pour->burst_bytes - connection->sent);
	taken = send(connection->watch.fd, pour->buffer + at, length, MSG_NOSIGNAL);
	if (taken < 0 && errno == EAGAIN)
		return;
	if (taken < 0) {
		pour->ended++;
		drop(connection, now_ns());
		return;
	}
	connection->sent += (uint64_t)taken;
	pour->written += (uint64_t)taken;
	if (pour->burst_bytes > 0 && connection->sent == pour->burst_bytes) {
		connection->paused_until_ns = pour->pause_ns > 0 ? now_ns() + pour->pause_ns : UINT64_MAX;
		watch_events(&connection->watch, pour->in);
	}
}

static void on_connection(struct watch *watch, uint32_t events)
{
	struct connection *connection = (struct connection *)watch;
	struct pour *pour = connection->pour;
	socklen_t error_length = sizeof(int);
	int error = 0;
	ssize_t length;

	if (!connection->is_connected) {
		getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &error_length);
		if (error != 0) {
			pour->failed++;
			drop(connection, now_ns());
			return;
		}
		connection->is_connected = true;
		pour->opened++;
		watch_events(watch, pour->in | EPOLLOUT);
	}
	if ((events & (pour->in | EPOLLHUP | EPOLLERR)) != 0) {
		length = pour->in == 0 ? 0 : recv(watch->fd, discarded, sizeof(discarded), 0);
		if (length == 0 || (length < 0 && errno != EAGAIN)) {
			pour->ended++;
			drop(connection, now_ns());
			return;
		}
		pour->read += length > 0 ? (uint64_t)length : 0;
	}
	if ((events & EPOLLOUT) != 0)
		write_more(connection);
}

static void add_to_address(struct address *peer, uint32_t number)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&peer->storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&peer->storage;

	if (peer->storage.ss_family == AF_INET)
		v4->sin_addr.s_addr = htonl(ntohl(v4->sin_addr.s_addr) + number);
	else
		v6->sin6_addr.s6_addr32[3] = htonl(ntohl(v6->sin6_addr.s6_addr32[3]) + number);
}

static void open_connection(struct pour *pour, uint32_t place, uint64_t now)
{
	struct address peer = pour->peer;
	struct request none = { 0 };
	struct connection *connection;
	int fd = socket_open(&none, peer.storage.ss_family, SOCK_STREAM, 0);

	pour->reopen_ns[place] = now + POUR_REOPEN_NS;
	connection = fd < 0 ? NULL : watch_new(sizeof(*connection), fd, 0, EPOLLOUT);
	if (connection == NULL) {
		pour->failed++;
		return;
	}
	connection->watch.on_ready = on_connection;
	connection->pour = pour;
	connection->place = place;
	connection->opened_ns = now;
	pour->open[place] = connection;
	add_to_address(&peer, place % pour->spread);
	if (socket_connect(fd, &peer) != 0) {
		pour->failed++;
		drop(connection, now);
	}
}

static void finish(struct pour *pour)
{
	for (uint32_t i = 0; i < pour->connections; i++)
		if (pour->open[i] != NULL)
			watch_close(&pour->open[i]->watch);
	answer_ok(pour->watch.id);
	answer_field("opened=%llu failed=%llu ended=%llu messages=%llu bytesRead=%llu",
		     (unsigned long long)pour->opened, (unsigned long long)pour->failed,
		     (unsigned long long)pour->ended,
		     (unsigned long long)(pour->written / pour->data_length),
		     (unsigned long long)pour->read);
	answer_end();
	watch_close(&pour->watch);
}

static void on_tick(struct watch *watch, uint32_t events)
{
	struct pour *pour = (struct pour *)watch;
	uint64_t now = now_ns();
	uint64_t ticks;

	(void)events;
	(void)!read(watch->fd, &ticks, sizeof(ticks));
	if (now >= pour->end_ns) {
		finish(pour);
		return;
	}
	for (uint32_t i = 0; i < pour->connections; i++) {
		struct connection *connection = pour->open[i];

		if (connection == NULL) {
			if (now >= pour->reopen_ns[i])
				open_connection(pour, i, now);
			continue;
		}
		if (pour->life_ns > 0 && now - connection->opened_ns >= pour->life_ns) {
			drop(connection, now);
			continue;
		}
		if (connection->paused_until_ns != 0 && now >= connection->paused_until_ns) {
			connection->paused_until_ns = 0;
			connection->sent = 0;
			watch_events(&connection->watch, pour->in | EPOLLOUT);
		}
	}
}

static void on_close(struct watch *watch)
{
	struct pour *pour = (struct pour *)watch;

	free(pour->buffer);
	free(pour->open);
	free(pour->reopen_ns);
}

static bool fill(struct pour *pour, const struct request *request)
{
	uint8_t *data = arg_bytes(request, "data", &pour->data_length);
	size_t copies;

	if (data == NULL || pour->data_length == 0) {
		free(data);
		return false;
	}
	copies = 1 + POUR_BUFFER_BYTES / pour->data_length;
	pour->buffer_length = copies * pour->data_length;
	pour->buffer = malloc(pour->buffer_length);
	for (size_t i = 0; pour->buffer != NULL && i < copies; i++)
		memcpy(pour->buffer + i * pour->data_length, data, pour->data_length);
	free(data);
	pour->open = calloc(pour->connections, sizeof(struct connection *));
	pour->reopen_ns = calloc(pour->connections, sizeof(*pour->reopen_ns));
	return pour->buffer != NULL && pour->open != NULL && pour->reopen_ns != NULL;
}

/*
 * pour to= port= spread= connections= data= burst= pause= life= unread= timeout= : for `timeout` ms; `burst`
 * copies of the data at a time (0: no end) and `pause` ms after them (0: no more); a connection lives for `life`
 * ms (0: as long as it may); with `unread` it never reads.
 */
void op_pour(const struct request *request)
{
	struct itimerspec tick = { { 0, POUR_TICK_NS }, { 0, 1 } };
	long connections = arg_number(request, "connections", 1);
	long spread = arg_number(request, "spread", 1);
	struct pour *pour;
	struct address peer;
	int fd;

	if (!arg_address(request, "to", "port", &peer) || spread < 1 || connections < 1 ||
	    connections > POUR_CONNECTIONS_MAX) {
		answer_error(request->id, EINVAL, "destination, spread or connections");
		return;
	}
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	pour = fd < 0 ? NULL : watch_new(sizeof(*pour), fd, request->id, EPOLLIN);
	if (pour == NULL) {
		answer_error(request->id, errno, "watch");
		return;
	}
	pour->watch.on_ready = on_tick;
	pour->watch.on_close = on_close;
	pour->peer = peer;
	pour->spread = (uint32_t)spread;
	pour->connections = (uint32_t)connections;
	pour->pause_ns = (uint64_t)arg_number(request, "pause", 0) * 1000000u;
	pour->life_ns = (uint64_t)arg_number(request, "life", 0) * 1000000u;
	pour->in = arg_number(request, "unread", 0) != 0 ? 0 : EPOLLIN;
	pour->end_ns = arg_deadline(request, 1000);
	if (!fill(pour, request) || timerfd_settime(fd, 0, &tick, NULL) != 0) {
		answer_error(request->id, EINVAL, "data or memory");
		watch_close(&pour->watch);
		return;
	}
	pour->burst_bytes = (uint64_t)arg_number(request, "burst", 0) * pour->data_length;
}
