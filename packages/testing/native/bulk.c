/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Fresh names in bulk: query PREFIX<number>SUFFIX, and the moment the reply is read, connect to the
 * address in it. A SYN that was dropped shows as a retransmission or, with a timeout below the kernel's
 * first retransmission (1 s), as a timeout.
 */
#include "probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum {
	BULK_CONCURRENCY_MAX = 512,
	BULK_COUNT_MAX = 2000000,
	BULK_FAILURES_KEPT_MAX = 16,
	BULK_QUERY_BYTES_MAX = 512,
	BULK_REPLY_BYTES_MAX = 4096,
	DNS_TYPE_A = 1,
	DNS_TYPE_AAAA = 28,
};

enum outcome {
	CONNECTED, RETRANSMITTED, CONNECT_ERROR, CONNECT_TIMEOUT,
	DNS_RCODE, DNS_EMPTY, DNS_ERROR, DNS_TIMEOUT, OUTCOMES,
};
static const char *const outcome_names[OUTCOMES] = {
	"connected", "retransmitted", "connectErrors", "connectTimeouts",
	"rcodes", "empty", "dnsErrors", "dnsTimeouts",
};

struct failure {
	uint32_t number;
	enum outcome outcome;
	int detail; /* rcode or errno */
};

struct bulk {
	uint32_t id; /* the request */
	struct request options; /* for socket_open: none, every name has its own port */
	struct address server;
	uint16_t type, connect_port;
	bool is_tcp; /* the queries; each over a connection of its own */
	uint32_t start, count, concurrency, tries_max;
	uint64_t dns_timeout_ns, connect_timeout_ns, started_ns;
	uint32_t next, done, retried, failures;
	uint32_t outcomes[OUTCOMES];
	struct failure failure[BULK_FAILURES_KEPT_MAX];
	uint32_t *dns_us, *connect_us; /* of each name that got so far */
	uint32_t dns_count, connect_count;
	char prefix[128], suffix[256];
};

struct step {
	struct watch watch;
	struct bulk *bulk;
	uint32_t number, tries;
	uint16_t query_id;
	uint64_t started_ns;
	size_t length; /* of what was read of a reply over TCP */
	uint8_t reply[BULK_REPLY_BYTES_MAX];
};

static void ask(struct bulk *bulk, uint32_t number, uint32_t tries);

static int compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return a < b ? -1 : a > b;
}

static void answer_latency(const char *name, uint32_t *values, uint32_t count)
{
	if (count == 0)
		return;
	qsort(values, count, sizeof(*values), compare);
	answer_field("%sP50Us=%u %sP99Us=%u %sMaxUs=%u", name, values[count / 2], name,
		     values[(uint64_t)count * 99 / 100], name, values[count - 1]);
}

static void finish(struct bulk *bulk)
{
	answer_ok(bulk->id);
	answer_field("names=%u retried=%u elapsedUs=%llu", bulk->done, bulk->retried,
		     (unsigned long long)((now_ns() - bulk->started_ns) / 1000));
	for (size_t i = 0; i < OUTCOMES; i++)
		answer_field("%s=%u", outcome_names[i], bulk->outcomes[i]);
	answer_latency("dns", bulk->dns_us, bulk->dns_count);
	answer_latency("connect", bulk->connect_us, bulk->connect_count);
	for (uint32_t i = 0; i < bulk->failures && i < BULK_FAILURES_KEPT_MAX; i++)
		answer_field("failure=%u:%s:%d", bulk->failure[i].number,
			     outcome_names[bulk->failure[i].outcome], bulk->failure[i].detail);
	answer_end();
	free(bulk->dns_us);
	free(bulk->connect_us);
	free(bulk);
}

/* One name is done; the next takes its place. */
static void settle(struct bulk *bulk, uint32_t number, enum outcome outcome, int detail)
{
	if (outcome != CONNECTED && bulk->failures++ < BULK_FAILURES_KEPT_MAX)
		bulk->failure[bulk->failures - 1] = (struct failure){ number, outcome, detail };
	bulk->outcomes[outcome]++;
	bulk->done++;
	if (bulk->next < bulk->count)
		ask(bulk, bulk->start + bulk->next++, 1);
	else if (bulk->done == bulk->count)
		finish(bulk);
}

static void settle_step(struct step *step, enum outcome outcome, int detail)
{
	struct bulk *bulk = step->bulk;

	watch_close(&step->watch);
	settle(bulk, step->number, outcome, detail);
}

/* A reset leaves no TIME_WAIT: bulks are larger than the range of ports. */
static void abort_on_close(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* ---- the connection ---- */

static void on_connected(struct watch *watch, uint32_t events)
{
	struct step *step = (struct step *)watch;
	struct bulk *bulk = step->bulk;
	struct tcp_info info = { 0 };
	socklen_t info_length = sizeof(info);
	socklen_t error_length = sizeof(int);
	int error = 0;

	(void)events;
	getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &error_length);
	if (error != 0) {
		settle_step(step, CONNECT_ERROR, error);
		return;
	}
	bulk->connect_us[bulk->connect_count++] = (uint32_t)((now_ns() - step->started_ns) / 1000);
	getsockopt(watch->fd, IPPROTO_TCP, TCP_INFO, &info, &info_length);
	abort_on_close(watch->fd);
	settle_step(step, info.tcpi_total_retrans == 0 ? CONNECTED : RETRANSMITTED,
		    info.tcpi_total_retrans);
}

static void on_connect_deadline(struct watch *watch)
{
	settle_step((struct step *)watch, CONNECT_TIMEOUT, ETIMEDOUT);
}

static void connect_to(struct bulk *bulk, uint32_t number, const uint8_t *bytes)
{
	int family = bulk->type == DNS_TYPE_A ? AF_INET : AF_INET6;
	struct sockaddr_in *v4;
	struct sockaddr_in6 *v6;
	struct address peer = { 0 };
	struct step *step;
	int fd;

	if (family == AF_INET) {
		v4 = (struct sockaddr_in *)&peer.storage;
		memcpy(&v4->sin_addr, bytes, 4);
		peer.length = sizeof(*v4);
	} else {
		v6 = (struct sockaddr_in6 *)&peer.storage;
		memcpy(&v6->sin6_addr, bytes, 16);
		peer.length = sizeof(*v6);
	}
	peer.storage.ss_family = (sa_family_t)family;
	((struct sockaddr_in *)&peer.storage)->sin_port = htons(bulk->connect_port);
	fd = socket_open(&bulk->options, family, SOCK_STREAM, 0);
	step = fd < 0 ? NULL : watch_new(sizeof(*step), fd, bulk->id, EPOLLOUT);
	if (step == NULL) {
		settle(bulk, number, CONNECT_ERROR, errno);
		return;
	}
	step->bulk = bulk;
	step->number = number;
	step->started_ns = now_ns();
	step->watch.on_ready = on_connected;
	step->watch.on_deadline = on_connect_deadline;
	step->watch.deadline_ns = step->started_ns + bulk->connect_timeout_ns;
	if (socket_connect(fd, &peer) != 0)
		settle_step(step, CONNECT_ERROR, errno);
}

/* ---- the query ---- */

static void take_reply(struct step *step, const uint8_t *reply, size_t length)
{
	struct bulk *bulk = step->bulk;
	uint8_t address[16];
	int result;

	if (length < 2 || (reply[0] << 8 | reply[1]) != step->query_id)
		return;
	bulk->dns_us[bulk->dns_count++] = (uint32_t)((now_ns() - step->started_ns) / 1000);
	result = dns_first_address(reply, length, bulk->type, address);
	if (result <= 0) {
		settle_step(step, result < 0 ? DNS_RCODE : DNS_EMPTY, -result);
		return;
	}
	watch_close(&step->watch);
	connect_to(bulk, step->number, address);
}

static void on_datagram(struct watch *watch, uint32_t events)
{
	struct step *step = (struct step *)watch;
	ssize_t length = recv(watch->fd, step->reply, sizeof(step->reply), 0);

	(void)events;
	if (length >= 0)
		take_reply(step, step->reply, (size_t)length);
	else if (errno != EAGAIN)
		settle_step(step, DNS_ERROR, errno);
}

static void on_stream(struct watch *watch, uint32_t events)
{
	struct step *step = (struct step *)watch;
	ssize_t length = recv(watch->fd, step->reply + step->length,
			      sizeof(step->reply) - step->length, 0);

	(void)events;
	if (length < 0 && errno == EAGAIN)
		return;
	if (length <= 0) {
		settle_step(step, DNS_ERROR, length == 0 ? EPIPE : errno);
		return;
	}
	step->length += (size_t)length;
	if (step->length >= 2 &&
	    step->length >= 2 + (size_t)(step->reply[0] << 8 | step->reply[1]))
		take_reply(step, step->reply + 2, step->length - 2);
}

static size_t make_query(const struct step *step, uint8_t *query)
{
	const struct bulk *bulk = step->bulk;
	char name[512];

	snprintf(name, sizeof(name), "%s%u%s", bulk->prefix, step->number, bulk->suffix);
	return dns_query(query, BULK_QUERY_BYTES_MAX, step->query_id, name, bulk->type);
}

static void on_dns_connected(struct watch *watch, uint32_t events)
{
	struct step *step = (struct step *)watch;
	uint8_t query[2 + BULK_QUERY_BYTES_MAX];
	size_t length = make_query(step, query + 2);
	socklen_t error_length = sizeof(int);
	int error = 0;

	(void)events;
	getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &error_length);
	if (error != 0) {
		settle_step(step, DNS_ERROR, error);
		return;
	}
	query[0] = (uint8_t)(length >> 8);
	query[1] = (uint8_t)length;
	abort_on_close(watch->fd);
	watch->on_ready = on_stream;
	watch_events(watch, EPOLLIN);
	(void)!send(watch->fd, query, 2 + length, MSG_NOSIGNAL);
}

static void on_reply_deadline(struct watch *watch)
{
	struct step *step = (struct step *)watch;
	struct bulk *bulk = step->bulk;

	if (step->tries >= bulk->tries_max) {
		settle_step(step, DNS_TIMEOUT, ETIMEDOUT);
		return;
	}
	bulk->retried++;
	watch_close(watch);
	ask(bulk, step->number, step->tries + 1);
}

static void ask(struct bulk *bulk, uint32_t number, uint32_t tries)
{
	uint8_t query[BULK_QUERY_BYTES_MAX];
	int type = bulk->is_tcp ? SOCK_STREAM : SOCK_DGRAM;
	int fd = socket_open(&bulk->options, bulk->server.storage.ss_family, type, 0);
	uint32_t events = bulk->is_tcp ? EPOLLOUT : EPOLLIN;
	struct step *step = fd < 0 ? NULL : watch_new(sizeof(*step), fd, bulk->id, events);

	if (step == NULL) {
		/* Not by settle(), which would come back here for every name that is left. */
		bulk->outcomes[DNS_ERROR] += 1 + bulk->count - bulk->next;
		bulk->done += 1 + bulk->count - bulk->next;
		bulk->next = bulk->count;
		if (bulk->done == bulk->count)
			finish(bulk);
		return;
	}
	step->bulk = bulk;
	step->number = number;
	step->tries = tries;
	step->query_id = (uint16_t)random();
	step->started_ns = now_ns();
	step->watch.on_ready = bulk->is_tcp ? on_dns_connected : on_datagram;
	step->watch.on_deadline = on_reply_deadline;
	step->watch.deadline_ns = step->started_ns + bulk->dns_timeout_ns;
	/* A datagram that cannot be sent gets no answer: the deadline counts it. */
	if (socket_connect(fd, &bulk->server) == 0 && !bulk->is_tcp)
		(void)!send(fd, query, make_query(step, query), 0);
}

/*
 * bulk to= port= transport=udp|tcp type=A|AAAA prefix= suffix= start= count= concurrency= connectPort= tries= timeout=
 * connectTimeout=
 */
void op_bulk(const struct request *request)
{
	struct bulk *bulk = calloc(1, sizeof(*bulk));
	uint32_t count = (uint32_t)arg_number(request, "count", 1);
	uint32_t concurrency = (uint32_t)arg_number(request, "concurrency", 8);

	if (bulk == NULL || !arg_address(request, "to", "port", &bulk->server) || count == 0 ||
	    count > BULK_COUNT_MAX || concurrency == 0 || concurrency > BULK_CONCURRENCY_MAX) {
		answer_error(request->id, EINVAL, "server, count or concurrency");
		free(bulk);
		return;
	}
	bulk->id = request->id;
	bulk->type = strcmp(arg_text(request, "type", "A"), "AAAA") == 0 ? DNS_TYPE_AAAA : DNS_TYPE_A;
	bulk->is_tcp = strcmp(arg_text(request, "transport", "udp"), "tcp") == 0;
	bulk->connect_port = (uint16_t)arg_number(request, "connectPort", 80);
	bulk->start = (uint32_t)arg_number(request, "start", 0);
	bulk->count = count;
	bulk->concurrency = concurrency < count ? concurrency : count;
	bulk->tries_max = (uint32_t)arg_number(request, "tries", 3);
	bulk->dns_timeout_ns = (uint64_t)arg_number(request, "timeout", 1000) * 1000000u;
	bulk->connect_timeout_ns = (uint64_t)arg_number(request, "connectTimeout", 900) * 1000000u;
	bulk->started_ns = now_ns();
	snprintf(bulk->prefix, sizeof(bulk->prefix), "%s", arg_text(request, "prefix", "n-"));
	snprintf(bulk->suffix, sizeof(bulk->suffix), "%s", arg_text(request, "suffix", ".example.test"));
	bulk->dns_us = malloc(sizeof(uint32_t) * (size_t)count);
	bulk->connect_us = malloc(sizeof(uint32_t) * (size_t)count);
	if (bulk->dns_us == NULL || bulk->connect_us == NULL) {
		answer_error(request->id, ENOMEM, "bulk");
		free(bulk->dns_us);
		free(bulk->connect_us);
		free(bulk);
		return;
	}
	bulk->next = bulk->concurrency;
	for (uint32_t i = 0, first = bulk->start, all = bulk->concurrency; i < all; i++)
		ask(bulk, first + i, 1);
}
