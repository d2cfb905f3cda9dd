/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * DNS load: at a fixed rate whatever comes back (--rate, open loop) or with a fixed number of queries in
 * flight (--window, closed loop). Writes one JSON object. Latency is counted from the send; how late
 * sends were is told apart, so that a busy generator is not taken for a slow server.
 *
 *   load --server ADDRESS [--port 53] (--rate N | --window N) [--seconds N | --count N]
 *        (--names FILE | --name-format n-%u.example.test [--name-start N] [--name-count N])
 *        [--type A|AAAA] [--edns] [--sockets 64] [--queries-per-port N] [--timeout-ms 2000]
 *        [--records FILE [--connect-port N [--connect-every 1]]]
 */
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
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
	BATCH = 32,
	SLOTS = 4096, /* queries in flight of one socket */
	REPLY_BYTES_MAX = 4096,
	SECONDS_MAX = 3600,
	SOCKET_BUFFER_BYTES = 4 << 20,
	RCODES = 16,
};

struct slot {
	uint64_t sent_ns; /* 0: free */
	uint32_t number;  /* of the query */
	uint16_t id;
};

struct source {
	int fd;
	uint32_t in_flight, used;
	uint16_t next_id;
	struct slot *slots;
};

/* In the order of sending, which is the order of timeouts. */
struct sent {
	uint64_t sent_ns;
	uint32_t source;
	uint16_t id;
};

static struct {
	uint64_t sent, answered, lost, late, send_failed, blocked, receive_failed;
	uint64_t rcodes[RCODES];
	struct histogram latency_us, lateness_us;
	struct {
		uint64_t sent, answered, max_us;
	} second[SECONDS_MAX];
} result;

static int epoll_fd;
static struct source sources[SOCKETS_MAX];
static uint32_t next_source;
static struct sent *queue;
static uint64_t queue_head, queue_tail, queue_size;
static uint64_t in_flight, started_ns, attempted;
static volatile sig_atomic_t is_told_to_end;

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* SIGTERM: nothing more is sent, what is in flight is waited for. */
static void on_signal(int signal)
{
	(void)signal;
	is_told_to_end = 1;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void open_source(struct source *source)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = source };
	int family = options.server.sin6_family;
	int size = SOCKET_BUFFER_BYTES;

	if (source->fd > 0)
		close(source->fd);
	source->fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (source->fd < 0)
		die("socket");
	if (setsockopt(source->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
		setsockopt(source->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (connect(source->fd, (struct sockaddr *)&options.server,
		    family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(options.server)) != 0)
		die("connect");
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, source->fd, &event) != 0)
		die("epoll_ctl");
	source->used = 0;
	source->next_id = (uint16_t)random();
}

static unsigned second_of(uint64_t time_ns)
{
	uint64_t second = (time_ns - started_ns) / 1000000000u;

	return second < SECONDS_MAX ? (unsigned)second : SECONDS_MAX - 1;
}

/* A source that may send now, or NULL: those at the end of their port's life wait for their replies. */
static struct source *choose_source(void)
{
	for (uint32_t tried = 0; tried < options.sockets; tried++) {
		struct source *source = &sources[next_source++ % options.sockets];

		if (options.queries_per_port == 0 || source->used < options.queries_per_port)
			return source;
		if (source->in_flight == 0) {
			open_source(source);
			return source;
		}
	}
	return NULL;
}

/* Sends up to `want` queries by one source; returns how many were attempted, 0 if no source is free. */
static unsigned send_batch(uint64_t want, uint64_t now)
{
	static uint8_t queries[BATCH][QUERY_BYTES_MAX];
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec parts[BATCH];
	struct source *source = choose_source();
	uint32_t room = options.queries_per_port == 0 ? BATCH : options.queries_per_port;
	unsigned count = 0;
	int sent;

	if (source == NULL)
		return 0;
	room -= options.queries_per_port == 0 ? 0 : source->used;
	while (count < BATCH && count < want && count < room) {
		uint16_t id = (uint16_t)(source->next_id + count);
		size_t length;

		if (source->slots[id % SLOTS].sent_ns != 0)
			break;
		length = names_query(&options.names, attempted + count, id, queries[count]);
		parts[count] = (struct iovec){ queries[count], length };
		messages[count].msg_hdr = (struct msghdr){ .msg_iov = &parts[count], .msg_iovlen = 1 };
		count++;
	}
	if (count == 0) {
		result.blocked++;
		return 0;
	}
	sent = sendmmsg(source->fd, messages, count, 0);
	if (sent <= 0) {
		/* The query is spent; ECONNREFUSED and the like report an earlier one. */
		result.send_failed++;
		attempted++;
		return 1;
	}
	for (int i = 0; i < sent; i++) {
		uint16_t id = source->next_id++;

		source->slots[id % SLOTS] =
			(struct slot){ now, (uint32_t)(attempted + (uint64_t)i), id };
		queue[queue_tail++ % queue_size] =
			(struct sent){ now, (uint32_t)(source - sources), id };
	}
	source->in_flight += (uint32_t)sent;
	source->used += (uint32_t)sent;
	in_flight += (uint64_t)sent;
	attempted += (uint64_t)sent;
	result.sent += (uint64_t)sent;
	result.second[second_of(now)].sent += (uint64_t)sent;
	return (unsigned)sent;
}

static void take_reply(struct source *source, const uint8_t *reply, size_t length, uint64_t now)
{
	uint16_t id = length < 12 ? 0 : (uint16_t)(reply[0] << 8 | reply[1]);
	struct slot *slot = &source->slots[id % SLOTS];
	uint64_t latency_us;
	unsigned second;

	if (length < 12 || (reply[2] & 0x80) == 0 || slot->sent_ns == 0 || slot->id != id) {
		result.late++;
		return;
	}
	latency_us = (now - slot->sent_ns) / 1000;
	struct record record = { .sent_ns = slot->sent_ns, .number = slot->number,
				 .latency_us = (uint32_t)latency_us,
				 .source = (uint16_t)(source - sources) };

	record_answer(epoll_fd, &record, reply, length, now);
	/* A chaos run is judged by when its queries were asked. */
	second = second_of(slot->sent_ns);
	slot->sent_ns = 0;
	source->in_flight--;
	in_flight--;
	result.answered++;
	result.rcodes[reply[3] & 15]++;
	histogram_add(&result.latency_us, latency_us);
	result.second[second].answered++;
	if (latency_us > result.second[second].max_us)
		result.second[second].max_us = latency_us;
}

static void receive(struct source *source)
{
	static uint8_t replies[BATCH][REPLY_BYTES_MAX];
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec parts[BATCH];
	uint64_t now;
	int count;

	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ replies[i], REPLY_BYTES_MAX };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
	}
	count = recvmmsg(source->fd, messages, BATCH, 0, NULL);
	if (count < 0 && errno != EAGAIN)
		result.receive_failed++;
	now = now_ns();
	for (int i = 0; i < count; i++)
		take_reply(source, replies[i], messages[i].msg_len, now);
}

static void expire(uint64_t now)
{
	while (queue_head < queue_tail) {
		struct sent *sent = &queue[queue_head % queue_size];
		struct source *source = &sources[sent->source];
		struct slot *slot = &source->slots[sent->id % SLOTS];
		bool is_open = slot->id == sent->id && slot->sent_ns == sent->sent_ns;

		if (is_open && now - sent->sent_ns < options.timeout_ns)
			return;
		if (is_open) {
			record_lost(sent->sent_ns, slot->number, (uint16_t)sent->source);
			slot->sent_ns = 0;
			source->in_flight--;
			in_flight--;
			result.lost++;
		}
		queue_head++;
	}
}

static bool is_over(uint64_t now)
{
	return is_told_to_end || now - started_ns >= options.duration_ns;
}

/* Sends what is due; returns the nanoseconds until more is. */
static uint64_t send_due(uint64_t now)
{
	uint64_t left = is_over(now) ? 0 : options.count - attempted;
	uint64_t due;

	if (options.rate > 0) {
		uint64_t all = (uint64_t)((double)(now - started_ns) * (double)options.rate / 1e9) + 1;

		due = all > attempted ? all - attempted : 0;
	} else {
		due = options.window > in_flight ? options.window - in_flight : 0;
	}
	due = due < left ? due : left;
	while (due > 0) {
		/* The whole queue is in flight: wait for replies or timeouts. */
		uint64_t room = queue_size - (queue_tail - queue_head);
		unsigned count = room == 0 ? 0 : send_batch(due < room ? due : room, now);

		if (count == 0)
			return 1000000;
		if (options.rate > 0) {
			uint64_t planned = (attempted - count) * 1000000u / options.rate;
			uint64_t actual = (now - started_ns) / 1000;

			histogram_add(&result.lateness_us, actual > planned ? actual - planned : 0);
		}
		due -= count;
	}
	if (options.rate == 0 || left == 0)
		return 10000000;
	uint64_t next_ns = started_ns + (uint64_t)((double)attempted * 1e9 / (double)options.rate);

	now = now_ns();
	return next_ns > now ? next_ns - now : 0;
}

static void run(void)
{
	struct epoll_event events[BATCH];

	started_ns = now_ns();
	for (;;) {
		uint64_t now = now_ns();
		uint64_t wait_ns;
		struct timespec timeout;
		int count;

		expire(now);
		if (!attempts_pending(now) && in_flight == 0 &&
		    (attempted >= options.count || is_over(now)))
			return;
		wait_ns = send_due(now);
		if (wait_ns > 10000000)
			wait_ns = 10000000;
		timeout = (struct timespec){ 0, (long)wait_ns };
		count = epoll_pwait2(epoll_fd, events, BATCH, &timeout, NULL);
		for (int i = 0; i < count; i++) {
			if (is_attempt(events[i].data.ptr))
				attempt_ready(events[i].data.ptr, now_ns());
			else
				receive(events[i].data.ptr);
		}
	}
}

static void print_result(uint64_t elapsed_ns)
{
	const struct histogram *latency = &result.latency_us;
	double seconds = (double)elapsed_ns / 1e9;
	unsigned last = second_of(started_ns + elapsed_ns);

	printf("{\"sent\":%lu,\"answered\":%lu,\"lost\":%lu,\"late\":%lu,\"sendFailed\":%lu,"
	       "\"receiveFailed\":%lu,\"blocked\":%lu,\"elapsedS\":%.3f,\"qps\":%.1f,",
	       result.sent, result.answered, result.lost, result.late, result.send_failed,
	       result.receive_failed, result.blocked, seconds, (double)result.answered / seconds);
	printf("\"p50Us\":%lu,\"p90Us\":%lu,\"p99Us\":%lu,\"p999Us\":%lu,\"maxUs\":%lu,",
	       histogram_at(latency, 0.5), histogram_at(latency, 0.9), histogram_at(latency, 0.99),
	       histogram_at(latency, 0.999), latency->max);
	printf("\"sendLateP99Us\":%lu,\"rcodes\":{", histogram_at(&result.lateness_us, 0.99));
	for (int i = 0, shown = 0; i < RCODES; i++)
		if (result.rcodes[i] != 0)
			printf("%s\"%d\":%lu", shown++ > 0 ? "," : "", i, result.rcodes[i]);
	printf("},\"seconds\":[");
	for (unsigned i = 0; i <= last; i++)
		printf("%s{\"sent\":%lu,\"answered\":%lu,\"maxUs\":%lu}", i > 0 ? "," : "",
		       result.second[i].sent, result.second[i].answered, result.second[i].max_us);
	printf("]}\n");
}

int main(int argc, char **argv)
{
	if (!load_options_read(argc, argv)) {
		fprintf(stderr, "load: --server ADDRESS, --rate or --window, --seconds or --count, "
				"--names or --name-format\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, on_signal);
	srandom((unsigned)now_ns());
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	queue_size = (uint64_t)options.sockets * SLOTS;
	queue = calloc(queue_size, sizeof(*queue));
	if (epoll_fd < 0 || queue == NULL || !records_open())
		die("start");
	for (uint32_t i = 0; i < options.sockets; i++) {
		sources[i].slots = calloc(SLOTS, sizeof(*sources[i].slots));
		if (sources[i].slots == NULL)
			die("memory");
		open_source(&sources[i]);
	}
	run();
	if (!records_close())
		die("records");
	print_result(now_ns() - started_ns);
	return 0;
}
