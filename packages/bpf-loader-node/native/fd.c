/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Ways to an fd of a map, program or link: pins, ids, other threads' fds; and what such an fd is.
 * The kernel's answers decide kind and shape, not what the caller believes.
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int fd_duplicate(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/*
 * Kind of an fd. BPF_OBJ_GET_INFO_BY_FD answers for any kind with the same call, so only the name of the anonymous inode
 * tells a map from a program.
 */
enum handle_kind fd_kind(int fd)
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
