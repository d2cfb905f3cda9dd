/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The floor of the benchmark: a UDP relay that makes the same kernel crossings as a DNS proxy and thinks
 * nothing. Listeners as the proxy's (SO_REUSEPORT, IP_TRANSPARENT, original destination), recvmmsg and
 * sendmmsg, connected upstream sockets, a pending table that gives each query an id of its own; no
 * parsing, no policy, no learning. Reply source is the address that was asked.
 *
 *   relay --port P [--upstream ADDRESS --upstream-port 53] [--sockets 16] [--mark N] [--guard MASK:VALUE]
 *
 * Without --upstream a query goes to the address it was sent to. Writes "ready" when it serves and a line
 * of JSON at SIGTERM.
 */
#include "relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH = 64,
	MESSAGE_BYTES_MAX = 4096,
	PENDING_MAX = 65536, /* a DNS id names a slot */
	SERVERS_MAX = 64,
	SOCKET_BUFFER_BYTES = 4 << 20,
	PENDING_SECONDS_MAX = 5,
	DNS_HEADER_BYTES = 12,
};

enum kind { KIND_SIGNAL, KIND_LISTENER, KIND_UPSTREAM };

struct endpoint {
	enum kind kind;
	int fd;
	int family;
};

struct pending {
	struct sockaddr_in6 client; /* or sockaddr_in: the family tells */
	union {
		struct in_addr v4;
		struct in6_addr v6;
	} asked;
	struct endpoint *listener; /* NULL: free */
	uint16_t client_id;
	uint32_t since_s;
};

struct server {
	struct sockaddr_in6 address;
	struct endpoint socket[SOCKETS_PER_SERVER_MAX];
	unsigned next;
};

struct control {
	_Alignas(struct cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(struct sockaddr_in6))];
};

static struct {
	uint64_t queries, replies, unknown, full, send_failed, too_many_servers;
} counts;

static int epoll_fd;
static struct pending pending[PENDING_MAX];
static uint16_t next_slot;
static struct server servers[SERVERS_MAX];
static size_t server_count;

static uint8_t buffers[BATCH][MESSAGE_BYTES_MAX];
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static struct sockaddr_in6 names[BATCH];
static struct control controls[BATCH];
static struct mmsghdr replies[BATCH];

static void die(const char *what)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void set_number(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)) != 0)
		die(what);
}

static void set_buffers(int fd)
{
	int size = SOCKET_BUFFER_BYTES;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static void watch(struct endpoint *endpoint)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = endpoint };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, endpoint->fd, &event) != 0)
		die("epoll_ctl");
}

/* Takes only packets whose mark says that they were redirected, as the proxy's listeners do. */
static void guard(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_MARK)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, options.guard_mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, options.guard_value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0)
		die("SO_ATTACH_FILTER");
}

static void listen_on(struct endpoint *endpoint, int family)
{
	bool is_v6 = family == AF_INET6;
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(options.port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(options.port) };
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	set_number(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
	if (options.mark != 0)
		set_number(fd, SOL_SOCKET, SO_MARK, options.mark, "SO_MARK");
	if (is_v6) {
		set_number(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
		set_number(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1, "IPV6_TRANSPARENT");
		set_number(fd, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1, "IPV6_RECVORIGDSTADDR");
	} else {
		set_number(fd, IPPROTO_IP, IP_TRANSPARENT, 1, "IP_TRANSPARENT");
		set_number(fd, IPPROTO_IP, IP_RECVORIGDSTADDR, 1, "IP_RECVORIGDSTADDR");
	}
	if (options.guard_mask != 0)
		guard(fd);
	set_buffers(fd);
	if (bind(fd, is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4,
		 is_v6 ? sizeof(v6) : sizeof(v4)) != 0)
		die("bind");
	*endpoint = (struct endpoint){ KIND_LISTENER, fd, family };
	watch(endpoint);
}

static socklen_t address_length(int family)
{
	return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* The server at `address`, with its sockets; NULL when there are too many. */
static struct server *server_at(const struct sockaddr_in6 *address)
{
	socklen_t length = address_length(address->sin6_family);
	struct server *server;

	for (size_t i = 0; i < server_count; i++)
		if (memcmp(&servers[i].address, address, length) == 0)
			return &servers[i];
	if (server_count == SERVERS_MAX) {
		counts.too_many_servers++;
		return NULL;
	}
	server = &servers[server_count++];
	server->address = *address;
	for (unsigned i = 0; i < options.sockets; i++) {
		int fd = socket(address->sin6_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		if (fd < 0 || connect(fd, (const struct sockaddr *)address, length) != 0)
			die("upstream socket");
		set_buffers(fd);
		server->socket[i] =
			(struct endpoint){ KIND_UPSTREAM, fd, address->sin6_family };
		watch(&server->socket[i]);
	}
	return server;
}

static uint32_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint32_t)now.tv_sec;
}

/* The server a query is for; the address that was asked goes into `entry` for the reply. */
static struct server *original_server(struct msghdr *message, int family, struct pending *entry)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	struct sockaddr_in6 address = { 0 };

	if (header == NULL)
		return NULL;
	memcpy(&address, CMSG_DATA(header), address_length(family));
	if (family == AF_INET)
		entry->asked.v4 = ((struct sockaddr_in *)&address)->sin_addr;
	else
		entry->asked.v6 = address.sin6_addr;
	if (options.upstream.sin6_family != 0)
		return server_at(&options.upstream);
	address.sin6_port = htons(options.upstream_port);
	return server_at(&address);
}

static struct pending *take_slot(uint32_t now_s, uint16_t *id)
{
	struct pending *entry = &pending[next_slot];

	if (entry->listener != NULL && now_s - entry->since_s < PENDING_SECONDS_MAX) {
		counts.full++;
		return NULL;
	}
	*id = next_slot++;
	return entry;
}

static void send_all(int fd, struct mmsghdr *batch, unsigned count)
{
	while (count > 0) {
		int sent = sendmmsg(fd, batch, count, 0);

		/* One that cannot be sent is skipped; a full buffer loses the rest, as UDP may. */
		if (sent <= 0) {
			counts.send_failed++;
			sent = 1;
		}
		batch += sent;
		count -= (unsigned)sent;
	}
}

static void prepare(bool with_names)
{
	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ buffers[i], MESSAGE_BYTES_MAX };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
		if (!with_names)
			continue;
		messages[i].msg_hdr.msg_name = &names[i];
		messages[i].msg_hdr.msg_namelen = sizeof(names[i]);
		messages[i].msg_hdr.msg_control = &controls[i];
		messages[i].msg_hdr.msg_controllen = sizeof(controls[i]);
	}
}

/* All queries of a batch for one server leave by one socket; the next batch takes the next. */
static void relay_queries(struct endpoint *listener)
{
	struct server *last = NULL;
	unsigned count = 0;
	uint32_t now_s = seconds();
	int received;

	prepare(true);
	received = recvmmsg(listener->fd, messages, BATCH, 0, NULL);
	for (int i = 0; i < received; i++) {
		struct pending *entry;
		struct server *server;
		uint16_t id;

		if (messages[i].msg_len < DNS_HEADER_BYTES)
			continue;
		entry = take_slot(now_s, &id);
		if (entry == NULL)
			continue;
		server = original_server(&messages[i].msg_hdr, listener->family, entry);
		if (server == NULL)
			continue;
		entry->client = names[i];
		entry->listener = listener;
		entry->since_s = now_s;
		memcpy(&entry->client_id, buffers[i], sizeof(entry->client_id));
		memcpy(buffers[i], &id, sizeof(id));
		if (server != last && count > 0) {
			send_all(last->socket[last->next++ % options.sockets].fd, replies, count);
			count = 0;
		}
		last = server;
		parts[i].iov_len = messages[i].msg_len;
		replies[count++].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
		counts.queries++;
	}
	if (count > 0)
		send_all(last->socket[last->next++ % options.sockets].fd, replies, count);
}

static void set_source(struct msghdr *message, struct control *control, const struct pending *entry)
{
	bool is_v6 = entry->listener->family == AF_INET6;
	size_t size = is_v6 ? sizeof(struct in6_pktinfo) : sizeof(struct in_pktinfo);
	struct cmsghdr *header;

	message->msg_control = control;
	message->msg_controllen = CMSG_SPACE(size);
	header = CMSG_FIRSTHDR(message);
	header->cmsg_len = CMSG_LEN(size);
	if (is_v6) {
		struct in6_pktinfo info = { .ipi6_addr = entry->asked.v6 };

		header->cmsg_level = IPPROTO_IPV6;
		header->cmsg_type = IPV6_PKTINFO;
		memcpy(CMSG_DATA(header), &info, sizeof(info));
	} else {
		struct in_pktinfo info = { .ipi_spec_dst = entry->asked.v4 };

		header->cmsg_level = IPPROTO_IP;
		header->cmsg_type = IP_PKTINFO;
		memcpy(CMSG_DATA(header), &info, sizeof(info));
	}
}

static void relay_replies(struct endpoint *upstream)
{
	struct endpoint *last = NULL;
	unsigned count = 0;
	int received;

	prepare(false);
	received = recvmmsg(upstream->fd, messages, BATCH, 0, NULL);
	for (int i = 0; i < received; i++) {
		struct pending *entry;
		struct msghdr *reply;
		uint16_t id;

		if (messages[i].msg_len < DNS_HEADER_BYTES)
			continue;
		memcpy(&id, buffers[i], sizeof(id));
		entry = &pending[id];
		if (entry->listener == NULL) {
			counts.unknown++;
			continue;
		}
		if (entry->listener != last && count > 0) {
			send_all(last->fd, replies, count);
			count = 0;
		}
		last = entry->listener;
		memcpy(buffers[i], &entry->client_id, sizeof(entry->client_id));
		parts[i].iov_len = messages[i].msg_len;
		names[i] = entry->client;
		reply = &replies[count++].msg_hdr;
		*reply = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1, .msg_name = &names[i],
					  .msg_namelen = address_length(last->family) };
		set_source(reply, &controls[i], entry);
		entry->listener = NULL;
		counts.replies++;
	}
	if (count > 0)
		send_all(last->fd, replies, count);
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
	struct endpoint listener[2], signals = { KIND_SIGNAL, -1, 0 };
	struct epoll_event events[BATCH];
	bool is_done = false;

	if (!relay_options_read(argc, argv)) {
		fprintf(stderr, "relay: --port P [--upstream ADDRESS] [--upstream-port P] "
				"[--sockets 1..64] [--mark N] [--guard MASK:VALUE]\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	signals.fd = open_signals();
	watch(&signals);
	listen_on(&listener[0], AF_INET);
	listen_on(&listener[1], AF_INET6);
	puts("ready");
	fflush(stdout);
	while (!is_done) {
		int count = epoll_wait(epoll_fd, events, BATCH, -1);

		for (int i = 0; i < count; i++) {
			struct endpoint *endpoint = events[i].data.ptr;

			if (endpoint->kind == KIND_LISTENER)
				relay_queries(endpoint);
			else if (endpoint->kind == KIND_UPSTREAM)
				relay_replies(endpoint);
			else
				is_done = true;
		}
	}
	printf("{\"queries\":%llu,\"replies\":%llu,\"unknown\":%llu,\"full\":%llu,\"sendFailed\":%llu,"
	       "\"tooManyServers\":%llu}\n",
	       (unsigned long long)counts.queries, (unsigned long long)counts.replies,
	       (unsigned long long)counts.unknown, (unsigned long long)counts.full,
	       (unsigned long long)counts.send_failed, (unsigned long long)counts.too_many_servers);
	return 0;
}
