/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Connected UDP sockets toward DNS servers. The source port is a secret that protects against
 * forged answers (RFC 5452): it comes from the kernel's random generator, over 1024..65535 minus
 * net.ipv4.ip_local_reserved_ports, not from the sequential ephemeral range.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

enum {
	PORT_LOW       = 1024,
	PORT_TRIES_MAX = 256, /* draws of a port, refused ones included */
	DRAIN_MAX      = 64,  /* datagrams queued between bind and connect */
	/* The longest list has every other port: 32,768 of at most five digits and a comma. */
	RESERVED_TEXT_MAX = 32768 * 6 + 2,
};

/*
 * Ports that are never drawn. Pods may not send to the tunnel ports of nodes, whatever for, so an answer of a DNS pod to one is dropped.
 * At the others drivers and programs of nodes may begin to listen, and a socket of ours would keep them out.
 */
static const uint16_t never_drawn[] = {
	/* Tunnels: the default of the agent's option tunnelPorts. */
	4789, 8472, 6784, 4800, 6081, 5555,
	/* OpenVPN, L2TP, GTP, BFD, IPsec, VXLAN-GPE, mDNS, Weave, memberlist, ZeroTier, Tailscale, WireGuard (Calico, Cilium) */
	1194, 1701, 2152, 3784, 3785, 4784, 4500, 4790, 5353, 6783, 7946, 9993, 41641, 51820, 51821, 51871,
};

struct upstream {
	uint8_t address[16];
	uint16_t port;
	bool has_mark;
	uint32_t mark;
	bool has_priority;
	int priority;
	bool has_source;
	uint8_t source[16];
	uint32_t buffer_bytes;
};

struct reserved_ports {
	uint64_t bits[65536 / 64];
};

static bool is_reserved(const struct reserved_ports *reserved, uint16_t port)
{
	return reserved->bits[port / 64] >> (port % 64) & 1;
}

static void reserve(struct reserved_ports *reserved, unsigned long port)
{
	reserved->bits[port / 64] |= 1ull << (port % 64);
}

/* "8080,9148-9150" */
static void parse_reserved_ports(struct reserved_ports *reserved, char *text)
{
	for (char *next = text; *next >= '0' && *next <= '9';) {
		unsigned long first = strtoul(next, &next, 10), last = first;

		if (*next == '-')
			last = strtoul(next + 1, &next, 10);
		for (unsigned long port = first; port <= last && port < 65536; port++)
			reserve(reserved, port);
		if (*next == ',')
			next++;
	}
}

/*
 * Whether `text` has the whole list. The kernel gives no more of it than fits the first read, and may cut it inside of a number.
 */
static bool read_list(int fd, char *text, size_t size)
{
	ssize_t length = pread(fd, text, size - 1, 0);

	text[length > 0 ? length : 0] = '\0';
	return length < (ssize_t)size - 1;
}

/*
 * never_drawn, and the ports that are reserved in this process's network namespace; unreadable counts as none. False without memory
 * for a long list.
 */
static bool read_reserved_ports(struct reserved_ports *reserved)
{
	char text[4096];
	bool is_read = true;
	int fd = open("/proc/sys/net/ipv4/ip_local_reserved_ports",
		      O_RDONLY | O_CLOEXEC);

	memset(reserved, 0, sizeof *reserved);
	for (size_t i = 0; i < sizeof never_drawn / sizeof *never_drawn; i++)
		reserve(reserved, never_drawn[i]);
	if (fd < 0)
		return true;
	if (read_list(fd, text, sizeof text)) {
		parse_reserved_ports(reserved, text);
	} else {
		char *whole = malloc(RESERVED_TEXT_MAX);

		is_read = whole != NULL && read_list(fd, whole, RESERVED_TEXT_MAX);
		if (is_read)
			parse_reserved_ports(reserved, whole);
		free(whole);
	}
	close(fd);
	return is_read;
}

/* EPERM is of a program at the cgroup, as guard_port at port P; EACCES of a security module. */
static bool is_port_refused(int error)
{
	return error == EADDRINUSE || error == EPERM || error == EACCES;
}

/* -1 with the errno of the last draw when too many in a row were refused. */
static int bind_random_port(int fd, const uint8_t source[16])
{
	struct reserved_ports reserved;
	uint16_t draw[PORT_TRIES_MAX];
	int error = EADDRINUSE;

	if (!read_reserved_ports(&reserved)) {
		errno = ENOMEM;
		return -1;
	}
	if (getrandom(draw, sizeof draw, 0) != (ssize_t)sizeof draw)
		return -1;
	for (size_t i = 0; i < PORT_TRIES_MAX; i++) {
		union ds_address local;

		if (draw[i] < PORT_LOW || is_reserved(&reserved, draw[i]))
			continue;
		socklen_t length = ds_address_from_bytes(&local, source, draw[i]);
		if (bind(fd, &local.any, length) == 0)
			return 0;
		if (!is_port_refused(errno))
			return -1;
		error = errno;
	}
	errno = error;
	return -1;
}

/*
 * Between bind and connect any host could send to the port. What arrived then is thrown away; more
 * than DRAIN_MAX means an attack on this port.
 */
static int drain(int fd)
{
	char byte;

	for (int i = 0; i < DRAIN_MAX; i++)
		if (recv(fd, &byte, sizeof byte, MSG_DONTWAIT | MSG_TRUNC) < 0) {
			if (errno == EAGAIN)
				return 0;
			if (errno != EINTR && errno != ECONNREFUSED)
				return -1;
		}
	errno = EBUSY;
	return -1;
}

static const char *configure(int fd, const struct upstream *want, bool v6)
{
	int on = 1;
	int omit = v6 ? IPV6_PMTUDISC_OMIT : IP_PMTUDISC_OMIT;

	if (want->has_mark &&
	    setsockopt(fd, SOL_SOCKET, SO_MARK, &want->mark, sizeof want->mark) != 0)
		return "setsockopt(SO_MARK)";
	if (want->has_priority &&
	    setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &want->priority, sizeof want->priority) != 0)
		return "setsockopt(SO_PRIORITY)";
	/* A source that is not ours (a pod's address) needs a transparent socket. */
	if (want->has_source &&
	    setsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &on,
		       sizeof on) != 0 &&
	    errno != EPERM)
		return "setsockopt(IP_TRANSPARENT)";
	if (setsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &omit,
		       sizeof omit) != 0)
		return "setsockopt(IP_MTU_DISCOVER)";
	if (ds_set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, want->buffer_bytes) != 0)
		return "setsockopt(SO_RCVBUF)";
	if (ds_set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, want->buffer_bytes) != 0)
		return "setsockopt(SO_SNDBUF)";
	return NULL;
}

static const char *bind_and_connect(int fd, const struct upstream *want, bool v6)
{
	static const uint8_t any6[16];
	static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff};
	union ds_address remote;
	socklen_t length = ds_address_from_bytes(&remote, want->address, want->port);

	if (bind_random_port(fd, want->has_source ? want->source : v6 ? any6 : any4) != 0)
		return "bind";
	if (connect(fd, &remote.any, length) != 0)
		return "connect";
	if (drain(fd) != 0)
		return "recv";
	return NULL;
}

/* createUpstreamTcp(isIpv6, priority): fd, neither bound nor connected */
napi_value ds_create_upstream_tcp(napi_env env, napi_callback_info info)
{
	static const char what[] = "upstream TCP socket";
	struct ds_args args;
	int priority;

	ds_args_begin(&args, env, info, 2);
	bool v6 = ds_arg_u32(&args, 0, "isIpv6", 0, 1) != 0;
	priority = (int)ds_arg_u32(&args, 1, "priority", 0, 6);
	if (args.failed)
		return NULL;
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ds_throw_errno(env, errno, "socket", what);
	if (setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority) != 0) {
		int error = errno;
		close(fd);
		return ds_throw_errno(env, error, "setsockopt(SO_PRIORITY)", what);
	}
	if (!ds_own_fd(args.ds, fd))
		return ds_throw_errno(env, errno, "realloc", what);
	return ds_u32(env, (uint32_t)fd);
}

/* createUpstreamUdp(address, port, mark | null, source | null, buffer_bytes, priority | null): fd */
napi_value ds_create_upstream_udp(napi_env env, napi_callback_info info)
{
	static const char what[] = "upstream UDP socket";
	struct ds_args args;
	struct upstream want = {0};
	const char *failed;

	ds_args_begin(&args, env, info, 6);
	ds_arg_address(&args, 0, "address", want.address);
	want.port = (uint16_t)ds_arg_u32(&args, 1, "port", 1, UINT16_MAX);
	want.has_mark = !ds_arg_is_nullish(&args, 2);
	if (want.has_mark)
		want.mark = ds_arg_u32(&args, 2, "mark", 0, UINT32_MAX);
	want.has_source = !ds_arg_is_nullish(&args, 3);
	if (want.has_source)
		ds_arg_address(&args, 3, "source", want.source);
	want.buffer_bytes = ds_arg_u32(&args, 4, "bufferBytes", 1, 1u << 30);
	want.has_priority = !ds_arg_is_nullish(&args, 5);
	if (want.has_priority) /* more needs CAP_NET_ADMIN (socket(7)) */
		want.priority = (int)ds_arg_u32(&args, 5, "priority", 0, 6);
	if (args.failed)
		return NULL;
	bool v6 = !ds_is_v4(want.address);
	if (want.has_source && v6 == ds_is_v4(want.source))
		return ds_throw_argument(env, "source", "must be of the address's family");

	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ds_throw_errno(env, errno, "socket", what);
	failed = configure(fd, &want, v6);
	if (failed == NULL)
		failed = bind_and_connect(fd, &want, v6);
	if (failed != NULL) {
		int error = errno;
		close(fd);
		return ds_throw_errno(env, error, failed, what);
	}
	if (!ds_own_fd(args.ds, fd))
		return ds_throw_errno(env, errno, "realloc", what);
	return ds_u32(env, (uint32_t)fd);
}
