/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Outcome of each query, one record of 32 bytes a query (load.h), for an oracle that knows what
 * should have. With --connect-port some answers are also used, as a pod would: a TCP connection to the
 * address, at once. It counts as failed when the first SYN did not get through: the kernel sends
 * the second one after a second.
 */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ATTEMPTS_MAX = 1024, CONNECT_TIMEOUT_NS = 900000000, TYPE_A = 1, HEADER_BYTES = 12 };

struct attempt {
	int fd; /* 0: free */
	uint64_t started_ns;
	struct record record;
};

static FILE *file;
static struct attempt attempts[ATTEMPTS_MAX];
static unsigned open_attempts;
static uint32_t answers_seen;

bool records_open(void)
{
	if (options.record_path == NULL)
		return true;
	file = fopen(options.record_path, "we");
	return file != NULL && setvbuf(file, NULL, _IOFBF, 1 << 20) == 0;
}

bool records_close(void)
{
	return file == NULL || fclose(file) == 0;
}

static void write_record(const struct record *record)
{
	if (fwrite(record, sizeof(*record), 1, file) != 1) {
		perror("load: record");
		exit(1);
	}
}

void record_lost(uint64_t sent_ns, uint32_t number, uint16_t source)
{
	struct record record = { .sent_ns = sent_ns, .number = number, .latency_us = UINT32_MAX,
				 .rcode = UINT8_MAX, .source = source };

	if (file != NULL)
		write_record(&record);
}

/* Behind a name, or behind the pointer that ends it. */
static size_t skip_name(const uint8_t *reply, size_t length, size_t at)
{
	while (at < length && reply[at] != 0 && reply[at] < 0xc0)
		at += (size_t)reply[at] + 1;
	return at + (at < length && reply[at] >= 0xc0 ? 2 : 1);
}

/* The address of the first record, an A without an alias before it; 0 if there is none. */
static uint32_t first_address(const uint8_t *reply, size_t length)
{
	size_t at = skip_name(reply, length, skip_name(reply, length, HEADER_BYTES) + 4);
	uint32_t address;

	if (at + 14 > length || reply[at] != 0 || reply[at + 1] != TYPE_A || reply[at + 9] != 4)
		return 0;
	memcpy(&address, reply + at + 10, sizeof(address));
	return address;
}

static void start_connecting(int epoll_fd, const struct record *record, uint64_t now)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(options.connect_port),
				  .sin_addr.s_addr = record->address };
	struct attempt *attempt = attempts;
	struct epoll_event event = { .events = EPOLLOUT };

	while (attempt < attempts + ATTEMPTS_MAX && attempt->fd != 0)
		attempt++;
	if (attempt == attempts + ATTEMPTS_MAX) {
		write_record(record); /* not tried */
		return;
	}
	*attempt = (struct attempt){ .started_ns = now, .record = *record };
	attempt->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	event.data.ptr = attempt;
	if (attempt->fd < 0 ||
	    (connect(attempt->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS) ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, attempt->fd, &event) != 0) {
		perror("load: connect");
		exit(1);
	}
	open_attempts++;
}

static void end_attempt(struct attempt *attempt, uint32_t connect_us, uint8_t retransmits)
{
	struct linger reset = { .l_onoff = 1 };

	setsockopt(attempt->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(attempt->fd);
	attempt->fd = 0;
	attempt->record.connect_us = connect_us;
	attempt->record.retransmits = retransmits;
	write_record(&attempt->record);
	open_attempts--;
}

void record_answer(int epoll_fd, struct record *record, const uint8_t *reply, size_t length,
		   uint64_t now)
{
	if (file == NULL)
		return;
	record->rcode = reply[3] & 15;
	record->answers = reply[7];
	record->address = record->answers == 0 ? 0 : first_address(reply, length);
	if (options.connect_port != 0 && record->address != 0 &&
	    answers_seen++ % options.connect_every == 0)
		start_connecting(epoll_fd, record, now);
	else
		write_record(record);
}

bool is_attempt(const void *pointer)
{
	return (const struct attempt *)pointer >= attempts &&
	       (const struct attempt *)pointer < attempts + ATTEMPTS_MAX;
}

void attempt_ready(void *pointer, uint64_t now)
{
	struct attempt *attempt = pointer;
	struct tcp_info info = { 0 };
	socklen_t size = sizeof(info);
	int error = 0;
	socklen_t error_size = sizeof(error);

	if (attempt->fd == 0)
		return;
	getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
	getsockopt(attempt->fd, IPPROTO_TCP, TCP_INFO, &info, &size);
	end_attempt(attempt, error != 0 ? UINT32_MAX : (uint32_t)((now - attempt->started_ns) / 1000) + 1,
		    (uint8_t)info.tcpi_total_retrans);
}

/* Gives up what takes too long; true while connections are still being opened. */
bool attempts_pending(uint64_t now)
{
	for (struct attempt *attempt = attempts; open_attempts > 0 && attempt < attempts + ATTEMPTS_MAX;
	     attempt++)
		if (attempt->fd != 0 && now - attempt->started_ns >= CONNECT_TIMEOUT_NS)
			end_attempt(attempt, UINT32_MAX, 0);
	return open_attempts > 0;
}
