/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Captures: counts the frames of an interface that hold given bytes and keeps the first of them.
 * VLAN tags that the kernel took out are put back.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { CAPTURE_KEPT_MAX = 64, CAPTURE_FRAME_BYTES_MAX = 9216, CAPTURE_BURST = 256 };

struct kept {
	uint8_t *bytes;
	size_t length;
	bool is_outgoing, is_partial; /* partial: the checksum is left to the device */
};

struct capture {
	struct watch watch;
	uint8_t *pattern;
	size_t pattern_length;
	uint64_t total, matched, dropped;
	size_t kept_count;
	struct kept kept[CAPTURE_KEPT_MAX];
	uint32_t waiter; /* a `captured` that waits, or 0 */
	uint64_t waiter_count;
};

static void on_close(struct watch *watch)
{
	struct capture *capture = (struct capture *)watch;

	for (size_t i = 0; i < capture->kept_count; i++)
		free(capture->kept[i].bytes);
	free(capture->pattern);
}

static void answer_captured(struct capture *capture, uint32_t id)
{
	struct tpacket_stats stats = { 0 };
	socklen_t length = sizeof(stats);

	/* reading them sets them to 0 */
	getsockopt(capture->watch.fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length);
	capture->dropped += stats.tp_drops;
	answer_ok(id);
	answer_field("matched=%llu total=%llu dropped=%llu", (unsigned long long)capture->matched,
		     (unsigned long long)capture->total, (unsigned long long)capture->dropped);
	for (size_t i = 0; i < capture->kept_count; i++) {
		const struct kept *kept = &capture->kept[i];

		answer_field("outgoing=%d partial=%d", kept->is_outgoing, kept->is_partial);
		answer_hex("frame", kept->bytes, kept->length);
	}
	answer_end();
}

/* Returns the new length; `bytes` has four bytes of room. */
static size_t restore_tag(uint8_t *bytes, size_t length, const struct tpacket_auxdata *data)
{
	uint16_t tag[2];

	if ((data->tp_status & TP_STATUS_VLAN_VALID) == 0 || length < ETH_HLEN)
		return length;
	tag[0] = htons((data->tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? data->tp_vlan_tpid :
									     ETH_P_8021Q);
	tag[1] = htons(data->tp_vlan_tci);
	memmove(bytes + 16, bytes + 12, length - 12);
	memcpy(bytes + 12, tag, sizeof(tag));
	return length + sizeof(tag);
}

static void keep(struct capture *capture, const uint8_t *bytes, size_t length, bool is_outgoing,
		 bool is_partial)
{
	struct kept *kept = &capture->kept[capture->kept_count];

	if (capture->kept_count == CAPTURE_KEPT_MAX)
		return;
	kept->bytes = malloc(length + 1);
	if (kept->bytes == NULL)
		return;
	memcpy(kept->bytes, bytes, length);
	kept->length = length;
	kept->is_outgoing = is_outgoing;
	kept->is_partial = is_partial;
	capture->kept_count++;
}

static ssize_t receive(int fd, uint8_t *bytes, size_t size, bool *is_outgoing, bool *is_partial)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	struct sockaddr_ll link;
	struct iovec part = { bytes, size - 4 };
	struct msghdr message = {
		.msg_name = &link, .msg_namelen = sizeof(link), .msg_iov = &part,
		.msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	ssize_t length = recvmsg(fd, &message, 0);
	struct cmsghdr *header = length < 0 ? NULL : CMSG_FIRSTHDR(&message);
	struct tpacket_auxdata data = { 0 };

	if (length < 0)
		return length;
	if (header != NULL && header->cmsg_level == SOL_PACKET && header->cmsg_type == PACKET_AUXDATA)
		memcpy(&data, CMSG_DATA(header), sizeof(data));
	*is_outgoing = link.sll_pkttype == PACKET_OUTGOING;
	*is_partial = (data.tp_status & TP_STATUS_CSUMNOTREADY) != 0;
	return (ssize_t)restore_tag(bytes, (size_t)length, &data);
}

static void on_ready(struct watch *watch, uint32_t events)
{
	struct capture *capture = (struct capture *)watch;
	uint8_t bytes[CAPTURE_FRAME_BYTES_MAX];

	(void)events;
	for (int i = 0; i < CAPTURE_BURST; i++) {
		bool is_outgoing, is_partial;
		ssize_t length = receive(watch->fd, bytes, sizeof(bytes), &is_outgoing, &is_partial);

		if (length < 0)
			break;
		capture->total++;
		if (memmem(bytes, (size_t)length, capture->pattern, capture->pattern_length) == NULL)
			continue;
		capture->matched++;
		keep(capture, bytes, (size_t)length, is_outgoing, is_partial);
	}
	if (capture->waiter != 0 && capture->matched >= capture->waiter_count) {
		answer_captured(capture, capture->waiter);
		capture->waiter = 0;
		watch->deadline_ns = 0;
	}
}

static void on_deadline(struct watch *watch)
{
	struct capture *capture = (struct capture *)watch;

	answer_error(capture->waiter, ETIMEDOUT, "%llu of %llu frames matched",
		     (unsigned long long)capture->matched, (unsigned long long)capture->total);
	capture->waiter = 0;
}

static void on_cancel(struct watch *watch)
{
	struct capture *capture = (struct capture *)watch;

	if (capture->waiter != 0)
		answer_error(capture->waiter, ECANCELED, "the capture was closed");
}

/*
 * capture interface= data= payload= : counts from now on the frames, both ways, that hold `data`, of those whose payload
 * begins with `payload`.
 */
void op_capture(const struct request *request)
{
	struct sockaddr_ll link = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct capture *capture;
	size_t pattern_length = 0;
	uint8_t *pattern = arg_bytes(request, "data", &pattern_length);
	size_t prefix_length = 0;
	uint8_t *prefix = arg_bytes(request, "payload", &prefix_length);
	int on = 1, buffer = 16 << 20;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	link.sll_ifindex = (int)if_nametoindex(arg_text(request, "interface", "eth0"));
	bool is_filtered = prefix_length == 0 || (fd >= 0 && payload_filter(fd, prefix, prefix_length) == 0);
	free(prefix);
	if (pattern == NULL || fd < 0 || link.sll_ifindex == 0 || !is_filtered) {
		answer_error(request->id, fd < 0 ? errno : EINVAL, "capture");
		if (fd >= 0)
			close(fd);
		free(pattern);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on));
	capture = watch_new(sizeof(*capture), fd, request->id, EPOLLIN);
	if (capture == NULL) {
		answer_error(request->id, errno, "watch");
		free(pattern);
		return;
	}
	capture->watch.on_ready = on_ready;
	capture->watch.on_deadline = on_deadline;
	capture->watch.on_cancel = on_cancel;
	capture->watch.on_close = on_close;
	capture->watch.is_handle = true;
	capture->pattern = pattern;
	capture->pattern_length = pattern_length;
	if (bind(fd, (struct sockaddr *)&link, sizeof(link)) != 0) {
		answer_error(request->id, errno, "bind");
		watch_close(&capture->watch);
		return;
	}
	answer_ok(request->id);
	answer_end();
}

/* captured handle= count= timeout= : at once, or when `count` frames have matched */
void op_captured(const struct request *request)
{
	uint32_t handle = (uint32_t)arg_number(request, "handle", 0);
	struct capture *capture = (struct capture *)watch_find(handle, on_ready);

	if (capture == NULL || capture->waiter != 0) {
		answer_error(request->id, capture == NULL ? ENOENT : EBUSY, "capture");
		return;
	}
	on_ready(&capture->watch, EPOLLIN);
	capture->waiter_count = (uint64_t)arg_number(request, "count", 0);
	if (capture->matched >= capture->waiter_count) {
		answer_captured(capture, request->id);
		return;
	}
	capture->waiter = request->id;
	capture->watch.deadline_ns = arg_deadline(request, 2000);
}
