/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
#include "relay.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdlib.h>

struct relay_options options = { .port = 5300, .upstream_port = 53, .sockets = 16 };

static bool read_upstream(const char *text)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&options.upstream;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		v4->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &options.upstream.sin6_addr) == 1)
		options.upstream.sin6_family = AF_INET6;
	else
		return false;
	return true;
}

bool relay_options_read(int argc, char **argv)
{
	static const struct option known[] = {
		{ "port", required_argument, NULL, 'p' },    { "upstream", required_argument, NULL, 'u' },
		{ "upstream-port", required_argument, NULL, 'q' }, { "sockets", required_argument, NULL, 's' },
		{ "mark", required_argument, NULL, 'm' },    { "guard", required_argument, NULL, 'g' },
		{ 0 },
	};
	char *end = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (option == 'p')
			options.port = (uint16_t)atoi(optarg);
		else if (option == 'q')
			options.upstream_port = (uint16_t)atoi(optarg);
		else if (option == 's')
			options.sockets = (unsigned)atoi(optarg);
		else if (option == 'm')
			options.mark = (int)strtol(optarg, NULL, 0);
		else if (option == 'g') {
			options.guard_mask = (uint32_t)strtoul(optarg, &end, 0);
			options.guard_value = *end == ':' ? (uint32_t)strtoul(end + 1, NULL, 0) : 0;
		} else if (option != 'u' || !read_upstream(optarg))
			return false;
	}
	options.upstream.sin6_port =
		options.upstream.sin6_family == 0 ? 0 : htons(options.upstream_port);
	return options.port != 0 && options.sockets > 0 && options.sockets <= SOCKETS_PER_SERVER_MAX;
}
