/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Many datagrams or frames at a rate; replies are not read. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { BLAST_TICK_NS = 1000000, BLAST_BURST_MAX = 4096, BLAST_FIELDS_MAX = 4 };

struct blast {
	struct watch watch; /* a timer */
	int socket;
	struct address peer;
	uint8_t *bytes;
	size_t length;
	long counter_at; /* offset of a 32-bit counter in the payload, big endian, or -1 */
	size_t field_at[BLAST_FIELDS_MAX]; /* offsets of 16-bit fields that are random in each */
	size_t fields;
	uint64_t random; /* state, never 0 */
	uint64_t count, rate, sent, failed, started_ns;
	int last_error;
};

static void on_close(struct watch *watch)
{
	struct blast *blast = (struct blast *)watch;

	if (blast->socket >= 0)
		close(blast->socket);
	free(blast->bytes);
}

/* xorshift64: what a forger who knows nothing would put there, and the same in each run. */
static void fill_fields(struct blast *blast)
{
	for (size_t i = 0; i < blast->fields; i++) {
		uint16_t value;

		blast->random ^= blast->random << 13;
		blast->random ^= blast->random >> 7;
		blast->random ^= blast->random << 17;
		value = (uint16_t)(blast->random >> 32);
		memcpy(blast->bytes + blast->field_at[i], &value, sizeof(value));
	}
}

static void send_one(struct blast *blast)
{
	uint32_t number = htonl((uint32_t)(blast->sent + blast->failed));

	if (blast->counter_at >= 0)
		memcpy(blast->bytes + blast->counter_at, &number, sizeof(number));
	fill_fields(blast);
	if (sendto(blast->socket, blast->bytes, blast->length, 0,
		   (struct sockaddr *)&blast->peer.storage, blast->peer.length) >= 0) {
		blast->sent++;
		return;
	}
	/* ECONNREFUSED and the like report an earlier datagram; each call is one datagram all the same. */
	blast->failed++;
	blast->last_error = errno;
}

static void on_ready(struct watch *watch, uint32_t events)
{
	struct blast *blast = (struct blast *)watch;
	uint64_t ticks;
	uint64_t due;

	(void)events;
	if (read(watch->fd, &ticks, sizeof(ticks)) < 0)
		return;
	due = (now_ns() - blast->started_ns) / 1000 * blast->rate / 1000000;
	if (blast->rate == 0 || due > blast->count)
		due = blast->count;
	for (int i = 0; i < BLAST_BURST_MAX && blast->sent + blast->failed < due; i++)
		send_one(blast);
	if (blast->sent + blast->failed < blast->count)
		return;
	answer_ok(watch->id);
	answer_field("sent=%llu failed=%llu error=%s elapsedUs=%llu",
		     (unsigned long long)blast->sent, (unsigned long long)blast->failed,
		     blast->last_error == 0 ? "none" : strerrorname_np(blast->last_error),
		     (unsigned long long)((now_ns() - blast->started_ns) / 1000));
	answer_end();
	watch_close(watch);
}

static int open_target(const struct request *request, struct address *peer)
{
	int buffer = 4 << 20;
	int fd;

	if (arg_text(request, "interface", NULL) != NULL) {
		errno = ENODEV;
		return packet_address(request, peer) ? dup(packet_socket()) : -1;
	}
	if (!arg_address(request, "to", "port", peer)) {
		errno = EINVAL;
		return -1;
	}
	fd = socket_open(request, peer->storage.ss_family, SOCK_DGRAM, 0);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
	return fd;
}

/* "OFFSET,OFFSET": false when one is no offset, does not fit, or they are too many. */
static bool parse_fields(const char *text, size_t length, struct blast *blast)
{
	while (*text != '\0') {
		char *end;
		unsigned long at = strtoul(text, &end, 10);

		if (end == text || length < 2 || at > length - 2 || blast->fields == BLAST_FIELDS_MAX)
			return false;
		blast->field_at[blast->fields++] = at;
		text = *end == ',' ? end + 1 : end;
	}
	return true;
}

/* blast (to= port= | interface=) data= counterAt= randomAt= seed= count= rate= : rate 0 is as fast as possible */
void op_blast(const struct request *request)
{
	struct itimerspec tick = { .it_interval.tv_nsec = BLAST_TICK_NS,
				   .it_value.tv_nsec = BLAST_TICK_NS };
	struct address peer;
	size_t length = 0;
	uint8_t *bytes = arg_bytes(request, "data", &length);
	long counter_at = arg_number(request, "counterAt", -1);
	struct blast *blast;
	int fd, timer;

	/* Without a counter, data of any length will do. */
	if (bytes == NULL || (counter_at >= 0 && counter_at > (long)length - 4)) {
		answer_error(request->id, EINVAL, bytes == NULL ? "data" : "no room for the counter");
		free(bytes);
		return;
	}
	fd = open_target(request, &peer);
	timer = fd < 0 ? -1 : timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	blast = timer < 0 ? NULL : watch_new(sizeof(*blast), timer, request->id, EPOLLIN);
	if (blast == NULL) {
		answer_error(request->id, errno, fd < 0 ? "destination" : "timer");
		if (fd >= 0)
			close(fd);
		free(bytes);
		return;
	}
	blast->watch.on_ready = on_ready;
	blast->watch.on_close = on_close;
	blast->socket = fd;
	blast->peer = peer;
	blast->bytes = bytes;
	blast->length = length;
	blast->counter_at = counter_at;
	blast->count = (uint64_t)arg_number(request, "count", 1);
	blast->rate = (uint64_t)arg_number(request, "rate", 0);
	blast->random = (uint64_t)arg_number(request, "seed", 1);
	if (blast->random == 0 || !parse_fields(arg_text(request, "randomAt", ""), length, blast)) {
		answer_error(request->id, EINVAL, "seed or randomAt");
		watch_close(&blast->watch);
		return;
	}
	blast->started_ns = now_ns();
	timerfd_settime(timer, 0, &tick, NULL);
}
