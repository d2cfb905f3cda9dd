/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * recvmmsg(2) straight into the places that JavaScript chose, metadata into the rx records.
 *
 * With "metadata in the buffer" the kernel writes the peer's address and the control messages there too,
 * right before the payload: when this process dies between the system call and the records, the process that
 * shares the buffer still knows client and server. That memory is copied before it is read: others may write it.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <string.h>

#ifndef IP_ORIGDSTADDR
#define IP_ORIGDSTADDR 20
#endif
#ifndef IPV6_ORIGDSTADDR
#define IPV6_ORIGDSTADDR 74
#endif

_Static_assert(sizeof(union ds_address) <= DS_META_NAME_BYTES, "an address fits");
_Static_assert(CMSG_SPACE(sizeof(struct sockaddr_in6)) + CMSG_SPACE(sizeof(struct in6_pktinfo)) <=
		       DS_META_BYTES - DS_META_NAME_BYTES,
	       "the control messages of a datagram fit");

/* Headers point at their parts once; later only what the kernel changed is set back. */
void ds_receiver_init(struct ds_receiver *receiver)
{
	for (size_t i = 0; i < DS_SLOTS_MAX; i++) {
		receiver->offset[i] = receiver->capacity[i] = UINT32_MAX; /* nowhere yet */
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
static void aim_at(struct ds_loop *loop, uint32_t i, uint32_t offset, uint32_t capacity)
{
	struct ds_receiver *receiver = &loop->receiver;
	struct msghdr *header = &receiver->listener[i].msg_hdr;
	uint32_t before = loop->metadata_in_payload ? DS_META_BYTES : 0;
	bool fits = offset >= before && (uint64_t)offset + capacity <= loop->payload_length;

	receiver->offset[i] = offset;
	receiver->capacity[i] = capacity;
	receiver->rejected[i] = !fits;
	receiver->iov[i].iov_base = loop->payload + (fits ? offset : 0);
	receiver->iov[i].iov_len = fits ? capacity : 0;
	if (!loop->metadata_in_payload)
		return;
	header->msg_name = fits ? (void *)(loop->payload + offset - before)
				: (void *)&receiver->name[i];
	header->msg_control = fits ? loop->payload + offset - before + DS_META_NAME_BYTES
				   : receiver->control[i];
	header->msg_controllen = DS_META_BYTES - DS_META_NAME_BYTES;
}

static void aim(struct ds_loop *loop)
{
	struct ds_receiver *receiver = &loop->receiver;

	for (uint32_t i = 0; i < loop->slots; i++) {
		uint32_t offset = DS_READ_ONCE(loop->rx[i].offset);
		uint32_t capacity = DS_READ_ONCE(loop->rx[i].capacity);

		if (receiver->offset[i] != offset || receiver->capacity[i] != capacity)
			aim_at(loop, i, offset, capacity);
	}
}

static void store_destination(struct ds_rx_record *record, const union ds_address *address)
{
	uint16_t port;

	ds_address_to_bytes(address, record->destination, &port);
	record->destination_port = port;
	record->flags |= DS_RX_DESTINATION;
}

static size_t data_length(const struct cmsghdr *c)
{
	if (c->cmsg_level == SOL_IP)
		return c->cmsg_type == IP_ORIGDSTADDR ? sizeof(struct sockaddr_in)
						      : sizeof(struct in_pktinfo);
	return c->cmsg_type == IPV6_ORIGDSTADDR ? sizeof(struct sockaddr_in6)
						: sizeof(struct in6_pktinfo);
}

static void store_control(struct ds_rx_record *record, struct msghdr *header)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
		const void *data = CMSG_DATA(c);

		if (c->cmsg_len < CMSG_LEN(data_length(c)))
			continue;

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

/* Address and control messages of a received datagram, in memory that no other process writes. */
static struct msghdr own_metadata(struct ds_loop *loop, uint32_t index)
{
	struct ds_receiver *receiver = &loop->receiver;
	struct msghdr header = receiver->listener[index].msg_hdr;
	const uint8_t *name = header.msg_name;

	if (name == (const uint8_t *)&receiver->name[index])
		return header;
	memcpy(&receiver->name[index], name, sizeof receiver->name[index]);
	memcpy(receiver->control[index], name + DS_META_NAME_BYTES,
	       DS_META_BYTES - DS_META_NAME_BYTES);
	header.msg_control = receiver->control[index];
	return header;
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
	struct msghdr header = own_metadata(loop, index);
	ds_address_to_bytes(&receiver->name[index], record->peer, &port);
	record->peer_port = port;
	record->ifindex = 0;
	store_control(record, &header);
	if (!(record->flags & DS_RX_DESTINATION)) {
		memset(record->destination, 0, sizeof record->destination);
		record->destination_port = 0;
	}
	message->msg_hdr.msg_namelen = sizeof receiver->name[index];
	message->msg_hdr.msg_controllen = loop->metadata_in_payload
						  ? DS_META_BYTES - DS_META_NAME_BYTES
						  : sizeof receiver->control[index];
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
