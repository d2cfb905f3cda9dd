/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * DNS load over TCP, with the options and the output of `load`: at a fixed rate (--rate) or with a fixed
 * number of queries in flight (--window). --sockets is how many connections there may be at a time.
 * Connections stay open and carry queries one behind the other; with --queries-per-port 1 each query has
 * a connection of its own, and its latency begins with the SYN.
 */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	EVENTS = 64,
	SLOTS = 128, /* queries in flight of one connection; a power of two */
	IN_FLIGHT_MAX = 100,
	OUT_BYTES = SLOTS * (QUERY_BYTES_MAX + 2),
	IN_BYTES = 65536 + 2,
	RCODES = 16,
};

struct connection {
	int fd; /* -1: none */
	bool is_open;
	uint32_t in_flight, asked;
	uint16_t next_id;
	uint64_t sent_ns[SLOTS]; /* 0: free */
	size_t out, in;
	uint8_t out_bytes[OUT_BYTES], in_bytes[IN_BYTES];
};

static struct {
	uint64_t sent, answered, lost, late, broken, connects;
	uint64_t rcodes[RCODES];
	struct histogram latency_us;
} result;

static int epoll_fd;
static struct connection *connections;
static uint32_t next_connection;
static uint64_t in_flight, started_ns;

static void die(const char *what)
{
	fprintf(stderr, "tcp-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool is_single(void)
{
	return options.queries_per_port == 1;
}

static void watch(struct connection *connection, int operation)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };

	if (connection->out > 0 || !connection->is_open)
		event.events |= EPOLLOUT;
	if (epoll_ctl(epoll_fd, operation, connection->fd, &event) != 0)
		die("epoll_ctl");
}

static void open_connection(struct connection *connection)
{
	int family = options.server.sin6_family;
	int one = 1;

	connection->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		die("socket");
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(connection->fd, (struct sockaddr *)&options.server,
		    family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(options.server)) != 0 &&
	    errno != EINPROGRESS)
		die("connect");
	result.connects++;
	connection->is_open = false;
	connection->in = connection->out = 0;
	connection->asked = 0;
	watch(connection, EPOLL_CTL_ADD);
}

/* Closes it; what is in flight on it gets no answer any more. */
static void close_connection(struct connection *connection)
{
	if (connection->in_flight > 0)
		result.broken++;
	result.lost += connection->in_flight;
	in_flight -= connection->in_flight;
	connection->in_flight = 0;
	memset(connection->sent_ns, 0, sizeof(connection->sent_ns));
	close(connection->fd);
	connection->fd = -1;
}

static void write_out(struct connection *connection)
{
	ssize_t written = send(connection->fd, connection->out_bytes, connection->out, MSG_NOSIGNAL);

	if (written < 0) {
		if (errno != EAGAIN)
			close_connection(connection);
		return;
	}
	connection->out -= (size_t)written;
	memmove(connection->out_bytes, connection->out_bytes + written, connection->out);
}

static bool may_ask(const struct connection *connection)
{
	if (is_single())
		return connection->fd < 0;
	return connection->in_flight < IN_FLIGHT_MAX &&
	       connection->sent_ns[connection->next_id % SLOTS] == 0;
}

static void ask(struct connection *connection, uint64_t now)
{
	uint16_t id = connection->next_id++;
	uint8_t *at;
	size_t length;

	if (connection->fd < 0)
		open_connection(connection);
	at = connection->out_bytes + connection->out;
	length = names_query(&options.names, result.sent, id, at + 2);
	at[0] = (uint8_t)(length >> 8);
	at[1] = (uint8_t)length;
	connection->out += length + 2;
	connection->sent_ns[id % SLOTS] = now;
	connection->in_flight++;
	connection->asked++;
	in_flight++;
	result.sent++;
}

/* Asks up to `want` queries, a few on each connection in turn, and writes what each has at once. */
static void send_due(uint64_t want, uint64_t now)
{
	for (uint32_t tried = 0; tried < options.sockets && want > 0; tried++) {
		struct connection *connection = &connections[next_connection++ % options.sockets];
		uint64_t share = want / (options.sockets - tried);
		uint64_t count = share > 0 ? share : 1;

		for (; count > 0 && want > 0 && may_ask(connection); count--, want--)
			ask(connection, now);
		if (connection->fd < 0 || connection->out == 0)
			continue;
		if (connection->is_open)
			write_out(connection);
		if (connection->fd >= 0 && connection->out > 0)
			watch(connection, EPOLL_CTL_MOD);
	}
}

static void take_reply(struct connection *connection, const uint8_t *reply, size_t length, uint64_t now)
{
	uint16_t id = length < 12 ? 0 : (uint16_t)(reply[0] << 8 | reply[1]);
	uint64_t *sent_ns = &connection->sent_ns[id % SLOTS];

	if (length < 12 || (reply[2] & 0x80) == 0 || *sent_ns == 0) {
		result.late++;
		return;
	}
	histogram_add(&result.latency_us, (now - *sent_ns) / 1000);
	*sent_ns = 0;
	connection->in_flight--;
	in_flight--;
	result.answered++;
	result.rcodes[reply[3] & 15]++;
}

static void take_replies(struct connection *connection)
{
	uint64_t now = now_ns();
	size_t at = 0;

	while (connection->in - at >= 2) {
		const uint8_t *message = connection->in_bytes + at;
		size_t length = (size_t)message[0] << 8 | message[1];

		if (connection->in - at < length + 2)
			break;
		take_reply(connection, message + 2, length, now);
		at += length + 2;
	}
	connection->in -= at;
	memmove(connection->in_bytes, connection->in_bytes + at, connection->in);
}

static void receive(struct connection *connection)
{
	ssize_t length = recv(connection->fd, connection->in_bytes + connection->in,
			      IN_BYTES - connection->in, 0);

	if (length < 0 && errno == EAGAIN)
		return;
	if (length <= 0) {
		close_connection(connection);
		return;
	}
	connection->in += (size_t)length;
	take_replies(connection);
	if (is_single() && connection->in_flight == 0)
		close_connection(connection);
}

static void on_event(struct connection *connection, uint32_t events)
{
	if ((events & EPOLLOUT) != 0) {
		connection->is_open = true;
		if (connection->out > 0)
			write_out(connection);
		if (connection->fd < 0)
			return;
		watch(connection, EPOLL_CTL_MOD);
	}
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
		receive(connection);
}

/* Queries that are due; `wait_ns`: until more are. */
static uint64_t due_at(uint64_t now, uint64_t *wait_ns)
{
	uint64_t all, next_ns;

	*wait_ns = 10000000;
	if (options.rate == 0)
		return options.window > in_flight ? options.window - in_flight : 0;
	all = (uint64_t)((double)(now - started_ns) * (double)options.rate / 1e9) + 1;
	next_ns = started_ns + (uint64_t)((double)all * 1e9 / (double)options.rate);
	if (next_ns < now + *wait_ns)
		*wait_ns = next_ns > now ? next_ns - now : 0;
	return all > result.sent ? all - result.sent : 0;
}

static void run(void)
{
	struct epoll_event events[EVENTS];

	started_ns = now_ns();
	for (;;) {
		uint64_t now = now_ns();
		uint64_t elapsed = now - started_ns;
		uint64_t wait_ns = 10000000;
		struct timespec timeout;
		int count;

		if (elapsed < options.duration_ns)
			send_due(due_at(now, &wait_ns), now);
		else if (in_flight == 0 || elapsed > options.duration_ns + options.timeout_ns)
			return;
		timeout = (struct timespec){ 0, (long)wait_ns };
		count = epoll_pwait2(epoll_fd, events, EVENTS, &timeout, NULL);
		for (int i = 0; i < count; i++)
			on_event(events[i].data.ptr, events[i].events);
	}
}

static void print_result(uint64_t elapsed_ns)
{
	const struct histogram *latency = &result.latency_us;
	double seconds = (double)elapsed_ns / 1e9;

	printf("{\"sent\":%lu,\"answered\":%lu,\"lost\":%lu,\"late\":%lu,\"broken\":%lu,\"connects\":%lu,"
	       "\"elapsedS\":%.3f,\"qps\":%.1f,\"p50Us\":%lu,\"p99Us\":%lu,\"maxUs\":%lu,\"rcodes\":{",
	       result.sent, result.answered, result.sent - result.answered, result.late, result.broken,
	       result.connects, seconds, (double)result.answered / seconds, histogram_at(latency, 0.5),
	       histogram_at(latency, 0.99), latency->max);
	for (int i = 0, shown = 0; i < RCODES; i++)
		if (result.rcodes[i] != 0)
			printf("%s\"%d\":%lu", shown++ > 0 ? "," : "", i, result.rcodes[i]);
	printf("}}\n");
}

int main(int argc, char **argv)
{
	if (!load_options_read(argc, argv) || options.duration_ns == UINT64_MAX) {
		fprintf(stderr, "tcp-load: --server ADDRESS, --rate or --window, --seconds, --names or "
				"--name-format\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	connections = calloc(options.sockets, sizeof(*connections));
	if (epoll_fd < 0 || connections == NULL)
		die("start");
	for (uint32_t i = 0; i < options.sockets; i++) {
		connections[i].fd = -1;
		if (!is_single())
			open_connection(&connections[i]);
	}
	run();
	print_result(now_ns() - started_ns);
	return 0;
}
