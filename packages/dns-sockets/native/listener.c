/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The group's listening sockets. Everything that protects the socket is set before bind(): from its
 * first moment in the group no packet without the redirect mark can reach it.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef IP_RECVORIGDSTADDR
#define IP_RECVORIGDSTADDR 20
#endif
#ifndef IPV6_RECVORIGDSTADDR
#define IPV6_RECVORIGDSTADDR 74
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

/*
 * A SYN-ACK is sent once more, after a second. Without an answer the handshake is over 2 s later, instead of a minute: it takes a place of the
 * SYN queue, which all pods have together. A client sends its SYN again anyway.
 */
enum { SYN_ACKS_AGAIN = 1 };

/*
 * A client that takes nothing, or a pod that is gone, keeps what was written to it in the kernel, also when the connection was closed: by
 * default up to 4 MiB (net.ipv4.tcp_wmem), and for ever if it answers the probes of its closed window. So that a connection has room for one
 * reply, and the kernel gives it up after `unacked_ms`. Connections inherit both.
 */
enum { TCP_SEND_BYTES = 65536 };

struct listener {
	int family; /* AF_INET or AF_INET6 */
	bool is_tcp;
	uint16_t port;
	uint32_t mark;
	uint32_t mark_mask;
	uint32_t redirect_mark;
	bool has_owner;
	uid_t owner;
	uint32_t receive_buffer_bytes;
	int backlog;
	uint32_t unacked_ms;
};

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof value);
}

/*
 * The forced size needs CAP_NET_ADMIN; without it net.core.rmem_max (wmem_max) bounds what we get.
 */
int ds_set_buffer(int fd, int force_option, int plain_option, uint32_t bytes)
{
	if (set_int(fd, SOL_SOCKET, force_option, (int)bytes) == 0)
		return 0;
	if (errno != EPERM)
		return -1;
	return set_int(fd, SOL_SOCKET, plain_option, (int)bytes);
}

/* The same in eBPF, by a program that lives as long as a socket has it. Needs CAP_BPF. */
static int attach_mark_program(int fd, uint32_t mask, uint32_t mark)
{
	struct bpf_insn code[] = {
		{.code = BPF_LDX | BPF_MEM | BPF_W,
		 .dst_reg = BPF_REG_2,
		 .src_reg = BPF_REG_1,
		 .off = offsetof(struct __sk_buff, mark)},
		{.code = BPF_ALU | BPF_AND | BPF_K, .dst_reg = BPF_REG_2, .imm = (int32_t)mask},
		{.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_JMP32 | BPF_JNE | BPF_K,
		 .dst_reg = BPF_REG_2,
		 .off = 1,
		 .imm = (int32_t)mark},
		{.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof attributes);
	attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attributes.insns = (uintptr_t)code;
	attributes.insn_cnt = sizeof code / sizeof code[0];
	attributes.license = (uintptr_t) "GPL";
	int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);
	if (program < 0)
		return -1;
	int result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program);
	int error = errno;
	close(program);
	errno = error;
	return result;
}

/*
 * Accepts (mark & mask) == redirect mark, drops the rest. TCP children inherit it. Classic BPF, which needs
 * no capability: but for TCP, where newer kernels (6.18.44) take it from CAP_NET_ADMIN alone.
 */
static int attach_mark_guard(int fd, uint32_t mask, uint32_t mark)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_MARK)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, mark, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0)
		return 0;
	return errno == EPERM ? attach_mark_program(fd, mask, mark) : -1;
}

static const char *configure(int fd, const struct listener *want)
{
	bool v6 = want->family == AF_INET6;

	if (set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0)
		return "setsockopt(SO_REUSEPORT)";
	/*
	 * A connection that root has accepted has its uid, and would keep a member of another uid from binding the port again. With
	 * this, which connections inherit, only listeners are compared.
	 */
	if (want->is_tcp && set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0)
		return "setsockopt(SO_REUSEADDR)";
	if (v6 && set_int(fd, SOL_IPV6, IPV6_V6ONLY, 1) != 0)
		return "setsockopt(IPV6_V6ONLY)";
	if (v6 ? set_int(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) : set_int(fd, SOL_IP, IP_TRANSPARENT, 1))
		return "setsockopt(IP_TRANSPARENT)";
	if (set_int(fd, SOL_SOCKET, SO_MARK, (int)want->mark) != 0)
		return "setsockopt(SO_MARK)";
	if (attach_mark_guard(fd, want->mark_mask, want->redirect_mark) != 0)
		return "setsockopt(SO_ATTACH_FILTER, SO_ATTACH_BPF)";
	/* The kernel lets only sockets of one uid share a port (sk_uid follows the inode). */
	if (want->has_owner && fchown(fd, want->owner, (gid_t)-1) != 0)
		return "fchown";
	return NULL;
}

static const char *configure_udp(int fd, const struct listener *want)
{
	bool v6 = want->family == AF_INET6;

	if (ds_set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, want->receive_buffer_bytes) != 0)
		return "setsockopt(SO_RCVBUF)";
	if (ds_set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, want->receive_buffer_bytes) != 0)
		return "setsockopt(SO_SNDBUF)";
	if (v6 ? set_int(fd, SOL_IPV6, IPV6_RECVORIGDSTADDR, 1)
	       : set_int(fd, SOL_IP, IP_RECVORIGDSTADDR, 1))
		return "setsockopt(IP_RECVORIGDSTADDR)";
	if (v6 ? set_int(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1) : set_int(fd, SOL_IP, IP_PKTINFO, 1))
		return "setsockopt(IP_PKTINFO)";
	/* A forged "fragmentation needed" must not make replies fragment (as unbound and bind). */
	if (v6 ? set_int(fd, SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT)
	       : set_int(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT))
		return "setsockopt(IP_MTU_DISCOVER)";
	return NULL;
}

static const char *bind_wildcard(int fd, const struct listener *want)
{
	union ds_address address = {0};
	socklen_t length;

	address.any.sa_family = (sa_family_t)want->family;
	if (want->family == AF_INET6) {
		address.v6.sin6_port = htons(want->port);
		length = sizeof address.v6;
	} else {
		address.v4.sin_port = htons(want->port);
		length = sizeof address.v4;
	}
	if (bind(fd, &address.any, length) != 0)
		return "bind";
	if (!want->is_tcp)
		return NULL;
	if (set_int(fd, IPPROTO_TCP, TCP_SYNCNT, SYN_ACKS_AGAIN) != 0)
		return "setsockopt(TCP_SYNCNT)";
	if (set_int(fd, SOL_SOCKET, SO_SNDBUF, TCP_SEND_BYTES) != 0)
		return "setsockopt(SO_SNDBUF)";
	/*
	 * Without it the kernel repeats what a pod that is gone has not acknowledged for up to 15 minutes, and for a minute or two after
	 * the connection was closed here, and another pod can have the address by then.
	 */
	if (set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)want->unacked_ms) != 0)
		return "setsockopt(TCP_USER_TIMEOUT)";
	if (listen(fd, want->backlog) != 0)
		return "listen";
	return NULL;
}

/*
 * createListener(is_v6, is_tcp, port, mark, mark_mask, redirect_mark, owner_uid | null,
 *                receive_buffer_bytes, backlog, unacked_ms): fd
 */
napi_value ds_create_listener(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	struct listener want = {0};
	char what[64];
	const char *failed;

	ds_args_begin(&args, env, info, 10);
	want.family = ds_arg_u32(&args, 0, "family", 0, 1) ? AF_INET6 : AF_INET;
	want.is_tcp = ds_arg_u32(&args, 1, "protocol", 0, 1);
	want.port = (uint16_t)ds_arg_u32(&args, 2, "port", 0, UINT16_MAX);
	want.mark = ds_arg_u32(&args, 3, "mark", 0, UINT32_MAX);
	want.mark_mask = ds_arg_u32(&args, 4, "markMask", 0, UINT32_MAX);
	want.redirect_mark = ds_arg_u32(&args, 5, "redirectMark", 0, UINT32_MAX);
	want.has_owner = !ds_arg_is_nullish(&args, 6);
	if (want.has_owner)
		want.owner = ds_arg_u32(&args, 6, "ownerUid", 0, UINT32_MAX - 1);
	want.receive_buffer_bytes = ds_arg_u32(&args, 7, "receiveBufferBytes", 1, 1u << 30);
	want.backlog = (int)ds_arg_u32(&args, 8, "backlog", 1, 65535);
	want.unacked_ms = ds_arg_u32(&args, 9, "unackedMs", 1, INT32_MAX);
	if (args.failed)
		return NULL;
	if (want.redirect_mark & ~want.mark_mask)
		return ds_throw_argument(env, "redirectMark", "must lie within markMask");

	snprintf(what, sizeof what, "%s listener on IPv%d port %u", want.is_tcp ? "TCP" : "UDP",
		 want.family == AF_INET6 ? 6 : 4, want.port);
	int fd = socket(want.family,
			(want.is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ds_throw_errno(env, errno, "socket", what);
	failed = configure(fd, &want);
	if (failed == NULL && !want.is_tcp)
		failed = configure_udp(fd, &want);
	if (failed == NULL)
		failed = bind_wildcard(fd, &want);
	if (failed != NULL) {
		int error = errno;
		close(fd);
		return ds_throw_errno(env, error, failed, what);
	}
	if (!ds_own_fd(args.ds, fd))
		return ds_throw_errno(env, errno, "realloc", what);
	return ds_u32(env, (uint32_t)fd);
}

/* guardListener(fd, mark_mask, redirect_mark): another guard in the place of the one that the socket has. */
napi_value ds_guard_listener(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 3);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	uint32_t mask = ds_arg_u32(&args, 1, "markMask", 0, UINT32_MAX);
	uint32_t mark = ds_arg_u32(&args, 2, "redirectMark", 0, UINT32_MAX);
	if (args.failed)
		return NULL;
	if (mark & ~mask)
		return ds_throw_argument(env, "redirectMark", "must lie within markMask");
	if (!ds_owns_fd(args.ds, fd))
		return ds_throw_errno(env, EBADF, "setsockopt", "guardListener of a foreign or closed fd");
	if (attach_mark_guard(fd, mask, mark) != 0)
		return ds_throw_errno(env, errno, "setsockopt(SO_ATTACH_FILTER, SO_ATTACH_BPF)",
				      "guardListener");
	return NULL;
}

/*
 * enlargeBuffers(fd, bytes): whether the socket has room for as much now; that of another process too, by a
 * descriptor of it. Needs CAP_NET_ADMIN. Never makes them smaller.
 */
napi_value ds_enlarge_buffers(napi_env env, napi_callback_info info)
{
	static const struct {
		int option, force_option;
	} buffers[] = {{SO_RCVBUF, SO_RCVBUFFORCE}, {SO_SNDBUF, SO_SNDBUFFORCE}};
	struct ds_args args;

	ds_args_begin(&args, env, info, 2);
	int fd = (int)ds_arg_u32(&args, 0, "fd", 0, INT32_MAX);
	uint32_t bytes = ds_arg_u32(&args, 1, "bytes", 1, 1u << 30);
	if (args.failed)
		return NULL;
	bool is_large = true;
	for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
		int now = 0;
		socklen_t length = sizeof now;

		/* The kernel counts twice what it was asked for (socket(7)). */
		if (getsockopt(fd, SOL_SOCKET, buffers[i].option, &now, &length) != 0 ||
		    (now / 2 < (int)bytes &&
		     set_int(fd, SOL_SOCKET, buffers[i].force_option, (int)bytes) != 0))
			is_large = false;
	}
	napi_value result;
	napi_get_boolean(env, is_large, &result);
	return result;
}
