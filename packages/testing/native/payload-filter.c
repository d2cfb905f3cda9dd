/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Filter of a packet socket: frames are queued only if their UDP or TCP payload begins with given bytes, over IPv4 or over
 * IPv6 without extension headers, and frames of VXLAN, which may hold such a one. A capture that is queued only what it
 * counts loses nothing of it to other traffic.
 */
#include "probe.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

enum { VXLAN_PORT = 8472, FRAME_BYTES_MAX = 0x40000, PREFIX_BYTES_MAX = 16, COMPARE_MAX = 2 * PREFIX_BYTES_MAX };

/* X is the offset of the payload, less ETH_HLEN; a load behind the frame's end leaves it out. */
static const struct sock_filter find_payload[] = {
	BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 3),
	BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, ETH_HLEN),
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ETH_HLEN + 9),
	BPF_STMT(BPF_JMP | BPF_JA, 4),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, 0),
	BPF_STMT(BPF_LDX | BPF_IMM, 40),
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ETH_HLEN + 6),
	/* A is the protocol, X the length of the network header */
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 5),
	BPF_STMT(BPF_LD | BPF_H | BPF_IND, ETH_HLEN + 2),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, VXLAN_PORT, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, FRAME_BYTES_MAX),
	BPF_STMT(BPF_LD | BPF_IMM, 8),
	BPF_STMT(BPF_JMP | BPF_JA, 5),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, 0),
	BPF_STMT(BPF_LD | BPF_B | BPF_IND, ETH_HLEN + 12),
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0),
	BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 2),
	/* A is the length of the transport header */
	BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
	BPF_STMT(BPF_MISC | BPF_TAX, 0),
};

/* 0, or -1 with errno. */
int payload_filter(int fd, const uint8_t *prefix, size_t length)
{
	enum { FOUND = sizeof(find_payload) / sizeof(find_payload[0]) };
	struct sock_filter code[FOUND + COMPARE_MAX + 2];
	size_t count = FOUND;

	if (length > PREFIX_BYTES_MAX)
		length = PREFIX_BYTES_MAX;
	memcpy(code, find_payload, sizeof(find_payload));
	for (size_t i = 0; i < length; i++) {
		uint8_t to_end = (uint8_t)(2 * (length - i) - 1);

		code[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_IND, ETH_HLEN + (uint32_t)i);
		code[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, prefix[i], 0, to_end);
	}
	code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, FRAME_BYTES_MAX);
	code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { .len = (unsigned short)count, .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}
