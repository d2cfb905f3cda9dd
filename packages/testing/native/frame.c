/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Packets that the stack would not send: frames, frames by a transmit ring, IP packets as they are. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RING_BLOCK_BYTES = 4096, RING_FRAME_BYTES = 2048, RING_BLOCKS = 1 };

/*
 * One socket for all frames, never closed: closing a packet socket waits for an RCU grace period, tens
 * of milliseconds. Protocol 0 keeps it from queueing frames without a reader.
 */
int packet_socket(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	return fd;
}

/* False if there is no such interface. */
bool packet_address(const struct request *request, struct address *address)
{
	struct sockaddr_ll *link = (struct sockaddr_ll *)&address->storage;

	memset(address, 0, sizeof(*address));
	link->sll_family = AF_PACKET;
	link->sll_ifindex = (int)if_nametoindex(arg_text(request, "interface", "eth0"));
	address->length = sizeof(*link);
	return link->sll_ifindex != 0;
}

/* frame interface= data= count= : as often as asked, back to back */
void op_frame(const struct request *request)
{
	long count = arg_number(request, "count", 1);
	long sent = 0;
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);
	struct address address;
	int fd = packet_socket();

	if (bytes == NULL || fd < 0 || !packet_address(request, &address)) {
		answer_error(request->id, bytes == NULL ? EINVAL : fd < 0 ? errno : ENODEV, "frame");
		free(bytes);
		return;
	}
	while (sent < count && sendto(fd, bytes, length, 0, (struct sockaddr *)&address.storage,
				      address.length) == (ssize_t)length)
		sent++;
	if (sent < count) {
		answer_error(request->id, errno, "frame %ld", sent);
	} else {
		answer_ok(request->id);
		answer_field("sent=%ld", sent);
		answer_end();
	}
	free(bytes);
}

/*
 * partial interface= data= start= offset= : a frame whose checksum over what follows `start` a device is to write
 * `offset` behind it, as a pod may ask for with PACKET_VNET_HDR
 */
void op_partial(const struct request *request)
{
	struct virtio_net_hdr header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = (uint16_t)arg_number(request, "start", 0),
		.csum_offset = (uint16_t)arg_number(request, "offset", 0),
	};
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);
	struct iovec parts[2] = { { &header, sizeof(header) }, { bytes, length } };
	struct address address;
	struct msghdr message = { .msg_name = &address.storage, .msg_iov = parts, .msg_iovlen = 2 };
	int fd = bytes == NULL ? -1 : socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0 || !packet_address(request, &address)) {
		answer_error(request->id, bytes == NULL ? EINVAL : fd < 0 ? errno : ENODEV, "partial");
	} else {
		message.msg_namelen = address.length;
		if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) != 0 ||
		    sendmsg(fd, &message, 0) < 0) {
			answer_error(request->id, errno, "partial");
		} else {
			answer_ok(request->id);
			answer_end();
		}
	}
	if (fd >= 0)
		close(fd);
	free(bytes);
}

/*
 * frames interface= data= : many frames, each behind its length in two octets. What the kernel refuses to send
 * (too short, too long) is counted, and the others are sent.
 */
void op_frames(const struct request *request)
{
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);
	struct address address;
	int fd = packet_socket();
	long sent = 0, refused = 0;
	size_t at = 0;

	if (bytes == NULL || fd < 0 || !packet_address(request, &address)) {
		answer_error(request->id, bytes == NULL ? EINVAL : fd < 0 ? errno : ENODEV, "frames");
		free(bytes);
		return;
	}
	while (at + 2 <= length) {
		size_t size = (size_t)bytes[at] << 8 | bytes[at + 1];

		at += 2;
		if (size > length - at)
			break;
		if (sendto(fd, bytes + at, size, 0, (struct sockaddr *)&address.storage,
			   address.length) == (ssize_t)size)
			sent++;
		else
			refused++;
		at += size;
	}
	answer_ok(request->id);
	answer_field("sent=%ld refused=%ld", sent, refused);
	answer_end();
	free(bytes);
}

/* The kernel copies only the link header of a ring frame into the linear part: 14 bytes. */
static int send_by_ring(int fd, const uint8_t *bytes, size_t length, uint32_t *status)
{
	struct tpacket_req ring = {
		.tp_block_size = RING_BLOCK_BYTES,
		.tp_block_nr = RING_BLOCKS,
		.tp_frame_size = RING_FRAME_BYTES,
		.tp_frame_nr = RING_BLOCKS * RING_BLOCK_BYTES / RING_FRAME_BYTES,
	};
	size_t offset = TPACKET2_HDRLEN - sizeof(struct sockaddr_ll);
	int version = TPACKET_V2;
	struct tpacket2_hdr *header;
	ssize_t sent;

	if (length > RING_FRAME_BYTES - offset) {
		errno = EMSGSIZE;
		return -1;
	}
	if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) != 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof(ring)) != 0)
		return -1;
	header = mmap(NULL, RING_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (header == MAP_FAILED)
		return -1;
	memcpy((uint8_t *)header + offset, bytes, length);
	header->tp_len = (uint32_t)length;
	header->tp_status = TP_STATUS_SEND_REQUEST;
	sent = send(fd, NULL, 0, 0);
	*status = header->tp_status;
	munmap(header, RING_BLOCK_BYTES);
	return sent < 0 ? -1 : 0;
}

/* ring interface= data= : one frame through PACKET_TX_RING */
void op_ring(const struct request *request)
{
	uint32_t status = 0;
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);
	struct address address;
	bool is_sane = bytes != NULL && length >= ETH_HLEN && packet_address(request, &address);
	/* A socket of its own: a ring is for one socket's whole life. */
	int fd = is_sane ? socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0) : -1;

	if (!is_sane) {
		answer_error(request->id, bytes == NULL ? EINVAL : ENODEV, "ring");
		free(bytes);
		return;
	}
	/* The ring's frames take their protocol from the socket, so it is bound with the frame's own. */
	memcpy(&((struct sockaddr_ll *)&address.storage)->sll_protocol, bytes + 12, 2);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address.storage, address.length) != 0 ||
	    send_by_ring(fd, bytes, length, &status) != 0) {
		answer_error(request->id, errno, "ring");
	} else {
		answer_ok(request->id);
		answer_field("status=%u", status);
		answer_end();
	}
	if (fd >= 0)
		close(fd);
	free(bytes);
}

/* raw to= data= : an IP packet with its header; the kernel routes it and finds the next hop */
void op_raw(const struct request *request)
{
	struct address peer;
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);
	int fd = -1;

	if (bytes == NULL || !arg_address(request, "to", "none", &peer)) {
		answer_error(request->id, EINVAL, "data or destination");
		free(bytes);
		return;
	}
	fd = socket_open(request, peer.storage.ss_family, SOCK_RAW, IPPROTO_RAW);
	if (fd < 0 ||
	    sendto(fd, bytes, length, 0, (struct sockaddr *)&peer.storage, peer.length) < 0) {
		answer_error(request->id, errno, "raw");
	} else {
		answer_ok(request->id);
		answer_end();
	}
	if (fd >= 0)
		close(fd);
	free(bytes);
}
