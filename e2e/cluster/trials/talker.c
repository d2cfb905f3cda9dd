/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The program in the pods of a trial: from its first moment on it sends to its targets, marked with what their policy
 * says of them, so that who captures needs no policy of his own. Usage:
 *
 *   talker PORT INTERVAL_MS COLLECTOR TARGET...
 *
 * TARGET is MARK PROTOCOL:ADDRESS[-LAST]:PORT, such as "-udp:198.51.100.20:9000" or "?udp:10.244.1.2-254:7777". A packet
 * begins with "TANDEM" and the mark: + is allowed, - is denied, ? is allowed to leave here but not to arrive. A TCP
 * connection says it as soon as it is open. What arrives at UDP port PORT (and begins with "TANDEM") the talker tells
 * COLLECTOR (ADDRESS:PORT, udp) with the mark -. "PEERS ADDRESS..." at that port: it sends to port PORT of these from now on,
 * with the mark ?.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TARGETS_MAX = 64, PEERS_MAX = 128, CONNECT_MS_MAX = 1000, SLICE_MS = 10 };

struct target {
	char mark;
	bool is_tcp;
	struct in_addr first;
	unsigned count;
	in_port_t port;
	int connection; /* of TCP: the one that is being opened, or -1 */
	int64_t begun_ms;
};

static struct target targets[TARGETS_MAX];
static size_t target_count;
static struct in_addr peers[PEERS_MAX];
static size_t peer_count;
static char name[65];

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void fail(const char *what, const char *about)
{
	fprintf(stderr, "talker: %s: %s\n", what, about);
	exit(2);
}

static struct sockaddr_in at(struct in_addr address, in_port_t port)
{
	struct sockaddr_in result = { .sin_family = AF_INET, .sin_addr = address, .sin_port = port };

	return result;
}

/* "ADDRESS[-LAST]:PORT" */
static void parse_address(const char *text, struct in_addr *first, unsigned *count, in_port_t *port)
{
	char copy[64];
	char *colon, *dash;

	snprintf(copy, sizeof(copy), "%s", text);
	colon = strrchr(copy, ':');
	if (colon == NULL)
		fail("no port", text);
	*colon = '\0';
	*port = htons((uint16_t)atoi(colon + 1));
	*count = 1;
	dash = strchr(copy, '-');
	if (dash != NULL)
		*dash = '\0';
	if (inet_pton(AF_INET, copy, first) != 1)
		fail("no address", text);
	if (dash != NULL)
		*count = (unsigned)atoi(dash + 1) - (ntohl(first->s_addr) & 0xff) + 1;
}

static void parse_target(const char *text)
{
	struct target *target = &targets[target_count];

	if (target_count == TARGETS_MAX)
		fail("too many targets", text);
	target->mark = text[0];
	target->is_tcp = strncmp(text + 1, "tcp:", 4) == 0;
	if (!target->is_tcp && strncmp(text + 1, "udp:", 4) != 0)
		fail("neither udp nor tcp", text);
	parse_address(text + 5, &target->first, &target->count, &target->port);
	target->connection = -1;
	target_count++;
}

static size_t message(char mark, const char *about, char *buffer, size_t size)
{
	int length = snprintf(buffer, size, "TANDEM%c %s %s", mark, name, about);

	return (size_t)length < size ? (size_t)length : size - 1;
}

/*
 * Sends to the addresses of a target whose turn is in one slice of the interval. Sending to all at once is a burst: a bridge sends an
 * ARP request for an address without a pod to each of its ports, and a full backlog of the machine drops packets of all nodes.
 */
static void send_datagrams(int fd, const struct target *target, unsigned slice, unsigned slices)
{
	unsigned first = (target->count * slice + slices - 1) / slices;
	unsigned end = (target->count * (slice + 1) + slices - 1) / slices;

	char text[128];
	size_t length = message(target->mark, "talks", text, sizeof(text));

	for (unsigned i = first; i < end; i++) {
		struct in_addr address = { htonl(ntohl(target->first.s_addr) + i) };
		struct sockaddr_in to = at(address, target->port);

		/* An error is one of those that the network gives: the next packet goes on. */
		(void)!sendto(fd, text, length, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to));
	}
}

static void send_to_peers(int fd, in_port_t port)
{
	struct target peer = { .mark = '?', .count = 1, .port = port };

	for (size_t i = 0; i < peer_count; i++) {
		peer.first = peers[i];
		send_datagrams(fd, &peer, 0, 1);
	}
}

static void read_peers(char *text)
{
	char *rest = NULL;

	peer_count = 0;
	for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
		if (peer_count < PEERS_MAX && inet_pton(AF_INET, word, &peers[peer_count]) == 1)
			peer_count++;
	}
}

static void end_connection(struct target *target)
{
	close(target->connection);
	target->connection = -1;
}

static void advance_connection(struct target *target)
{
	struct sockaddr_in to = at(target->first, target->port);
	struct pollfd wait;
	char text[128];

	if (target->connection < 0) {
		target->connection = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		target->begun_ms = now_ms();
		if (target->connection >= 0 &&
		    connect(target->connection, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
			end_connection(target);
		return;
	}
	wait = (struct pollfd){ .fd = target->connection, .events = POLLOUT };
	if (poll(&wait, 1, 0) == 1) {
		if ((wait.revents & (POLLERR | POLLHUP)) == 0)
			(void)!send(target->connection, text, message(target->mark, "is connected", text, sizeof(text)),
				    MSG_NOSIGNAL);
		end_connection(target);
	} else if (now_ms() - target->begun_ms > CONNECT_MS_MAX) {
		end_connection(target);
	}
}

/* Reports a received packet and its source to the collector. */
static void receive(int server, int fd, const struct sockaddr_in *collector)
{
	char bytes[2048], about[200], text[300], peer[INET_ADDRSTRLEN];
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	ssize_t length =
		recvfrom(server, bytes, sizeof(bytes) - 1, MSG_DONTWAIT, (struct sockaddr *)&from, &size);

	if (length < 6)
		return;
	bytes[length] = '\0';
	if (memcmp(bytes, "PEERS ", 6) == 0) {
		read_peers(bytes + 6);
		return;
	}
	if (memcmp(bytes, "TANDEM", 6) != 0)
		return;
	inet_ntop(AF_INET, &from.sin_addr, peer, sizeof(peer));
	snprintf(about, sizeof(about), "received from %s: %.100s", peer, bytes);
	(void)!sendto(fd, text, message('-', about, text, sizeof(text)), MSG_DONTWAIT,
		      (const struct sockaddr *)collector, sizeof(*collector));
}

static void on_end(int signal)
{
	(void)signal;
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	struct sockaddr_in collector = { .sin_family = AF_INET };
	unsigned one, slices = 1;
	int interval_ms;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (argc < 4)
		fail("usage", "talker PORT INTERVAL_MS COLLECTOR TARGET...");
	/* As process 1 of its pod it ends only by a handler. */
	signal(SIGTERM, on_end);
	signal(SIGINT, on_end);
	gethostname(name, sizeof(name) - 1);
	any.sin_port = htons((uint16_t)atoi(argv[1]));
	interval_ms = atoi(argv[2]);
	parse_address(argv[3], &collector.sin_addr, &one, &collector.sin_port);
	for (int i = 4; i < argc; i++)
		parse_target(argv[i]);
	if (bind(server, (struct sockaddr *)&any, sizeof(any)) < 0)
		fail("bind", strerror(errno));
	for (size_t i = 0; i < target_count; i++) {
		if (targets[i].count > 1)
			slices = (unsigned)(interval_ms > SLICE_MS ? interval_ms / SLICE_MS : 1);
	}
	for (unsigned slice = 0;; slice = (slice + 1) % slices) {
		int64_t next_ms = now_ms() + interval_ms / (int)slices;

		for (size_t i = 0; i < target_count; i++) {
			if (!targets[i].is_tcp)
				send_datagrams(fd, &targets[i], slice, slices);
			else if (slice == 0)
				advance_connection(&targets[i]);
		}
		if (slice == 0)
			send_to_peers(fd, any.sin_port);
		for (;;) {
			struct pollfd wait = { .fd = server, .events = POLLIN };
			int64_t left_ms = next_ms - now_ms();

			if (left_ms <= 0)
				break;
			if (poll(&wait, 1, (int)left_ms) == 1)
				receive(server, fd, &collector);
		}
	}
}
