/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Node-API addon that moves datagrams in batches between the kernel and memory shared with
 * JavaScript. It decides nothing: it never reads a payload byte, and every word that JavaScript
 * writes is copied once, checked, and only then used.
 *
 * There is no static state: one struct ds_env of each Node-API environment (thread) owns all that is made there.
 */
#ifndef TANDEM_DNS_SOCKETS_H
#define TANDEM_DNS_SOCKETS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NAPI_VERSION 8

#include <netinet/in.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <uv.h>

/* Sizes and limits; src/layout.ts and src/limits.ts repeat them and compare at load. */
enum {
	DS_HEADER_WORDS      = 16,
	DS_RECORD_WORDS      = 16,
	DS_SLOTS_MAX         = 256,
	DS_TX_PER_SLOT       = 4,
	DS_SEND_BATCH        = 64,
	DS_ROUNDS_PER_WAKE   = 2,
	DS_ROUNDS_PER_WAKE_HEAVY = 1,
	DS_LOOPS_MAX         = 64,
	DS_SOCKETS_MAX       = 4096, /* per loop; a power of two: the low bits of a handle */
	DS_UNIX_MAX          = 256,  /* connections and listeners per environment */
	DS_UNIX_MESSAGE_MAX  = 65536,
	DS_UNIX_FDS_MAX      = 16,
	DS_UNIX_READS_MAX    = 16,  /* messages or connections per wake of one unix socket */
	DS_TCP_ACCEPTS_MAX   = 128, /* connections per wake of one TCP listener */
	DS_CONTROL_BYTES_MAX = 128,
	DS_NETLINK_MAX       = 16, /* sockets per environment */
	/* The kernel's dumps are at most 32 KiB, single messages far smaller. */
	DS_NETLINK_DATAGRAM_MAX = 65536,
	DS_NETLINK_BATCH_BYTES  = 131072,
	DS_NETLINK_READS_MAX    = 256, /* datagrams per wake of one socket */
	/* Layout of the metadata before a payload in the buffer: an address, then control messages. */
	DS_META_NAME_BYTES   = 32,
	DS_META_BYTES        = 128,
	DS_TICK_MS_MAX       = 60000,
};

enum ds_rx_flags {
	DS_RX_TRUNCATED   = 1u << 0, /* the datagram was longer than the record's capacity */
	DS_RX_DESTINATION = 1u << 1, /* destination and its port were reported by the kernel */
	DS_RX_REJECTED    = 1u << 2, /* offset and capacity left the buffer: the payload is lost */
};

/* Shared with JavaScript: header, then rx records, then tx records, in one buffer. */
struct ds_header {
	uint32_t tx_count; /* written by JavaScript, zeroed by the addon */
	uint32_t reserved0[3];
	double monotonic_ns; /* clocks when the batch was received */
	double boottime_ns;
	uint32_t reserved1[8];
};

struct ds_rx_record {
	uint32_t offset;   /* in: where the payload goes, in the payload buffer */
	uint32_t capacity; /* in: at most this many bytes */
	uint32_t length;   /* out */
	uint32_t flags;    /* out: ds_rx_flags */
	uint32_t peer_port;
	uint32_t destination_port;
	uint32_t ifindex;
	uint32_t reserved;
	uint8_t peer[16]; /* network order, IPv4 as ::ffff:a.b.c.d */
	uint8_t destination[16];
};

struct ds_tx_record {
	uint32_t handle;
	uint32_t offset;
	uint32_t length;
	uint32_t port;
	uint32_t ifindex; /* 0: the route decides */
	uint32_t result;  /* out: 0 or errno */
	uint32_t reserved[2];
	uint8_t destination[16];
	uint8_t source[16]; /* all zero: the kernel chooses */
};

_Static_assert(sizeof(struct ds_header) == DS_HEADER_WORDS * 4, "header layout");
_Static_assert(sizeof(struct ds_rx_record) == DS_RECORD_WORDS * 4, "rx layout");
_Static_assert(sizeof(struct ds_tx_record) == DS_RECORD_WORDS * 4, "tx layout");

/* One read of a word that another thread may be writing. */
#define DS_READ_ONCE(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)

/* Counters of one loop; the names are those of UdpLoopStats in src/udp-loop.ts. */
#define DS_COUNTERS(X)                                                                             \
	X(wakes)                                                                                   \
	X(batches)                                                                                 \
	X(received)                                                                                \
	X(receivedTruncated)                                                                       \
	X(receiveRejected)                                                                         \
	X(sendCalls)                                                                               \
	X(sent)                                                                                    \
	X(sendDropped)                                                                             \
	X(sendFailed)                                                                              \
	X(sendRejected)                                                                            \
	X(socketErrors)                                                                            \
	X(callbackFailures)

struct ds_counters {
#define X(name) uint64_t name;
	DS_COUNTERS(X)
#undef X
};

struct ds_env;
struct ds_loop;

union ds_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* The purpose of a socket; src/udp-loop.ts has the same order. */
enum ds_socket_kind { DS_LISTENER, DS_CONNECTED, DS_HEAVY_LISTENER, DS_LATE_CONNECTED, DS_SOCKET_KINDS };

struct ds_socket {
	struct ds_loop *loop;
	uint32_t handle;
	int fd; /* an own duplicate: no other code can close it under the poll */
	int family;
	enum ds_socket_kind kind;
	bool connected;
	bool watched;
	bool closing;
	bool errored; /* in loop->errored */
	int error;    /* asynchronous error met while sending, not yet reported */
	struct ds_socket *next_errored;
	struct ds_socket *next_closed;
	uint16_t peer_port;
	uint8_t peer[16];
};

struct ds_receiver {
	uint32_t offset[DS_SLOTS_MAX]; /* where the headers below point now */
	uint32_t capacity[DS_SLOTS_MAX];
	struct iovec iov[DS_SLOTS_MAX];
	bool rejected[DS_SLOTS_MAX];
	union ds_address name[DS_SLOTS_MAX];
	struct mmsghdr listener[DS_SLOTS_MAX];
	struct mmsghdr connected[DS_SLOTS_MAX];
	_Alignas(struct cmsghdr) uint8_t control[DS_SLOTS_MAX][DS_CONTROL_BYTES_MAX];
};

struct ds_control4 {
	struct cmsghdr header;
	struct in_pktinfo info;
} __attribute__((aligned(8)));

struct ds_control6 {
	struct cmsghdr header;
	struct in6_pktinfo info;
} __attribute__((aligned(8)));

struct ds_sender {
	uint32_t record[DS_SEND_BATCH]; /* tx record of each message of the run */
	struct iovec iov[DS_SEND_BATCH];
	struct mmsghdr connected[DS_SEND_BATCH];
	struct mmsghdr v4[DS_SEND_BATCH];
	struct mmsghdr v6[DS_SEND_BATCH];
	union ds_address name[DS_SEND_BATCH];
	struct ds_control4 control4[DS_SEND_BATCH];
	struct ds_control6 control6[DS_SEND_BATCH];
};

struct ds_loop {
	struct ds_env *env;
	uint32_t id;
	bool closing;
	uint8_t *payload;
	size_t payload_length;
	struct ds_header *header;
	struct ds_rx_record *rx;
	struct ds_tx_record *tx;
	uint32_t slots;
	uint32_t tx_capacity;
	bool metadata_in_payload;
	napi_ref payload_ref; /* the ArrayBuffer, to see that it was not detached */
	napi_ref control_ref;
	napi_ref on_batch;
	napi_ref on_socket_error;
	struct ds_loop *next_closed;
	uint32_t socket_count;
	struct ds_socket *errored;
	bool reporting;
	uint64_t removed_kernel_drops;
	struct ds_counters counters;
	uint32_t generation[DS_SOCKETS_MAX];
	struct ds_socket *sockets[DS_SOCKETS_MAX];
	struct ds_receiver receiver;
	struct ds_sender sender;
};

struct ds_unix {
	uv_poll_t poll;
	struct ds_env *env;
	uint32_t id;
	int fd;
	bool is_listener;
	bool closing;
	int accepts_max; /* of a listener, per wake */
	napi_ref on_event;
	dev_t device; /* of the listener's path, so that close removes no other's */
	ino_t inode;
	char path[108];
};

struct ds_netlink {
	uv_poll_t poll;
	struct ds_env *env;
	uint32_t id;
	int fd;
	bool closing;
	uint64_t loss_at; /* loop time (ms) of the last report of a loss that goes on; 0: none does */
	napi_ref on_event;
};

struct ds_owned_fd {
	int fd;
	ino_t inode; /* a number that was closed elsewhere and reused is not ours any more */
};

struct ds_env {
	napi_env env;
	uv_loop_t *uv;
	napi_async_cleanup_hook_handle cleanup;
	bool tearing_down;
	uint32_t open_handles; /* uv handles whose close callback has not run */
	napi_async_context async_context;
	/* poll.c: what the UDP sockets of all loops are waited for with */
	bool has_poll;
	int poll_fd, late_fd;
	uint32_t watched; /* sockets, and the tick */
	uv_prepare_t prepare;
	uv_idle_t idle;
	/* tick.c */
	uint32_t tick_ms;  /* 0: none */
	uint64_t tick_due; /* by uv_now */
	napi_ref on_tick;
	uint32_t entered; /* calls of ours that may be up the stack of JavaScript */
	struct ds_socket *closed_sockets;
	struct ds_loop *closed_loops;
	struct ds_loop *loops[DS_LOOPS_MAX];
	uint32_t loop_generation;
	struct ds_unix *unixes[DS_UNIX_MAX];
	uint32_t unix_generation;
	struct ds_netlink *netlinks[DS_NETLINK_MAX];
	uint32_t netlink_generation;
	struct ds_owned_fd *owned;
	size_t owned_count, owned_capacity;
	int reserve_fd; /* given up to accept and refuse a connection when fds have run out */
	uint8_t message[DS_UNIX_MESSAGE_MAX];
	uint8_t netlink_batch[DS_NETLINK_BATCH_BYTES];
};

/* error.c: reading arguments strictly; the first failure throws and makes the rest no-ops. */
struct ds_args {
	napi_env env;
	struct ds_env *ds;
	napi_value value[12];
	size_t count;
	bool failed;
};

bool ds_args_begin(struct ds_args *args, napi_env env, napi_callback_info info, size_t count);
uint32_t ds_arg_u32(struct ds_args *args, size_t index, const char *name, uint32_t low,
		    uint32_t high);
bool ds_arg_is_nullish(struct ds_args *args, size_t index);
void ds_arg_address(struct ds_args *args, size_t index, const char *name, uint8_t out[16]);
void ds_arg_string(struct ds_args *args, size_t index, const char *name, char *out, size_t size);
void ds_arg_function(struct ds_args *args, size_t index, const char *name);
napi_value ds_throw_errno(napi_env env, int error, const char *syscall, const char *what);
napi_value ds_throw_argument(napi_env env, const char *name, const char *problem);
napi_value ds_u32(napi_env env, uint32_t value);
void ds_uncaught(napi_env env);

/* fd.c: file descriptors that this environment closes at the latest when it ends. */
bool ds_own_fd(struct ds_env *ds, int fd);
bool ds_owns_fd(const struct ds_env *ds, int fd);
bool ds_disown_fd(struct ds_env *ds, int fd);
void ds_close_owned_fds(struct ds_env *ds);
void ds_address_to_bytes(const union ds_address *from, uint8_t bytes[16], uint16_t *port);
socklen_t ds_address_from_bytes(union ds_address *to, const uint8_t bytes[16], uint16_t port);
bool ds_is_v4(const uint8_t bytes[16]);
bool ds_is_unspecified(const uint8_t bytes[16]);
napi_value ds_close_fd(napi_env env, napi_callback_info info);
napi_value ds_release_fd(napi_env env, napi_callback_info info);
napi_value ds_duplicate_fd(napi_env env, napi_callback_info info);
napi_value ds_try_lock_fd(napi_env env, napi_callback_info info);
napi_value ds_local_port(napi_env env, napi_callback_info info);

/* file-writers.c */
napi_value ds_has_writer(napi_env env, napi_callback_info info);

/* listener.c, upstream.c */
int ds_set_buffer(int fd, int force_option, int plain_option, uint32_t bytes);
napi_value ds_create_listener(napi_env env, napi_callback_info info);
napi_value ds_guard_listener(napi_env env, napi_callback_info info);
napi_value ds_enlarge_buffers(napi_env env, napi_callback_info info);
napi_value ds_arm_fence(napi_env env, napi_callback_info info);
napi_value ds_create_upstream_tcp(napi_env env, napi_callback_info info);
napi_value ds_create_upstream_udp(napi_env env, napi_callback_info info);

/* loop.c */
napi_value ds_loop_create(napi_env env, napi_callback_info info);
napi_value ds_loop_add(napi_env env, napi_callback_info info);
napi_value ds_loop_remove(napi_env env, napi_callback_info info);
napi_value ds_loop_memory(napi_env env, napi_callback_info info);
napi_value ds_loop_flush(napi_env env, napi_callback_info info);
napi_value ds_loop_stats(napi_env env, napi_callback_info info);
napi_value ds_loop_close(napi_env env, napi_callback_info info);
void ds_loop_shut(struct ds_loop *loop, bool delete_references);
struct ds_socket *ds_loop_socket(struct ds_loop *loop, uint32_t handle);

/* receive.c, send.c, deliver.c */
void ds_receiver_init(struct ds_receiver *receiver);
int ds_receive(struct ds_loop *loop, struct ds_socket *socket);
void ds_sender_init(struct ds_sender *sender);
uint32_t ds_send_all(struct ds_loop *loop);
void ds_on_readable(struct ds_socket *socket);
uint32_t ds_send_and_report(struct ds_loop *loop);
bool ds_payload_is_usable(struct ds_loop *loop);

/* poll.c */
int ds_wait_begin(struct ds_env *ds);
void ds_wait_end(struct ds_env *ds);
int ds_watch(struct ds_socket *socket);
void ds_unwatch(struct ds_socket *socket);
void ds_close_poll(struct ds_env *ds);
void ds_enter(struct ds_env *ds);
void ds_leave(struct ds_env *ds);
void ds_free_closed(struct ds_env *ds);

/* tick.c */
int ds_tick_timeout(const struct ds_env *ds, int timeout);
void ds_tick(struct ds_env *ds);
napi_value ds_tick_start(napi_env env, napi_callback_info info);
napi_value ds_tick_stop(napi_env env, napi_callback_info info);

/* unix.c, unix-listen.c */
struct ds_unix *ds_unix_open(struct ds_args *args, int fd, bool is_listener, size_t callback);
void ds_unix_shut(struct ds_unix *unix_socket, bool delete_references);
void ds_unix_emit(struct ds_unix *unix_socket, uint32_t event, napi_value first, napi_value second);
void ds_unix_remove_path(struct ds_unix *listener);
void ds_unix_on_connection(uv_poll_t *poll, int status, int events);
napi_value ds_unix_listen(napi_env env, napi_callback_info info);
napi_value ds_unix_connect(napi_env env, napi_callback_info info);
napi_value ds_unix_adopt(napi_env env, napi_callback_info info);
napi_value ds_unix_send(napi_env env, napi_callback_info info);
napi_value ds_unix_close(napi_env env, napi_callback_info info);
napi_value ds_peer_credentials(napi_env env, napi_callback_info info);
napi_value ds_tcp_listen(napi_env env, napi_callback_info info);
napi_value ds_tcp_addresses(napi_env env, napi_callback_info info);
napi_value ds_tcp_reset_on_close(napi_env env, napi_callback_info info);

/* Events of a unix socket; src/unix-seqpacket.ts repeats them. */
enum { DS_UNIX_MESSAGE = 0, DS_UNIX_END = 1, DS_UNIX_ERROR = 2, DS_UNIX_CONNECTION = 3 };

/* netlink.c */
void ds_netlink_shut(struct ds_netlink *netlink, bool delete_references);
napi_value ds_netlink_open(napi_env env, napi_callback_info info);
napi_value ds_netlink_join(napi_env env, napi_callback_info info);
napi_value ds_netlink_send(napi_env env, napi_callback_info info);
napi_value ds_netlink_receive(napi_env env, napi_callback_info info);
napi_value ds_netlink_close(napi_env env, napi_callback_info info);

/* Events of a netlink socket; src/netlink-socket.ts repeats them. */
enum { DS_NETLINK_MESSAGES = 0, DS_NETLINK_OVERRUN = 1, DS_NETLINK_ERROR = 2 };

/* clock.c */
void ds_clock_now(double *monotonic_ns, double *boottime_ns);
napi_value ds_clock_into(napi_env env, napi_callback_info info);

/* memory.c */
napi_value ds_trim_heap(napi_env env, napi_callback_info info);

/* privileges.c */
napi_value ds_execute_as(napi_env env, napi_callback_info info);

/* module.c */
void ds_handle_closed(struct ds_env *ds);
#endif
