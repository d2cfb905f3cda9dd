/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * tx records -> sendmmsg(2), one call for each run of records of the same socket.
 *
 *   records   | h1 h1 h1 | h2 | h1 h1 |      runs keep the order that JavaScript gave
 *   calls     |    1     |  1 |   1   |
 *
 * Nothing is queued here: what the kernel does not take now is dropped, counted, and reported in the
 * record's result. DNS clients repeat; a queue would only deliver late.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <string.h>

void ds_sender_init(struct ds_sender *sender)
{
	for (size_t i = 0; i < DS_SEND_BATCH; i++) {
		struct msghdr base = {.msg_iov = &sender->iov[i], .msg_iovlen = 1};

		sender->connected[i].msg_hdr = base;
		base.msg_name = &sender->name[i];
		base.msg_namelen = sizeof(struct sockaddr_in);
		base.msg_control = &sender->control4[i];
		sender->v4[i].msg_hdr = base;
		base.msg_namelen = sizeof(struct sockaddr_in6);
		base.msg_control = &sender->control6[i];
		sender->v6[i].msg_hdr = base;
		sender->control4[i].header = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo)),
			.cmsg_level = SOL_IP,
			.cmsg_type = IP_PKTINFO,
		};
		sender->control6[i].header = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(struct in6_pktinfo)),
			.cmsg_level = SOL_IPV6,
			.cmsg_type = IPV6_PKTINFO,
		};
	}
}

static int fill_v4(struct ds_sender *sender, size_t at, const struct ds_tx_record *record)
{
	struct msghdr *header = &sender->v4[at].msg_hdr;
	bool has_source = !ds_is_unspecified(record->source);

	if (!ds_is_v4(record->destination) || (has_source && !ds_is_v4(record->source)))
		return EAFNOSUPPORT;
	sender->name[at].v4.sin_family = AF_INET;
	sender->name[at].v4.sin_port = htons((uint16_t)record->port);
	memcpy(&sender->name[at].v4.sin_addr, record->destination + 12, 4);
	header->msg_controllen = 0;
	if (has_source || record->ifindex != 0) {
		struct in_pktinfo *info = &sender->control4[at].info;

		memcpy(&info->ipi_spec_dst, record->source + 12, 4);
		info->ipi_ifindex = (int)record->ifindex;
		header->msg_controllen = sizeof sender->control4[at];
	}
	return 0;
}

static int fill_v6(struct ds_sender *sender, size_t at, const struct ds_tx_record *record)
{
	struct msghdr *header = &sender->v6[at].msg_hdr;
	bool has_source = !ds_is_unspecified(record->source);

	if (ds_is_v4(record->destination) || (has_source && ds_is_v4(record->source)))
		return EAFNOSUPPORT;
	sender->name[at].v6.sin6_family = AF_INET6;
	sender->name[at].v6.sin6_port = htons((uint16_t)record->port);
	sender->name[at].v6.sin6_flowinfo = 0;
	memcpy(&sender->name[at].v6.sin6_addr, record->destination, 16);
	sender->name[at].v6.sin6_scope_id = record->ifindex;
	header->msg_controllen = 0;
	if (has_source || record->ifindex != 0) {
		struct in6_pktinfo *info = &sender->control6[at].info;

		if (has_source)
			memcpy(&info->ipi6_addr, record->source, 16);
		else
			memset(&info->ipi6_addr, 0, 16);
		info->ipi6_ifindex = record->ifindex;
		header->msg_controllen = sizeof sender->control6[at];
	}
	return 0;
}

/* 0 if message `at` of the run is ready, else the errno that rejects the record. */
static int fill(struct ds_loop *loop, const struct ds_socket *socket, size_t at, uint32_t index)
{
	struct ds_sender *sender = &loop->sender;
	struct ds_tx_record record;

	/* One copy: what is checked is what is used, although other processes write this memory. */
	memcpy(&record, &loop->tx[index], sizeof record);
	__asm__ volatile("" : : "r"(&record) : "memory");
	if ((uint64_t)record.offset + record.length > loop->payload_length)
		return EFAULT;
	sender->iov[at].iov_base = loop->payload + record.offset;
	sender->iov[at].iov_len = record.length;
	sender->record[at] = index;
	if (socket->connected)
		return 0;
	if (record.port == 0 || record.port > UINT16_MAX || record.ifindex > INT32_MAX)
		return EINVAL;
	return socket->family == AF_INET ? fill_v4(sender, at, &record)
					 : fill_v6(sender, at, &record);
}

/* An asynchronous (ICMP) error surfaced in a send; it is reported after the sends. */
static void note_error(struct ds_loop *loop, struct ds_socket *socket, int error)
{
	loop->counters.socketErrors++;
	socket->error = error;
	if (!socket->errored) {
		socket->errored = true;
		socket->next_errored = loop->errored;
		loop->errored = socket;
	}
}

static void drop(struct ds_loop *loop, const struct ds_sender *sender, size_t from, size_t to,
		 int error)
{
	for (size_t i = from; i < to; i++)
		loop->tx[sender->record[i]].result = (uint32_t)error;
	if (error == EAGAIN)
		loop->counters.sendDropped += to - from;
	else
		loop->counters.sendFailed += to - from;
}

/*
 * A failed message is tried once more: on a connected socket the first failure may be the ICMP
 * error of an older datagram. A second failure is its own; the rest of the run goes on, except
 * when the socket is full, which the rest would meet too.
 */
static uint32_t send_run(struct ds_loop *loop, struct ds_socket *socket, size_t count)
{
	struct ds_sender *sender = &loop->sender;
	struct mmsghdr *messages = socket->connected           ? sender->connected
				   : socket->family == AF_INET ? sender->v4
							       : sender->v6;
	uint32_t sent = 0;
	int first_error = 0;

	for (size_t i = 0; i < count;) {
		int taken = sendmmsg(socket->fd, messages + i, (unsigned int)(count - i),
				     MSG_DONTWAIT | MSG_NOSIGNAL);

		loop->counters.sendCalls++;
		if (taken > 0) {
			if (first_error != 0 && first_error != EAGAIN && socket->connected)
				note_error(loop, socket, first_error);
			for (int k = 0; k < taken; k++)
				loop->tx[sender->record[i + (size_t)k]].result = 0;
			first_error = 0;
			i += (size_t)taken;
			sent += (uint32_t)taken;
			continue;
		}
		int error = taken == 0 ? EIO : errno;
		if (error == EINTR)
			continue;
		if (first_error == 0) {
			first_error = error;
			continue;
		}
		size_t to = error == EAGAIN ? count : i + 1;
		drop(loop, sender, i, to, error);
		first_error = 0;
		i = to;
	}
	loop->counters.sent += sent;
	return sent;
}

/* Sends what header.tx_count announces and zeroes it; returns how many the kernel took. */
uint32_t ds_send_all(struct ds_loop *loop)
{
	uint32_t count = DS_READ_ONCE(loop->header->tx_count);
	struct ds_socket *socket = NULL;
	size_t filled = 0;
	uint32_t sent = 0;

	loop->header->tx_count = 0;
	if (count > loop->tx_capacity) {
		loop->counters.sendRejected += count - loop->tx_capacity;
		count = loop->tx_capacity;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t handle = DS_READ_ONCE(loop->tx[i].handle);

		if (socket == NULL || socket->handle != handle || filled == DS_SEND_BATCH) {
			if (filled > 0)
				sent += send_run(loop, socket, filled);
			filled = 0;
			socket = ds_loop_socket(loop, handle);
		}
		int error = socket == NULL ? EBADF : fill(loop, socket, filled, i);
		if (error == 0) {
			filled++;
			continue;
		}
		loop->tx[i].result = (uint32_t)error;
		loop->counters.sendRejected++;
	}
	if (filled > 0)
		sent += send_run(loop, socket, filled);
	return sent;
}
