/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Shared declarations of the libbpf binding. One `struct loader` exists per Node environment (main
 * thread or worker) and owns a table of handles; JavaScript holds numbers, never pointers, so a
 * closed or foreign handle is an error and cannot be a fault. There is no global state, except
 * libbpf's print callback, which writes to a buffer of the calling thread (error.c).
 */
#ifndef TANDEM_LOADER_H
#define TANDEM_LOADER_H

#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <node_api.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- limits ------------------------------------------------------------------------------- */
#define HANDLES_MAX     16384u /* open handles of one environment: 14 bits of a handle number */
#define NAME_BYTES      64u    /* of a map, program or object in messages, with the final zero */
#define PATH_BYTES      4096u
#define OBJECT_FILE_BYTES_MAX (64 * 1024 * 1024)
#define LOG_TAIL_BYTES  65536u /* of libbpf's messages and the verifier's log, kept in an error */
#define ARGUMENTS_MAX   8u
#define PIN_WORK_MAX    16u /* interfaces of one call: the thread that works on them cannot be stopped */

/* ---- kernel ABI that Debian 12's headers (6.1) lack --------------------------------------- */
#define TD_PROG_TYPE_NETFILTER 32u
#define TD_ATTACH_NETFILTER    45u
#define TD_ATTACH_TCX_INGRESS  46u
#define TD_ATTACH_TCX_EGRESS   47u
#define TD_LINK_TYPE_CGROUP    3u
#define TD_LINK_TYPE_NETFILTER 10u
#define TD_LINK_TYPE_TCX       11u

/* ---- open objects ------------------------------------------------------------------------- */
/* The order is the order of closing at exit: users come before the objects that they use. */
enum handle_kind {
	HANDLE_FREE = 0,
	HANDLE_RING = 1,
	HANDLE_LINK = 2,
	HANDLE_PROGRAM = 3,
	HANDLE_MAP = 4,
	HANDLE_OBJECT = 5,
	HANDLE_KINDS = 6,
};

struct bpf_object;
struct bpf_map;
struct ring;

/* A map of an object under the name that the object declares: libbpf renames what it reuses as its pin is named. */
struct map_name {
	struct bpf_map *map;
	char name[NAME_BYTES];
};

struct map_shape {
	uint32_t type;
	uint32_t key_size;
	uint32_t value_size;  /* as declared */
	uint32_t value_bytes; /* what one lookup copies: all CPUs of a per-CPU map */
	uint32_t max_entries;
	uint32_t flags;
};

struct handle {
	enum handle_kind kind;
	uint32_t generation;
	uint32_t next_free; /* index, while free */
	int fd;             /* owned; -1 for objects and rings */
	char name[NAME_BYTES];
	union {
		struct {
			struct bpf_object *object;
			struct map_name *map_names; /* map_count of them, owned */
			uint32_t map_count;
		};
		struct map_shape map;
		struct ring *ring;
	};
};

struct loader {
	napi_env env;
	struct handle *handles;
	uint32_t capacity;
	uint32_t first_free; /* index; capacity = none */
	napi_ref error_class;
	napi_async_cleanup_hook_handle cleanup;
	bool is_exiting;
	uint32_t rings_closing; /* uv handles whose close callback is still to come */
};

/* ---- arguments of one call (argument.c) ----------------------------------------------------- */
struct call {
	napi_env env;
	struct loader *loader;
	size_t count;
	napi_value values[ARGUMENTS_MAX];
};

struct bytes {
	uint8_t *data; /* may be NULL when length is 0 */
	size_t length;
};

struct words {
	uint32_t *data; /* may be NULL when length is 0 */
	size_t length;  /* in words */
};

/* Each getter throws a TypeError or RangeError and returns false when the argument is not right. */
bool call_begin(napi_env env, napi_callback_info info, size_t count, struct call *call);
bool argument_u32(struct call *call, size_t index, const char *name, uint32_t *value);
bool argument_i32(struct call *call, size_t index, const char *name, int32_t *value);
bool argument_bool(struct call *call, size_t index, const char *name, bool *value);
bool argument_bytes(struct call *call, size_t index, const char *name, struct bytes *bytes);
/* Like argument_bytes; null and undefined give {NULL, 0}. */
bool argument_optional_bytes(struct call *call, size_t index, const char *name, struct bytes *bytes);
bool argument_words(struct call *call, size_t index, const char *name, struct words *words);
bool argument_bytes_exact(struct call *call, size_t index, const char *name, size_t length,
			  uint8_t **data);
bool argument_string(struct call *call, size_t index, const char *name, char *text, size_t size);
bool is_nullish(struct call *call, size_t index);
/* Throws a RangeError with code TANDEM_BPF_ARGUMENT; returns NULL. */
napi_value throw_range(struct call *call, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Results. */
napi_value make_u32(napi_env env, uint32_t value);
napi_value make_i32(napi_env env, int32_t value);
napi_value make_bool(napi_env env, bool value);
napi_value make_string(napi_env env, const char *text);
napi_value make_bytes(napi_env env, const void *data, size_t length);
void set_u32(napi_env env, napi_value object, const char *key, uint32_t value);
void set_i32(napi_env env, napi_value object, const char *key, int32_t value);
void set_u64(napi_env env, napi_value object, const char *key, uint64_t value);
void set_string(napi_env env, napi_value object, const char *key, const char *text);

/* ---- errors (error.c) ----------------------------------------------------------------------- */
struct failure {
	const char *code;    /* NULL = by errno */
	const char *action;  /* "load", "update": verb of the message */
	const char *object;  /* name of the thing */
	const char *syscall; /* NULL = none */
	int error;           /* errno, positive; 0 = none */
	const char *log;     /* libbpf's messages; NULL = none */
	int64_t completed;   /* of a batch: elements done before the error; -1 = not a batch */
};

/* A BpfError; NULL with an exception pending where none can be made. */
napi_value make_failure(struct call *call, const struct failure *failure);
/* Throws it; returns NULL. */
napi_value throw_failure(struct call *call, const struct failure *failure);
/* The usual case: a failed system call on a named thing. */
napi_value throw_errno(struct call *call, int error, const char *action, const char *object,
		       const char *syscall);

/* Too early or too late: before or after load. */
napi_value throw_state(struct call *call, const char *action, const char *object);
/* No such name in the object. */
napi_value throw_missing(struct call *call, const char *action, const char *object);

/* The messages that libbpf prints on this thread between begin and end: the last LOG_TAIL_BYTES. */
struct log_capture {
	char *text; /* NULL when memory was short: messages are then dropped */
	size_t length;
	struct log_capture *outer;
};

void log_setup(void);
void log_begin(struct log_capture *capture);
/* Stops capturing; the text stays until log_free. */
void log_end(struct log_capture *capture);
void log_free(struct log_capture *capture);

/* ---- handles (handle.c) ------------------------------------------------------------------- */
/* A new handle, or NULL with an error thrown. Pointers to handles last until the next handle_new. */
struct handle *handle_new(struct call *call, enum handle_kind kind, const char *name);
napi_value handle_number(struct loader *loader, const struct handle *handle);
void handle_close(struct loader *loader, struct handle *handle);
void handle_close_all(struct loader *loader);
/* NULL with an error thrown when the argument is not an open handle of the kind. */
struct handle *argument_handle(struct call *call, size_t index, enum handle_kind kind);
/* Begins a call whose first argument is a handle of this kind. NULL: an exception is pending. */
struct handle *handle_begin(napi_env env, napi_callback_info info, size_t count, struct call *call,
			    enum handle_kind kind);
/* A map, program or link: a kind that has an fd. */
struct handle *argument_fd_handle(struct call *call, size_t index);

/* ---- fds (fd.c) ----------------------------------------------------------------------------- */
/* Kind of a map, program or link; HANDLE_FREE for any other fd. */
enum handle_kind fd_kind(int fd);
/* Makes a handle of a map, program or link fd, which it then owns, on failure too (closed). */
napi_value handle_adopt_fd(struct call *call, enum handle_kind kind, int fd, const char *name);
/* Duplicates close-on-exec; -1 with errno. */
int fd_duplicate(int fd);
/* Reads a map's shape and name through BPF_OBJ_GET_INFO_BY_FD; false with errno. */
bool map_shape_read(int fd, struct map_shape *shape, char *name, size_t size);

/* ---- files (file.c) ------------------------------------------------------------------------- */
/* The whole of a regular file, to be freed; NULL with errno. */
void *file_read(const char *path, size_t *length);

/* ---- rings (ringbuf.c) ---------------------------------------------------------------------- */
void ring_close(struct loader *loader, struct ring *ring);
/* Called when the last ring's uv handle is gone during exit (module.c). */
void loader_exit_finish(struct loader *loader);

/* ---- raw bpf(2) for what libbpf 1.1 lacks (link.c) ------------------------------------------- */
struct netfilter_hook {
	uint32_t family;
	uint32_t hook;
	int32_t priority;
	uint32_t flags;
};

struct tcx_anchor {
	uint32_t flags;    /* BPF_F_BEFORE, AFTER, ID, LINK, REPLACE */
	uint32_t relative; /* fd or id, 0 = none */
	uint64_t revision; /* expected, 0 = any */
};

/* Where a link is attached; ifindex 0: it is no tcx link, or its interface is gone. */
struct tcx_place {
	uint32_t ifindex;
	uint32_t attach_type;
	uint32_t program_id;
};

/* 0, or -errno. */
int link_tcx_place(int fd, struct tcx_place *place);
/* A link's fd, or -errno. */
int link_create_netfilter(int program_fd, const struct netfilter_hook *hook);
int link_create_tcx(int program_fd, uint32_t ifindex, uint32_t attach_type,
		    const struct tcx_anchor *anchor);
int link_create_cgroup(int program_fd, int cgroup_fd, uint32_t attach_type);

/* ---- functions exported to JavaScript ------------------------------------------------------- */
#define EXPORTED(name) napi_value name(napi_env env, napi_callback_info info)
EXPORTED(set_error_class);
EXPORTED(handle_close_js);
EXPORTED(handle_fd_js);
EXPORTED(handle_pin);
EXPORTED(open_pinned);
EXPORTED(open_fd);
EXPORTED(open_id);
EXPORTED(next_id);
EXPORTED(object_open);
EXPORTED(object_load);
EXPORTED(object_maps);
EXPORTED(object_programs);
EXPORTED(object_map);
EXPORTED(object_program);
EXPORTED(object_set_rodata);
EXPORTED(object_reuse_pin);
EXPORTED(object_set_max_entries);
EXPORTED(object_set_autoload);
EXPORTED(object_btf);
EXPORTED(map_create);
EXPORTED(map_info);
EXPORTED(map_lookup);
EXPORTED(map_update);
EXPORTED(map_delete);
EXPORTED(map_next_key);
EXPORTED(map_update_batch);
EXPORTED(map_delete_batch);
EXPORTED(map_lookup_batch);
EXPORTED(map_mmap);
EXPORTED(map_freeze);
EXPORTED(buffer_detach);
EXPORTED(program_info);
EXPORTED(program_test_run);
EXPORTED(program_run_syscall);
EXPORTED(link_attach_tcx);
EXPORTED(link_ensure_tcx_pins);
EXPORTED(link_attach_netfilter);
EXPORTED(link_attach_cgroup);
EXPORTED(link_update);
EXPORTED(link_detach);
EXPORTED(link_info);
EXPORTED(tcx_query);
EXPORTED(reuseport_attach);
EXPORTED(reuseport_detach);
EXPORTED(ring_open);
EXPORTED(ring_consume);
EXPORTED(ring_commit);
EXPORTED(ring_rewind);
EXPORTED(ring_stats);
EXPORTED(ring_set_ref);
EXPORTED(feature_probe);
EXPORTED(netfilter_is_taken);
EXPORTED(feature_names);
EXPORTED(netns_cookie);
EXPORTED(interface_index);

#endif
