/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Sightings: which of many numbered packets came to an interface, or through netfilter to the host itself.
 * A number is the four octets behind a pattern, in network order. What leaves by the interface does not count.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { SIGHTINGS_MAX = 8192, SIGHTING_BYTES_MAX = 9216, SIGHTINGS_BURST = 1024 };

struct sightings {
	struct watch watch;
	uint8_t *pattern;
	size_t pattern_length;
	size_t count;
	uint64_t lost; /* no room to remember them; what the socket lost is in its own statistics */
	uint8_t numbers[SIGHTINGS_MAX][4];
};

static void on_close(struct watch *watch)
{
	free(((struct sightings *)watch)->pattern);
}

static void note(struct sightings *sightings, const uint8_t *bytes, size_t length)
{
	const uint8_t *at = memmem(bytes, length, sightings->pattern, sightings->pattern_length);

	if (at == NULL || (size_t)(bytes + length - at) < sightings->pattern_length + 4)
		return;
	if (sightings->count == SIGHTINGS_MAX) {
		sightings->lost++;
		return;
	}
	memcpy(sightings->numbers[sightings->count++], at + sightings->pattern_length, 4);
}

static void on_ready(struct watch *watch, uint32_t events)
{
	uint8_t bytes[SIGHTING_BYTES_MAX];

	(void)events;
	for (int i = 0; i < SIGHTINGS_BURST; i++) {
		struct sockaddr_storage from = { 0 };
		socklen_t size = sizeof(from);
		ssize_t length = recvfrom(watch->fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &size);

		if (length < 0)
			break;
		if (from.ss_family == AF_PACKET &&
		    ((struct sockaddr_ll *)&from)->sll_pkttype == PACKET_OUTGOING)
			continue;
		note((struct sightings *)watch, bytes, (size_t)length);
	}
}

/* With `family` (4, 6) and `protocol`: what the host itself receives, after netfilter. */
static int open_socket(const struct request *request)
{
	struct sockaddr_ll link = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	long family = arg_number(request, "family", 0);
	int flags = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
	int fd;

	if (family != 0)
		return socket(family == 4 ? AF_INET : AF_INET6, flags, (int)arg_number(request, "protocol", 0));
	link.sll_ifindex = (int)if_nametoindex(arg_text(request, "interface", "eth0"));
	fd = socket(AF_PACKET, flags, 0);
	if (fd >= 0 && (link.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&link, sizeof(link)) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* sight interface= | family= protocol=, data= : from now on remembers the numbers of what comes */
void op_sight(const struct request *request)
{
	int buffer = 4 << 20;
	size_t pattern_length = 0;
	uint8_t *pattern = arg_bytes(request, "data", &pattern_length);
	int fd = pattern == NULL ? -1 : open_socket(request);
	struct sightings *sightings;

	if (fd < 0) {
		answer_error(request->id, pattern == NULL ? EINVAL : errno, "sight");
		free(pattern);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	sightings = watch_new(sizeof(*sightings), fd, request->id, EPOLLIN);
	if (sightings == NULL) {
		answer_error(request->id, errno, "watch");
		free(pattern);
		return;
	}
	sightings->watch.on_ready = on_ready;
	sightings->watch.on_close = on_close;
	sightings->watch.is_handle = true;
	sightings->pattern = pattern;
	sightings->pattern_length = pattern_length;
	answer_ok(request->id);
	answer_end();
}

/* sighted handle= : the numbers since the last time */
void op_sighted(const struct request *request)
{
	struct sightings *sightings =
		(struct sightings *)watch_find((uint32_t)arg_number(request, "handle", 0), on_ready);
	struct tpacket_stats stats = { 0 };
	socklen_t length = sizeof(stats);

	if (sightings == NULL) {
		answer_error(request->id, ENOENT, "sightings");
		return;
	}
	on_ready(&sightings->watch, EPOLLIN);
	getsockopt(sightings->watch.fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length);
	answer_ok(request->id);
	answer_field("lost=%llu", (unsigned long long)(sightings->lost + stats.tp_drops));
	answer_hex("numbers", &sightings->numbers[0][0], sightings->count * 4);
	answer_end();
	sightings->count = 0;
	sightings->lost = 0;
}
