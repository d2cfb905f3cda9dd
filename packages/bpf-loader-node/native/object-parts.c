/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Maps and programs of a bpf_object by their names: set before it is loaded, and taken out of it after. What JavaScript
 * takes out has an fd of its own.
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <unistd.h>

/* Begins a call whose first arguments are an object and a name in it. */
static struct handle *object_begin(napi_env env, napi_callback_info info, size_t count,
				   struct call *call, const char *what, char *name)
{
	struct handle *handle = handle_begin(env, info, count, call, HANDLE_OBJECT);

	if (handle == NULL || !argument_string(call, 1, what, name, NAME_BYTES))
		return NULL;
	return handle;
}

static struct bpf_map *object_map_begin(napi_env env, napi_callback_info info, size_t count,
					struct call *call, char *name)
{
	struct handle *handle = object_begin(env, info, count, call, "map name", name);
	struct bpf_map *map;

	if (handle == NULL)
		return NULL;
	for (uint32_t i = 0; i < handle->map_count; i++)
		if (strcmp(handle->map_names[i].name, name) == 0)
			return handle->map_names[i].map;
	/* ".rodata" is the name of a section */
	map = bpf_object__find_map_by_name(handle->object, name);
	if (map == NULL)
		throw_missing(call, "find map", name);
	return map;
}

static struct bpf_program *object_program_begin(napi_env env, napi_callback_info info,
						size_t count, struct call *call, char *name)
{
	struct handle *handle = object_begin(env, info, count, call, "program name", name);
	struct bpf_program *program;

	if (handle == NULL)
		return NULL;
	program = bpf_object__find_program_by_name(handle->object, name);
	if (program == NULL)
		throw_missing(call, "find program", name);
	return program;
}

static napi_value adopt_duplicate(struct call *call, enum handle_kind kind, int fd,
				  const char *name)
{
	int own;

	if (fd < 0)
		return throw_state(call, "take out of an object that is not loaded:", name);
	own = fd_duplicate(fd);
	if (own < 0)
		return throw_errno(call, errno, "duplicate the fd of", name, "fcntl");
	return handle_adopt_fd(call, kind, own, name);
}

/* objectMap(handle, name): handle of the map */
EXPORTED(object_map)
{
	struct call call;
	char name[NAME_BYTES];
	struct bpf_map *map = object_map_begin(env, info, 2, &call, name);

	if (map == NULL)
		return NULL;
	return adopt_duplicate(&call, HANDLE_MAP, bpf_map__fd(map), name);
}

/* objectProgram(handle, name): handle of the program */
EXPORTED(object_program)
{
	struct call call;
	char name[NAME_BYTES];
	struct bpf_program *program = object_program_begin(env, info, 2, &call, name);

	if (program == NULL)
		return NULL;
	return adopt_duplicate(&call, HANDLE_PROGRAM, bpf_program__fd(program), name);
}

static bool is_same_shape(const struct bpf_map *map, const struct map_shape *shape)
{
	/* which the kernel gives maps of devices by itself, and refuses to be asked for */
	uint32_t kernels_own = bpf_map__type(map) == BPF_MAP_TYPE_DEVMAP ||
					       bpf_map__type(map) == BPF_MAP_TYPE_DEVMAP_HASH
				       ? BPF_F_RDONLY_PROG
				       : 0;

	return shape->type == bpf_map__type(map) && shape->key_size == bpf_map__key_size(map) &&
	       shape->value_size == bpf_map__value_size(map) &&
	       shape->max_entries == bpf_map__max_entries(map) &&
	       (shape->flags & ~kernels_own) == bpf_map__map_flags(map);
}

/* objectReusePin(handle, mapName, path) */
EXPORTED(object_reuse_pin)
{
	struct call call;
	char name[NAME_BYTES], path[PATH_BYTES], pinned_name[NAME_BYTES];
	struct bpf_map *map = object_map_begin(env, info, 3, &call, name);
	struct map_shape shape;
	int fd, result;

	if (map == NULL || !argument_string(&call, 2, "path", path, sizeof(path)))
		return NULL;
	if (bpf_map__fd(map) >= 0)
		return throw_state(&call, "reuse a pin after load for map", name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return throw_errno(&call, errno, "open pin", path, "BPF_OBJ_GET");
	/* libbpf takes over whatever shape the pin has; programs compiled for another would misread. */
	if (!map_shape_read(fd, &shape, pinned_name, sizeof(pinned_name)) ||
	    !is_same_shape(map, &shape)) {
		struct failure failure = {
			.code = "TANDEM_BPF_MISMATCH",
			.action = "reuse a pin of another shape:",
			.object = path,
			.error = EINVAL,
			.completed = -1,
		};

		close(fd);
		return throw_failure(&call, &failure);
	}
	result = bpf_map__reuse_fd(map, fd);
	close(fd);
	if (result != 0)
		return throw_errno(&call, -result, "reuse pin", path, "BPF_OBJ_GET_INFO_BY_FD");
	return NULL;
}

/* objectSetMaxEntries(handle, mapName, count) */
EXPORTED(object_set_max_entries)
{
	struct call call;
	char name[NAME_BYTES];
	struct bpf_map *map = object_map_begin(env, info, 3, &call, name);
	uint32_t count;
	int result;

	if (map == NULL || !argument_u32(&call, 2, "count", &count))
		return NULL;
	result = bpf_map__set_max_entries(map, count);
	if (result != 0)
		return throw_state(&call, "set, after load, the entries of map", name);
	return NULL;
}

/* objectSetAutoload(handle, programName, isLoaded) */
EXPORTED(object_set_autoload)
{
	struct call call;
	char name[NAME_BYTES];
	struct bpf_program *program = object_program_begin(env, info, 3, &call, name);
	bool is_loaded;

	if (program == NULL || !argument_bool(&call, 2, "isLoaded", &is_loaded))
		return NULL;
	if (bpf_program__set_autoload(program, is_loaded) != 0)
		return throw_state(&call, "set, after load, the loading of program", name);
	return NULL;
}
