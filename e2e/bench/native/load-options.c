/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

struct load_options options = { .timeout_ns = 2000000000, .sockets = 64, .connect_every = 1,
			       .names = { .type = 1 } };

static bool read_server(const char *text)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&options.server;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		v4->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &options.server.sin6_addr) == 1)
		options.server.sin6_family = AF_INET6;
	return options.server.sin6_family != 0;
}

static const struct option known[] = {
	{ "server", required_argument, NULL, 's' },      { "port", required_argument, NULL, 'p' },
	{ "rate", required_argument, NULL, 'r' },        { "window", required_argument, NULL, 'w' },
	{ "seconds", required_argument, NULL, 't' },     { "count", required_argument, NULL, 'c' },
	{ "names", required_argument, NULL, 'n' },       { "name-format", required_argument, NULL, 'f' },
	{ "name-start", required_argument, NULL, 'a' },  { "name-count", required_argument, NULL, 'b' },
	{ "type", required_argument, NULL, 'y' },        { "edns", no_argument, NULL, 'e' },
	{ "sockets", required_argument, NULL, 'k' },     { "queries-per-port", required_argument, NULL, 'q' },
	{ "timeout-ms", required_argument, NULL, 'm' },  { "records", required_argument, NULL, 'l' },
	{ "connect-port", required_argument, NULL, 'o' },
	{ "connect-every", required_argument, NULL, 'v' },
	{ 0 },
};

bool load_options_read(int argc, char **argv)
{
	const char *file = NULL;
	uint16_t port = 53;
	bool has_server = false;
	double seconds = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		switch (option) {
		case 's': has_server = read_server(optarg); break;
		case 'p': port = (uint16_t)atoi(optarg); break;
		case 'r': options.rate = strtoull(optarg, NULL, 10); break;
		case 'w': options.window = strtoull(optarg, NULL, 10); break;
		case 't': seconds = strtod(optarg, NULL); break;
		case 'c': options.count = strtoull(optarg, NULL, 10); break;
		case 'n': file = optarg; break;
		case 'f': options.names.format = optarg; break;
		case 'a': options.names.start = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'b': options.names.count = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'y': options.names.type = strcmp(optarg, "AAAA") == 0 ? 28 : 1; break;
		case 'e': options.names.has_edns = true; break;
		case 'k': options.sockets = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'q': options.queries_per_port = (uint32_t)strtoul(optarg, NULL, 10); break;
		case 'm': options.timeout_ns = strtoull(optarg, NULL, 10) * 1000000u; break;
		case 'l': options.record_path = optarg; break;
		case 'o': options.connect_port = (uint16_t)atoi(optarg); break;
		case 'v': options.connect_every = (uint32_t)strtoul(optarg, NULL, 10); break;
		default: return false;
		}
	}
	if (options.connect_every == 0 || (options.connect_port != 0 && options.record_path == NULL))
		return false;
	options.server.sin6_port = htons(port);
	options.duration_ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : UINT64_MAX;
	if (options.count == 0)
		options.count = UINT64_MAX;
	if (options.count == UINT64_MAX && seconds <= 0)
		return false;
	if (options.names.format != NULL && strstr(options.names.format, "%u") == NULL)
		return false;
	if (options.names.format == NULL && (file == NULL || !names_read(&options.names, file)))
		return false;
	return has_server && (options.rate > 0) != (options.window > 0) && options.sockets > 0 &&
	       options.sockets <= SOCKETS_MAX;
}
