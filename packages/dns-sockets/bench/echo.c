/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The floor of loop.bench.ts: the same echo with the same system calls, no JavaScript.
 * Usage: echo PORT; prints "ready"; ends when killed.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, SLOT = 512 };

static char payload[BATCH][SLOT];
static struct iovec iov[BATCH], reply_iov[BATCH];
static struct sockaddr_in peer[BATCH];
static _Alignas(8) char control[BATCH][128];
static _Alignas(8) char reply_control[BATCH][CMSG_SPACE(sizeof(struct in_pktinfo))];
static struct mmsghdr in[BATCH], out[BATCH];

static int open_socket(int port)
{
	int on = 1, size = 4 << 20;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_IP, IP_PKTINFO, &on, sizeof on);
	setsockopt(fd, SOL_IP, 20 /* IP_RECVORIGDSTADDR */, &on, sizeof on);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		perror("echo");
		exit(1);
	}
	return fd;
}

static void prepare(int i)
{
	struct cmsghdr *c = (struct cmsghdr *)reply_control[i];

	iov[i] = (struct iovec){payload[i], SLOT};
	in[i].msg_hdr = (struct msghdr){.msg_name = &peer[i], .msg_iov = &iov[i], .msg_iovlen = 1};
	out[i].msg_hdr = (struct msghdr){
		.msg_name = &peer[i],
		.msg_namelen = sizeof peer[i],
		.msg_iov = &reply_iov[i],
		.msg_iovlen = 1,
		.msg_control = reply_control[i],
		.msg_controllen = sizeof reply_control[i],
	};
	c->cmsg_level = SOL_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
}

static void answer(int i)
{
	struct in_pktinfo *to = (struct in_pktinfo *)CMSG_DATA((struct cmsghdr *)reply_control[i]);
	struct msghdr *header = &in[i].msg_hdr;

	memset(to, 0, sizeof *to);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c))
		if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO)
			to->ipi_spec_dst = ((struct in_pktinfo *)CMSG_DATA(c))->ipi_addr;
	reply_iov[i] = (struct iovec){payload[i], in[i].msg_len};
}

int main(int count, char **arguments)
{
	int fd = open_socket(count > 1 ? atoi(arguments[1]) : 0);
	int poll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN};

	epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
	for (int i = 0; i < BATCH; i++)
		prepare(i);
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		return 1;
	while (epoll_wait(poll, &event, 1, -1) >= 0) {
		for (int i = 0; i < BATCH; i++) {
			in[i].msg_hdr.msg_namelen = sizeof peer[i];
			in[i].msg_hdr.msg_control = control[i];
			in[i].msg_hdr.msg_controllen = sizeof control[i];
		}
		int received = recvmmsg(fd, in, BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < received; i++)
			answer(i);
		for (int sent = 0; sent < received;) {
			int taken = sendmmsg(fd, out + sent, (unsigned int)(received - sent), 0);
			sent += taken > 0 ? taken : 1;
		}
	}
	return 0;
}
