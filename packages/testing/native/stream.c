/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Streams as a client: connect, send, read until enough has come, and, if asked, keep the connection for
 * later exchanges. UDP may be kept too, so that several datagrams share one 5-tuple.
 */
#include "probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { STREAM_BYTES_MAX = 1024 * 1024 };

enum stage { STAGE_CONNECTING, STAGE_SENDING, STAGE_READING, STAGE_IDLE };

struct stream {
	struct watch watch;
	uint32_t request_id; /* whom the running exchange answers; the watch's id names the stream */
	enum stage stage;
	bool is_kept, is_datagram, until_end, has_ended;
	size_t want;     /* bytes, or 0 */
	size_t messages; /* with a length prefix of two bytes (DNS, RFC 1035 4.2.2), or 0 */
	uint64_t started_ns, connected_ns;
	uint8_t *out;
	size_t out_length, out_sent;
	uint8_t *in;
	size_t in_length;
};

static void on_close(struct watch *watch)
{
	struct stream *stream = (struct stream *)watch;

	free(stream->out);
	free(stream->in);
}

static void fail(struct stream *stream, int error, const char *what)
{
	answer_error(stream->request_id, error, "%s after %zu bytes", what, stream->in_length);
	watch_close(&stream->watch);
}

static void on_cancel(struct watch *watch)
{
	struct stream *stream = (struct stream *)watch;

	if (stream->stage != STAGE_IDLE)
		answer_error(stream->request_id, ECANCELED, "the stream was closed");
}

static void on_deadline(struct watch *watch)
{
	static const char *const stages[] = { "connect", "send", "read", "idle" };
	struct stream *stream = (struct stream *)watch;

	fail(stream, ETIMEDOUT, stages[stream->stage]);
}

static uint32_t retransmits(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
	return info.tcpi_total_retrans;
}

static void finish(struct stream *stream)
{
	struct address local = address_local(stream->watch.fd);

	answer_ok(stream->request_id);
	answer_address("local", &local.storage);
	answer_field("connectUs=%llu",
		     (unsigned long long)((stream->connected_ns - stream->started_ns) / 1000));
	answer_field("totalUs=%llu", (unsigned long long)((now_ns() - stream->started_ns) / 1000));
	answer_field("retransmits=%u", stream->is_datagram ? 0 : retransmits(stream->watch.fd));
	answer_field("ended=%d", stream->has_ended);
	answer_hex("data", stream->in, stream->in_length);
	answer_end();
	if (stream->is_kept && !stream->has_ended) {
		stream->stage = STAGE_IDLE;
		stream->watch.deadline_ns = 0;
		/* Silent until the next exchange; what comes meanwhile waits in the socket. */
		watch_events(&stream->watch, 0);
	} else {
		watch_close(&stream->watch);
	}
}

static bool is_complete(const struct stream *stream)
{
	size_t at = 0;

	if (stream->until_end)
		return false;
	for (size_t i = 0; i < stream->messages; i++) {
		if (stream->in_length < at + 2)
			return false;
		at += 2 + ((size_t)stream->in[at] << 8 | stream->in[at + 1]);
	}
	return stream->in_length >= at && stream->in_length >= stream->want;
}

static void read_more(struct stream *stream)
{
	while (!is_complete(stream)) {
		size_t room = STREAM_BYTES_MAX - stream->in_length;
		ssize_t length;

		if (room == 0) {
			fail(stream, EMSGSIZE, "read");
			return;
		}
		length = recv(stream->watch.fd, stream->in + stream->in_length, room, 0);
		if (length < 0 && errno == EAGAIN)
			return;
		if (length < 0) {
			fail(stream, errno, "read");
			return;
		}
		if (length == 0 && !stream->is_datagram) {
			stream->has_ended = true;
			break;
		}
		stream->in_length += (size_t)length;
	}
	if (stream->has_ended && !stream->until_end)
		fail(stream, EPIPE, "peer closed");
	else
		finish(stream);
}

static void send_more(struct stream *stream)
{
	while (stream->out_sent < stream->out_length) {
		ssize_t length = send(stream->watch.fd, stream->out + stream->out_sent,
				      stream->out_length - stream->out_sent, MSG_NOSIGNAL);

		if (length < 0 && errno == EAGAIN) {
			watch_events(&stream->watch, EPOLLOUT);
			return;
		}
		if (length < 0) {
			fail(stream, errno, "send");
			return;
		}
		stream->out_sent += (size_t)length;
	}
	stream->stage = STAGE_READING;
	watch_events(&stream->watch, EPOLLIN);
	read_more(stream);
}

static void on_ready(struct watch *watch, uint32_t events)
{
	struct stream *stream = (struct stream *)watch;
	int error = 0;
	socklen_t length = sizeof(error);

	switch (stream->stage) {
	case STAGE_CONNECTING:
		getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &length);
		if (error != 0) {
			fail(stream, error, "connect");
			return;
		}
		stream->connected_ns = now_ns();
		stream->stage = STAGE_SENDING;
		send_more(stream);
		return;
	case STAGE_SENDING:
		send_more(stream);
		return;
	case STAGE_READING:
		read_more(stream);
		return;
	case STAGE_IDLE:
		/* Reset or hung up: the descriptor would report it again and again. */
		if ((events & (EPOLLHUP | EPOLLERR)) != 0)
			watch_close(watch);
		return;
	}
}

static bool set_exchange(const struct request *request, struct stream *stream)
{
	free(stream->out);
	stream->out = arg_bytes(request, "data", &stream->out_length);
	if (stream->out == NULL)
		return false;
	stream->request_id = request->id;
	stream->out_sent = 0;
	stream->in_length = 0;
	stream->want = (size_t)arg_number(request, "want", 0);
	stream->messages = (size_t)arg_number(request, "messages", 0);
	stream->until_end = arg_number(request, "untilEnd", 0) != 0;
	stream->watch.deadline_ns = arg_deadline(request, 2000);
	return true;
}

/* tcp to= port= data= want= messages= untilEnd= keep= datagram= timeout= */
void op_tcp(const struct request *request)
{
	bool is_datagram = arg_number(request, "datagram", 0) != 0;
	struct stream *stream;
	struct address peer;
	int fd, on = 1;

	if (!arg_address(request, "to", "port", &peer)) {
		answer_error(request->id, EINVAL, "no destination");
		return;
	}
	fd = socket_open(request, peer.storage.ss_family, is_datagram ? SOCK_DGRAM : SOCK_STREAM, 0);
	if (fd < 0) {
		answer_error(request->id, errno, "socket");
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	stream = watch_new(sizeof(*stream), fd, request->id, EPOLLOUT);
	if (stream == NULL) {
		answer_error(request->id, errno, "watch");
		return;
	}
	stream->watch.on_ready = on_ready;
	stream->watch.on_deadline = on_deadline;
	stream->watch.on_cancel = on_cancel;
	stream->watch.on_close = on_close;
	stream->request_id = request->id;
	stream->is_datagram = is_datagram;
	stream->is_kept = arg_number(request, "keep", 0) != 0;
	stream->watch.is_handle = stream->is_kept;
	stream->in = malloc(STREAM_BYTES_MAX);
	if (stream->in == NULL || !set_exchange(request, stream)) {
		fail(stream, EINVAL, "arguments");
		return;
	}
	stream->started_ns = now_ns();
	stream->connected_ns = stream->started_ns;
	if (socket_connect(fd, &peer) != 0)
		fail(stream, errno, "connect");
}

/* exchange handle= data= want= messages= timeout= : over a kept stream */
void op_exchange(const struct request *request)
{
	uint32_t handle = (uint32_t)arg_number(request, "handle", 0);
	struct stream *stream = (struct stream *)watch_find(handle, on_ready);

	if (stream == NULL) {
		answer_error(request->id, ENOTCONN, "no such stream");
		return;
	}
	if (stream->stage != STAGE_IDLE) {
		answer_error(request->id, EBUSY, "the stream is in an exchange");
		return;
	}
	if (!set_exchange(request, stream)) {
		answer_error(request->id, EINVAL, "arguments");
		return;
	}
	stream->started_ns = now_ns();
	stream->connected_ns = stream->started_ns;
	stream->stage = STAGE_SENDING;
	send_more(stream);
}
