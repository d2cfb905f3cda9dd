/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* recvmmsg(2) straight into the places that JavaScript chose, metadata into the rx records. */
#include "dns_sockets.h"

#include <errno.h>
#include <string.h>

#ifndef IP_ORIGDSTADDR
#define IP_ORIGDSTADDR 20
#endif
#ifndef IPV6_ORIGDSTADDR
#define IPV6_ORIGDSTADDR 74
#endif

/* Headers point at their parts once; later only what the kernel changed is set back. */
void ds_receiver_init(struct ds_receiver *receiver)
{
	for (size_t i = 0; i < DS_SLOTS_MAX; i++) {
		receiver->connected[i].msg_hdr = (struct msghdr){
			.msg_iov = &receiver->iov[i],
			.msg_iovlen = 1,
		};
		receiver->listener[i].msg_hdr = (struct msghdr){
			.msg_name = &receiver->name[i],
			.msg_namelen = sizeof receiver->name[i],
			.msg_iov = &receiver->iov[i],
			.msg_iovlen = 1,
			.msg_control = receiver->control[i],
			.msg_controllen = sizeof receiver->control[i],
		};
	}
}

/*
 * A record that leaves the buffer gets no memory: its datagram is received with length 0 and
 * flagged, because leaving it in the socket would wake the loop for ever.
 */
static void aim(struct ds_loop *loop)
{
	struct ds_receiver *receiver = &loop->receiver;

	for (uint32_t i = 0; i < loop->slots; i++) {
		uint32_t offset = DS_READ_ONCE(loop->rx[i].offset);
		uint32_t capacity = DS_READ_ONCE(loop->rx[i].capacity);
		bool fits = (uint64_t)offset + capacity <= loop->payload_length;

		receiver->rejected[i] = !fits;
		receiver->iov[i].iov_base = loop->payload + (fits ? offset : 0);
		receiver->iov[i].iov_len = fits ? capacity : 0;
	}
}

static void store_destination(struct ds_rx_record *record, const union ds_address *address)
{
	uint16_t port;

	ds_address_to_bytes(address, record->destination, &port);
	record->destination_port = port;
	record->flags |= DS_RX_DESTINATION;
}

static void store_control(struct ds_rx_record *record, struct msghdr *header)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
		const void *data = CMSG_DATA(c);

		if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_ORIGDSTADDR)
			store_destination(record, data);
		else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR)
			store_destination(record, data);
		else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO)
			record->ifindex = (uint32_t)((const struct in_pktinfo *)data)->ipi_ifindex;
		else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO)
			record->ifindex = ((const struct in6_pktinfo *)data)->ipi6_ifindex;
	}
}

static void store(struct ds_loop *loop, const struct ds_socket *socket, uint32_t index)
{
	struct ds_receiver *receiver = &loop->receiver;
	struct ds_rx_record *record = &loop->rx[index];
	struct mmsghdr *message =
		socket->connected ? &receiver->connected[index] : &receiver->listener[index];
	uint16_t port;

	record->length = message->msg_len;
	record->flags = 0;
	if (message->msg_hdr.msg_flags & MSG_TRUNC) {
		record->flags |= DS_RX_TRUNCATED;
		loop->counters.receivedTruncated++;
	}
	if (receiver->rejected[index]) {
		record->flags |= DS_RX_REJECTED;
		loop->counters.receiveRejected++;
	}
	message->msg_hdr.msg_flags = 0;
	if (socket->connected) {
		memcpy(record->peer, socket->peer, sizeof record->peer);
		record->peer_port = socket->peer_port;
		return;
	}
	ds_address_to_bytes(&receiver->name[index], record->peer, &port);
	record->peer_port = port;
	record->ifindex = 0;
	store_control(record, &message->msg_hdr);
	if (!(record->flags & DS_RX_DESTINATION)) {
		memset(record->destination, 0, sizeof record->destination);
		record->destination_port = 0;
	}
	message->msg_hdr.msg_namelen = sizeof receiver->name[index];
	message->msg_hdr.msg_controllen = sizeof receiver->control[index];
}

/* Datagrams received into records 0..n-1, or -errno. */
int ds_receive(struct ds_loop *loop, struct ds_socket *socket)
{
	struct ds_receiver *receiver = &loop->receiver;
	int count;

	aim(loop);
	do
		count = recvmmsg(socket->fd,
				 socket->connected ? receiver->connected : receiver->listener,
				 loop->slots, MSG_DONTWAIT, NULL);
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++)
		store(loop, socket, (uint32_t)i);
	ds_clock_now(&loop->header->monotonic_ns, &loop->header->boottime_ns);
	loop->counters.batches++;
	loop->counters.received += (uint64_t)count;
	return count;
}
