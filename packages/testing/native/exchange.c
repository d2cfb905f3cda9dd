/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* One datagram out, the wanted number of replies in: UDP and ICMP echo. */
#include "probe.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { REPLIES_MAX = 16 };

struct reply {
	uint8_t *bytes;
	size_t length;
	struct sockaddr_storage peer;
	uint64_t after_ns;
};

struct exchange {
	struct watch watch;
	uint64_t sent_ns;
	size_t want, count;
	struct reply reply[REPLIES_MAX];
};

static void on_close(struct watch *watch)
{
	struct exchange *exchange = (struct exchange *)watch;

	for (size_t i = 0; i < exchange->count; i++)
		free(exchange->reply[i].bytes);
}

static void finish(struct exchange *exchange)
{
	struct address local = address_local(exchange->watch.fd);

	answer_ok(exchange->watch.id);
	answer_address("local", &local.storage);
	for (size_t i = 0; i < exchange->count; i++) {
		const struct reply *reply = &exchange->reply[i];

		answer_address("from", &reply->peer);
		answer_field("afterUs=%llu", (unsigned long long)(reply->after_ns / 1000));
		answer_hex("data", reply->bytes, reply->length);
	}
	answer_end();
	watch_close(&exchange->watch);
}

static void on_deadline(struct watch *watch)
{
	struct exchange *exchange = (struct exchange *)watch;

	if (exchange->count > 0) {
		finish(exchange);
		return;
	}
	answer_error(watch->id, ETIMEDOUT, "no reply");
	watch_close(watch);
}

/* The kernel queues ICMP errors, and then fails the next receive once: that one call reports it. */
static void on_ready(struct watch *watch, uint32_t events)
{
	struct exchange *exchange = (struct exchange *)watch;
	uint8_t bytes[PROBE_DATAGRAM_BYTES_MAX];

	(void)events;
	while (exchange->count < exchange->want) {
		struct reply *reply = &exchange->reply[exchange->count];
		socklen_t peer_length = sizeof(reply->peer);
		ssize_t length = recvfrom(watch->fd, bytes, sizeof(bytes), 0,
					  (struct sockaddr *)&reply->peer, &peer_length);

		if (length < 0 && errno == EAGAIN)
			return;
		if (length < 0) {
			answer_error(watch->id, errno, "receive");
			watch_close(watch);
			return;
		}
		reply->bytes = malloc((size_t)length + 1);
		if (reply->bytes == NULL)
			return;
		memcpy(reply->bytes, bytes, (size_t)length);
		reply->length = (size_t)length;
		reply->after_ns = now_ns() - exchange->sent_ns;
		exchange->count++;
	}
	finish(exchange);
}

static void start(const struct request *request, int fd, const struct address *peer,
		  const uint8_t *bytes, size_t length)
{
	size_t want = (size_t)arg_number(request, "want", 1);
	int family = peer->storage.ss_family;
	struct exchange *exchange;
	int on = 1;

	/* Unconnected, so that a reply from a wrong address is seen; errors are asked for instead. */
	setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
		   family == AF_INET ? IP_RECVERR : IPV6_RECVERR, &on, sizeof(on));
	exchange = watch_new(sizeof(*exchange), fd, request->id, EPOLLIN);
	if (exchange == NULL) {
		answer_error(request->id, errno, "watch");
		return;
	}
	exchange->watch.on_ready = on_ready;
	exchange->watch.on_deadline = on_deadline;
	exchange->watch.on_close = on_close;
	exchange->watch.deadline_ns = arg_deadline(request, 2000);
	exchange->want = want < REPLIES_MAX ? want : REPLIES_MAX;
	exchange->sent_ns = now_ns();
	if (sendto(fd, bytes, length, 0, (const struct sockaddr *)&peer->storage, peer->length) < 0) {
		answer_error(request->id, errno, "send");
		watch_close(&exchange->watch);
	} else if (exchange->want == 0) {
		finish(exchange);
	}
}

static void open_and_start(const struct request *request, int protocol4, int protocol6,
			   const uint8_t *bytes, size_t length)
{
	struct address peer;
	int fd;

	if (!arg_address(request, "to", "port", &peer)) {
		answer_error(request->id, EINVAL, "no destination");
		return;
	}
	fd = socket_open(request, peer.storage.ss_family, SOCK_DGRAM,
			 peer.storage.ss_family == AF_INET ? protocol4 : protocol6);
	if (fd < 0)
		answer_error(request->id, errno, "socket");
	else
		start(request, fd, &peer, bytes, length);
}

/* udp to= port= data= want= timeout= */
void op_udp(const struct request *request)
{
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);

	if (bytes == NULL)
		answer_error(request->id, EINVAL, "data is not hex");
	else
		open_and_start(request, 0, 0, bytes, length);
	free(bytes);
}

/* ping to= data= : an echo request through the kernel's ping socket */
void op_ping(const struct request *request)
{
	bool is_v6 = strchr(arg_text(request, "to", ""), ':') != NULL;
	uint8_t echo[8 + 1024] = { is_v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO };
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);

	if (bytes == NULL || length > sizeof(echo) - 8) {
		answer_error(request->id, EINVAL, "data is not hex, or too long");
	} else {
		memcpy(echo + 8, bytes, length);
		open_and_start(request, IPPROTO_ICMP, IPPROTO_ICMPV6, echo, 8 + length);
	}
	free(bytes);
}
