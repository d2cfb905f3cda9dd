/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Packets that the stack would not send: frames, frames by a transmit ring, IP packets as they are. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RING_BLOCK_BYTES = 4096, RING_FRAME_BYTES = 2048, RING_BLOCKS = 1 };

static int open_packet(const struct request *request)
{
	struct sockaddr_ll link = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	link.sll_ifindex = (int)if_nametoindex(arg_text(request, "interface", "eth0"));
	if (fd < 0)
		return -1;
	/* Protocol 0 in socket() and bind() keeps the socket from queueing what it never reads. */
	link.sll_protocol = 0;
	if (link.sll_ifindex != 0 && bind(fd, (struct sockaddr *)&link, sizeof(link)) == 0)
		return fd;
	if (link.sll_ifindex == 0)
		errno = ENODEV;
	int error = errno;

	close(fd);
	errno = error;
	return -1;
}

/* frame interface= data= count= : as often as asked, back to back */
void op_frame(const struct request *request)
{
	long count = arg_number(request, "count", 1);
	long sent = 0;
	size_t length;
	uint8_t *bytes = arg_bytes(request, "data", &length);
	int fd = bytes == NULL ? -1 : open_packet(request);

	while (fd >= 0 && sent < count && send(fd, bytes, length, 0) == (ssize_t)length)
		sent++;
	if (fd < 0 || sent < count) {
		answer_error(request->id, bytes == NULL ? EINVAL : errno, "frame %ld", sent);
	} else {
		answer_ok(request->id);
		answer_field("sent=%ld", sent);
		answer_end();
	}
	if (fd >= 0)
		close(fd);
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
	struct sockaddr_ll link = { .sll_family = AF_PACKET };
	int fd = bytes == NULL ? -1 : open_packet(request);

	/* The ring's frames take their protocol from the socket, so it is bound with the frame's own. */
	if (fd >= 0 && length >= ETH_HLEN) {
		memcpy(&link.sll_protocol, bytes + 12, 2);
		link.sll_ifindex = (int)if_nametoindex(arg_text(request, "interface", "eth0"));
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)&link, sizeof(link)) != 0 ||
	    send_by_ring(fd, bytes, length, &status) != 0) {
		answer_error(request->id, bytes == NULL ? EINVAL : errno, "ring");
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
