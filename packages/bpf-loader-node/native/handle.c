/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The table of handles: what JavaScript has open in one environment. A handle number is
 * generation << 14 | index; the generation changes at each close, so a stale number is noticed.
 * Every fd in the table is the table's own (duplicated or created), close-on-exec.
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX_BITS       14u
#define INDEX_MASK       (HANDLES_MAX - 1)
#define GENERATION_MASK  0x1ffffu /* 17 bits: a handle number is a small integer of 31 bits */
#define HANDLES_INITIAL  64u

_Static_assert(HANDLES_MAX == 1u << INDEX_BITS, "a handle's index must fit its bits");

static const char *const kind_names[HANDLE_KINDS] = {
	"free", "ring buffer", "link", "program", "map", "object",
};

static bool table_grow(struct loader *loader)
{
	uint32_t capacity = loader->capacity == 0 ? HANDLES_INITIAL : loader->capacity * 2;
	struct handle *handles;

	if (capacity > HANDLES_MAX)
		return false;
	handles = realloc(loader->handles, capacity * sizeof(*handles));
	if (handles == NULL)
		return false;
	loader->handles = handles;
	for (uint32_t i = loader->capacity; i < capacity; i++) {
		handles[i] = (struct handle){
			.kind = HANDLE_FREE,
			.generation = 1,
			.next_free = i + 1,
			.fd = -1,
		};
	}
	loader->first_free = loader->capacity;
	loader->capacity = capacity;
	return true;
}

struct handle *handle_new(struct call *call, enum handle_kind kind, const char *name)
{
	struct loader *loader = call->loader;
	struct handle *handle;

	if (loader->first_free >= loader->capacity && !table_grow(loader)) {
		throw_errno(call, EMFILE, "open one more handle for", name, NULL);
		return NULL;
	}
	handle = &loader->handles[loader->first_free];
	loader->first_free = handle->next_free;
	handle->kind = kind;
	handle->fd = -1;
	snprintf(handle->name, sizeof(handle->name), "%s", name);
	return handle;
}

napi_value handle_number(struct loader *loader, const struct handle *handle)
{
	uint32_t index = (uint32_t)(handle - loader->handles);

	return make_u32(loader->env, handle->generation << INDEX_BITS | index);
}

void handle_close(struct loader *loader, struct handle *handle)
{
	switch (handle->kind) {
	case HANDLE_RING:
		ring_close(loader, handle->ring);
		handle->ring = NULL;
		break;
	case HANDLE_OBJECT:
		bpf_object__close(handle->object);
		handle->object = NULL;
		break;
	case HANDLE_LINK:
	case HANDLE_PROGRAM:
	case HANDLE_MAP:
		close(handle->fd);
		break;
	case HANDLE_FREE:
	case HANDLE_KINDS:
		return;
	}
	handle->fd = -1;
	handle->kind = HANDLE_FREE;
	handle->generation = (handle->generation + 1) & GENERATION_MASK;
	if (handle->generation == 0)
		handle->generation = 1;
	handle->next_free = loader->first_free;
	loader->first_free = (uint32_t)(handle - loader->handles);
}

void handle_close_all(struct loader *loader)
{
	for (int kind = HANDLE_RING; kind < HANDLE_KINDS; kind++) {
		for (uint32_t i = 0; i < loader->capacity; i++) {
			if (loader->handles[i].kind == (enum handle_kind)kind)
				handle_close(loader, &loader->handles[i]);
		}
	}
}

static struct handle *find_handle(struct loader *loader, uint32_t number)
{
	uint32_t index = number & INDEX_MASK;
	struct handle *handle;

	if (index >= loader->capacity)
		return NULL;
	handle = &loader->handles[index];
	if (handle->kind == HANDLE_FREE || handle->generation != number >> INDEX_BITS)
		return NULL;
	return handle;
}

static void throw_closed(struct call *call, const char *what)
{
	struct failure failure = {
		.code = "TANDEM_BPF_CLOSED",
		.action = "use",
		.object = what,
		.error = EBADF,
		.completed = -1,
	};

	throw_failure(call, &failure);
}

struct handle *argument_handle(struct call *call, size_t index, enum handle_kind kind)
{
	uint32_t number = 0;
	struct handle *handle;

	/* The hot path: no range check, since the table refuses every number that is not its own. */
	if (napi_get_value_uint32(call->env, call->values[index], &number) != napi_ok) {
		napi_throw_type_error(call->env, "TANDEM_BPF_ARGUMENT", "a handle must be a number");
		return NULL;
	}
	handle = find_handle(call->loader, number);
	if (handle == NULL || handle->kind != kind) {
		throw_closed(call, handle == NULL ? "a closed handle" : kind_names[handle->kind]);
		return NULL;
	}
	return handle;
}

/* A map, program or link: whatever has an fd. */
static struct handle *argument_fd_handle(struct call *call, size_t index)
{
	uint32_t number = 0;
	struct handle *handle;

	if (!argument_u32(call, index, "handle", &number))
		return NULL;
	handle = find_handle(call->loader, number);
	if (handle == NULL || handle->fd < 0) {
		throw_closed(call, "a closed handle");
		return NULL;
	}
	return handle;
}

static bool argument_fd_kind(struct call *call, size_t index, enum handle_kind *kind)
{
	uint32_t value;

	if (!argument_u32(call, index, "kind", &value))
		return false;
	if (value != HANDLE_LINK && value != HANDLE_PROGRAM && value != HANDLE_MAP) {
		throw_range(call, "kind must be that of a link, program or map, not %u", value);
		return false;
	}
	*kind = (enum handle_kind)value;
	return true;
}

int fd_duplicate(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/*
 * What an fd is. BPF_OBJ_GET_INFO_BY_FD answers for any kind with the same call, so only the name of
 * the anonymous inode tells a map from a program.
 */
static enum handle_kind fd_kind(int fd)
{
	char path[64], target[64];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/thread-self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return HANDLE_FREE;
	target[length] = '\0';
	if (strcmp(target, "anon_inode:bpf-map") == 0)
		return HANDLE_MAP;
	if (strcmp(target, "anon_inode:bpf-prog") == 0)
		return HANDLE_PROGRAM;
	if (strcmp(target, "anon_inode:bpf_link") == 0 || strcmp(target, "anon_inode:bpf-link") == 0)
		return HANDLE_LINK;
	return HANDLE_FREE;
}

static bool is_per_cpu(uint32_t type)
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

bool map_shape_read(int fd, struct map_shape *shape, char *name, size_t size)
{
	struct bpf_map_info info = { 0 };
	uint32_t length = sizeof(info);
	int cpus = 1;

	if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0)
		return false;
	if (is_per_cpu(info.type)) {
		cpus = libbpf_num_possible_cpus();
		if (cpus < 1) {
			errno = -cpus;
			return false;
		}
	}
	*shape = (struct map_shape){
		.type = info.type,
		.key_size = info.key_size,
		.value_size = info.value_size,
		.value_bytes = info.value_size,
		.max_entries = info.max_entries,
		.flags = info.map_flags,
	};
	if (is_per_cpu(info.type))
		shape->value_bytes = ((info.value_size + 7) & ~7u) * (uint32_t)cpus;
	snprintf(name, size, "%s", info.name);
	return true;
}

napi_value handle_adopt_fd(struct call *call, enum handle_kind kind, int fd, const char *name)
{
	char info_name[NAME_BYTES];
	struct map_shape shape = { 0 };
	struct handle *handle;

	if (fd_kind(fd) != kind) {
		struct failure failure = {
			.code = "TANDEM_BPF_KIND",
			.action = "open (it is no BPF map, program or link as asked for)",
			.object = name,
			.error = EINVAL,
			.completed = -1,
		};

		close(fd);
		return throw_failure(call, &failure);
	}
	snprintf(info_name, sizeof(info_name), "%s", name);
	if (kind == HANDLE_MAP && !map_shape_read(fd, &shape, info_name, sizeof(info_name))) {
		int error = errno;

		close(fd);
		return throw_errno(call, error, "read the shape of", name, "BPF_OBJ_GET_INFO_BY_FD");
	}
	/* The kernel keeps 15 characters of a name: the caller's longer one is better in messages. */
	handle = handle_new(call, kind, name[0] != '\0' && name[0] != '/' ? name : info_name);
	if (handle == NULL) {
		close(fd);
		return NULL;
	}
	handle->fd = fd;
	handle->map = shape;
	return handle_number(call->loader, handle);
}

EXPORTED(handle_close_js)
{
	struct call call;
	struct handle *handle;
	uint32_t number;

	if (!call_begin(env, info, 1, &call) || !argument_u32(&call, 0, "handle", &number))
		return NULL;
	handle = find_handle(call.loader, number);
	if (handle != NULL)
		handle_close(call.loader, handle);
	return NULL;
}

EXPORTED(handle_fd_js)
{
	struct call call;
	struct handle *handle;

	if (!call_begin(env, info, 1, &call))
		return NULL;
	handle = argument_fd_handle(&call, 0);
	return handle != NULL ? make_i32(env, handle->fd) : NULL;
}

/* handlePin(handle, path) */
EXPORTED(handle_pin)
{
	struct call call;
	struct handle *handle;
	char path[PATH_BYTES];

	if (!call_begin(env, info, 2, &call))
		return NULL;
	handle = argument_fd_handle(&call, 0);
	if (handle == NULL || !argument_string(&call, 1, "path", path, sizeof(path)))
		return NULL;
	if (bpf_obj_pin(handle->fd, path) != 0)
		return throw_errno(&call, errno, "pin", path, "BPF_OBJ_PIN");
	return NULL;
}

/* openPinned(kind, path, fileFlags) */
EXPORTED(open_pinned)
{
	LIBBPF_OPTS(bpf_obj_get_opts, options);
	enum handle_kind kind;
	struct call call;
	char path[PATH_BYTES];
	uint32_t flags;
	int fd;

	if (!call_begin(env, info, 3, &call) || !argument_fd_kind(&call, 0, &kind) ||
	    !argument_string(&call, 1, "path", path, sizeof(path)) ||
	    !argument_u32(&call, 2, "flags", &flags))
		return NULL;
	options.file_flags = flags;
	fd = bpf_obj_get_opts(path, &options);
	if (fd < 0)
		return throw_errno(&call, errno, "open pin", path, "BPF_OBJ_GET");
	return handle_adopt_fd(&call, kind, fd, path);
}

/* openFd(kind, fd): the caller keeps its fd */
EXPORTED(open_fd)
{
	enum handle_kind kind;
	struct call call;
	char name[32];
	int32_t fd;
	int own;

	if (!call_begin(env, info, 2, &call) || !argument_fd_kind(&call, 0, &kind) ||
	    !argument_i32(&call, 1, "fd", &fd))
		return NULL;
	snprintf(name, sizeof(name), "/fd/%d", fd);
	own = fd_duplicate(fd);
	if (own < 0)
		return throw_errno(&call, errno, "duplicate", name, "fcntl");
	return handle_adopt_fd(&call, kind, own, name);
}

/* openId(kind, id) */
EXPORTED(open_id)
{
	enum handle_kind kind;
	struct call call;
	char name[32];
	uint32_t id;
	int fd;

	if (!call_begin(env, info, 2, &call) || !argument_fd_kind(&call, 0, &kind) ||
	    !argument_u32(&call, 1, "id", &id))
		return NULL;
	snprintf(name, sizeof(name), "/id/%u", id);
	if (kind == HANDLE_MAP)
		fd = bpf_map_get_fd_by_id(id);
	else if (kind == HANDLE_PROGRAM)
		fd = bpf_prog_get_fd_by_id(id);
	else
		fd = bpf_link_get_fd_by_id(id);
	if (fd < 0)
		return throw_errno(&call, errno, "open by id", name, "BPF_GET_FD_BY_ID");
	return handle_adopt_fd(&call, kind, fd, name);
}

/* nextId(kind, id): the next id after this one, 0 when there is none */
EXPORTED(next_id)
{
	enum handle_kind kind;
	struct call call;
	uint32_t id, next = 0;
	int result;

	if (!call_begin(env, info, 2, &call) || !argument_fd_kind(&call, 0, &kind) ||
	    !argument_u32(&call, 1, "id", &id))
		return NULL;
	if (kind == HANDLE_MAP)
		result = bpf_map_get_next_id(id, &next);
	else if (kind == HANDLE_PROGRAM)
		result = bpf_prog_get_next_id(id, &next);
	else
		result = bpf_link_get_next_id(id, &next);
	if (result != 0 && errno != ENOENT)
		return throw_errno(&call, errno, "list ids of", "the kernel", "BPF_GET_NEXT_ID");
	return make_u32(env, result != 0 ? 0 : next);
}
