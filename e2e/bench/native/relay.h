/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
#ifndef TANDEM_RELAY_H
#define TANDEM_RELAY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { SOCKETS_PER_SERVER_MAX = 64 };

struct relay_options {
	uint16_t port, upstream_port;
	struct sockaddr_in6 upstream; /* or sockaddr_in; family 0: the original destination */
	unsigned sockets;             /* to each server */
	int mark;                     /* of the listeners' replies; 0: none */
	uint32_t guard_mask, guard_value;
};
extern struct relay_options options;

/* False: the command line makes no sense. */
bool relay_options_read(int argc, char **argv);

#endif
