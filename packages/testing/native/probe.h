/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The probe: one process inside a network namespace that sends, receives and serves what a test tells
 * it to. It must never outlive the test: it dies with its parent and at the end of its input.
 *
 * A request is one line on stdin, an answer one line on stdout:
 *     ID OPERATION key=value key=value ...
 *     ID ok key=value ...      |      ID error ERRNO-NAME text
 * Values hold no spaces; bytes are hex. Requests run at the same time; each is answered exactly once.
 * What outlives its request (listener, capture, kept connection) is named by the ID that made it.
 */
#ifndef TANDEM_PROBE_H
#define TANDEM_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	PROBE_LINE_BYTES_MAX = 512 * 1024, /* a datagram of 64 KiB as hex, several times over */
	PROBE_ARGUMENTS_MAX = 32,
	PROBE_WATCHES_MAX = 32768,
	PROBE_DATAGRAM_BYTES_MAX = 65536,
	PROBE_TIMEOUT_MS_MAX = 600000,
};

struct argument {
	const char *key;
	const char *value;
};

struct request {
	uint32_t id;
	const char *operation;
	size_t count;
	struct argument argument[PROBE_ARGUMENTS_MAX];
};

struct address {
	struct sockaddr_storage storage;
	socklen_t length;
};

/* A file descriptor in the event loop, at the start of what an operation keeps. */
struct watch {
	int fd;
	uint32_t id;          /* the request that made it */
	uint64_t deadline_ns; /* 0: none */
	bool is_dead;         /* freed after the current batch of events */
	bool is_handle;       /* outlives its request: `close` may name it */
	void (*on_ready)(struct watch *watch, uint32_t events);
	void (*on_deadline)(struct watch *watch);
	void (*on_cancel)(struct watch *watch); /* answers what still waits, before a `close` */
	void (*on_close)(struct watch *watch);  /* frees what hangs on it, not itself */
	struct watch *next, *previous;
};

/* loop.c */
uint64_t now_ns(void);
void *watch_new(size_t size, int fd, uint32_t id, uint32_t events);
void watch_events(struct watch *watch, uint32_t events);
void watch_close(struct watch *watch);
struct watch *watch_find(uint32_t id, void (*on_ready)(struct watch *, uint32_t));
int loop_run(void);

/* request.c */
bool request_parse(char *line, struct request *request);
const char *arg_text(const struct request *request, const char *key, const char *otherwise);
long arg_number(const struct request *request, const char *key, long otherwise);
uint8_t *arg_bytes(const struct request *request, const char *key, size_t *length);
bool arg_address(const struct request *request, const char *key, const char *port_key,
		 struct address *address);
uint64_t arg_deadline(const struct request *request, long otherwise_ms);

/* answer.c */
void answer_ok(uint32_t id);
void answer_field(const char *format, ...) __attribute__((format(printf, 1, 2)));
void answer_hex(const char *key, const uint8_t *bytes, size_t length);
void answer_address(const char *key, const struct sockaddr_storage *address);
void answer_end(void);
void answer_error(uint32_t id, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
size_t address_text(const struct sockaddr_storage *address, char *text, size_t size);

/* socket.c: options that every operation with a socket understands */
int socket_open(const struct request *request, int family, int type, int protocol);
int socket_connect(int fd, const struct address *peer);
uint16_t address_port(const struct sockaddr_storage *address);
struct address address_local(int fd);

/* frame.c */
int packet_socket(void);
bool packet_address(const struct request *request, struct address *address);

/* payload-filter.c */
int payload_filter(int fd, const uint8_t *prefix, size_t length);

/* Operations. Each answers its request, at once or later. */
void op_keep(const struct request *request);      /* request.c */
void op_udp(const struct request *request);       /* exchange.c */
void op_ping(const struct request *request);      /* exchange.c */
void op_tcp(const struct request *request);       /* stream.c */
void op_exchange(const struct request *request);  /* stream.c */
void op_listen(const struct request *request);    /* serve.c */
void op_bind(const struct request *request);      /* serve.c */
void op_frame(const struct request *request);     /* frame.c */
void op_frames(const struct request *request);    /* frame.c */
void op_partial(const struct request *request);   /* frame.c */
void op_ring(const struct request *request);      /* frame.c */
void op_raw(const struct request *request);       /* frame.c */
void op_capture(const struct request *request);   /* capture.c */
void op_captured(const struct request *request);  /* capture.c */
void op_sight(const struct request *request);     /* sightings.c */
void op_sighted(const struct request *request);   /* sightings.c */
void op_blast(const struct request *request);     /* blast.c */
void op_bulk(const struct request *request);      /* bulk.c */
void op_pour(const struct request *request);      /* pour.c */
void op_served(const struct request *request);    /* serve.c */

/* dns.c: only what `bulk` needs */
size_t dns_query(uint8_t *out, size_t size, uint16_t id, const char *name, uint16_t type);
int dns_first_address(const uint8_t *reply, size_t length, uint16_t type, uint8_t address[16]);

#endif
