/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* Sockets and the options that every operation understands: source, port, mark, uid, device, ... */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int set_flag(int fd, int level, int name)
{
	int on = 1;

	return setsockopt(fd, level, name, &on, sizeof(on));
}

static int set_options(const struct request *request, int fd, int family, int type)
{
	int mark = (int)arg_number(request, "mark", 0);
	int priority = (int)arg_number(request, "priority", 0);
	int ttl = (int)arg_number(request, "ttl", 0);
	int segment = (int)arg_number(request, "segment", 0);
	const char *device = arg_text(request, "device", NULL);
	bool is_v6 = family == AF_INET6;

	if (mark != 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) != 0)
		return -1;
	if (priority != 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority)) != 0)
		return -1;
	if (device != NULL &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) != 0)
		return -1;
	if (ttl != 0 && setsockopt(fd, is_v6 ? IPPROTO_IPV6 : IPPROTO_IP,
				   is_v6 ? IPV6_UNICAST_HOPS : IP_TTL, &ttl, sizeof(ttl)) != 0)
		return -1;
	if (arg_number(request, "nocheck", 0) != 0 && set_flag(fd, SOL_SOCKET, SO_NO_CHECK) != 0)
		return -1;
	if (segment != 0 &&
	    setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) != 0)
		return -1;
	if (arg_number(request, "reuseaddr", 0) != 0 && set_flag(fd, SOL_SOCKET, SO_REUSEADDR) != 0)
		return -1;
	if (arg_number(request, "reuseport", 0) != 0 && set_flag(fd, SOL_SOCKET, SO_REUSEPORT) != 0)
		return -1;
	if (arg_number(request, "transparent", 0) != 0 &&
	    set_flag(fd, is_v6 ? IPPROTO_IPV6 : IPPROTO_IP,
		     is_v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT) != 0)
		return -1;
	if (arg_number(request, "broadcast", 0) != 0 && set_flag(fd, SOL_SOCKET, SO_BROADCAST) != 0)
		return -1;
	/* Raw sockets refuse it. */
	return is_v6 && type != SOCK_RAW ? set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY) : 0;
}

static int bind_source(const struct request *request, int fd, int family)
{
	struct address source;

	if (arg_text(request, "source", NULL) == NULL && arg_number(request, "sport", 0) == 0)
		return 0;
	if (!arg_address(request, "source", "sport", &source)) {
		struct sockaddr_in6 *any = (struct sockaddr_in6 *)&source.storage;

		/* Port and family lie alike in both kinds of address. */
		any->sin6_family = (sa_family_t)family;
		any->sin6_port = htons((uint16_t)arg_number(request, "sport", 0));
		source.length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(*any);
	}
	return bind(fd, (struct sockaddr *)&source.storage, source.length);
}

/*
 * A non-blocking socket with the request's options, bound if it names a source. With "uid" the socket
 * belongs to that user and is bound without capabilities. Returns -1 with errno.
 */
int socket_open(const struct request *request, int family, int type, int protocol)
{
	long uid = arg_number(request, "uid", 0);
	int fd, result = 0, error;

	if (uid != 0 && seteuid((uid_t)uid) != 0)
		return -1;
	fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	if (fd >= 0) {
		result = set_options(request, fd, family, type);
		if (result == 0)
			result = bind_source(request, fd, family);
	}
	error = errno;
	if (uid != 0) {
		if (seteuid(0) != 0) {
			perror("probe: seteuid");
			_exit(1);
		}
		/* A change of the effective uid clears it. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	if (fd >= 0 && result != 0) {
		close(fd);
		fd = -1;
	}
	errno = error;
	return fd;
}

/* 0 also while the connection is being made. */
int socket_connect(int fd, const struct address *peer)
{
	int result = connect(fd, (const struct sockaddr *)&peer->storage, peer->length);

	return result != 0 && errno == EINPROGRESS ? 0 : result;
}

uint16_t address_port(const struct sockaddr_storage *address)
{
	return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

struct address address_local(int fd)
{
	struct address local = { .length = sizeof(local.storage) };

	if (getsockname(fd, (struct sockaddr *)&local.storage, &local.length) != 0)
		memset(&local, 0, sizeof(local));
	return local;
}
