/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Maps. Every buffer that the kernel reads or writes is checked against the map's own shape, read from
 * the kernel when the handle was made, so no argument of JavaScript can make the kernel run past it.
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#define BATCH_TOKEN_BYTES_MIN 4u /* hash maps keep a bucket number in the token, others a key */

/* The kernel wants no key pointer for keyless maps (queues). */
static void *key_pointer(const struct handle *handle, uint8_t *key)
{
	return handle->map.key_size == 0 ? NULL : key;
}

/* mapCreate(type, name, keySize, valueSize, maxEntries, flags): handle */
EXPORTED(map_create)
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	struct call call;
	char name[NAME_BYTES];
	uint32_t type, key_size, value_size, max_entries, flags;
	int fd;

	if (!call_begin(env, info, 6, &call) || !argument_u32(&call, 0, "type", &type) ||
	    !argument_string(&call, 1, "name", name, sizeof(name)) ||
	    !argument_u32(&call, 2, "keySize", &key_size) ||
	    !argument_u32(&call, 3, "valueSize", &value_size) ||
	    !argument_u32(&call, 4, "maxEntries", &max_entries) ||
	    !argument_u32(&call, 5, "flags", &flags))
		return NULL;
	options.map_flags = flags;
	fd = bpf_map_create(type, name, key_size, value_size, max_entries, &options);
	if (fd < 0)
		return throw_errno(&call, errno, "create map", name, "BPF_MAP_CREATE");
	return handle_adopt_fd(&call, HANDLE_MAP, fd, name);
}

/* mapInfo(handle) */
EXPORTED(map_info)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 1, &call, HANDLE_MAP);
	struct bpf_map_info facts = { 0 };
	uint32_t length = sizeof(facts);
	napi_value result;

	if (handle == NULL)
		return NULL;
	if (bpf_obj_get_info_by_fd(handle->fd, &facts, &length) != 0)
		return throw_errno(&call, errno, "read facts of map", handle->name,
				   "BPF_OBJ_GET_INFO_BY_FD");
	napi_create_object(env, &result);
	set_u32(env, result, "id", facts.id);
	set_string(env, result, "name", handle->name);
	set_u32(env, result, "type", handle->map.type);
	set_u32(env, result, "keySize", handle->map.key_size);
	set_u32(env, result, "valueSize", handle->map.value_size);
	set_u32(env, result, "valueBytes", handle->map.value_bytes);
	set_u32(env, result, "maxEntries", handle->map.max_entries);
	set_u32(env, result, "flags", handle->map.flags);
	return result;
}

/* mapLookup(handle, key, value, flags): found */
EXPORTED(map_lookup)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 4, &call, HANDLE_MAP);
	uint8_t *key, *value;
	uint32_t flags;

	if (handle == NULL ||
	    !argument_bytes_exact(&call, 1, "key", handle->map.key_size, &key) ||
	    !argument_bytes_exact(&call, 2, "value", handle->map.value_bytes, &value) ||
	    !argument_u32(&call, 3, "flags", &flags))
		return NULL;
	if (bpf_map_lookup_elem_flags(handle->fd, key_pointer(handle, key), value, flags) == 0)
		return make_bool(env, true);
	if (errno == ENOENT)
		return make_bool(env, false);
	return throw_errno(&call, errno, "look up in map", handle->name, "BPF_MAP_LOOKUP_ELEM");
}

/* mapUpdate(handle, key, value, flags) */
EXPORTED(map_update)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 4, &call, HANDLE_MAP);
	uint8_t *key, *value;
	uint32_t flags;

	if (handle == NULL ||
	    !argument_bytes_exact(&call, 1, "key", handle->map.key_size, &key) ||
	    !argument_bytes_exact(&call, 2, "value", handle->map.value_bytes, &value) ||
	    !argument_u32(&call, 3, "flags", &flags))
		return NULL;
	if (bpf_map_update_elem(handle->fd, key_pointer(handle, key), value, flags) != 0)
		return throw_errno(&call, errno, "update map", handle->name, "BPF_MAP_UPDATE_ELEM");
	return NULL;
}

/* mapDelete(handle, key): was there */
EXPORTED(map_delete)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 2, &call, HANDLE_MAP);
	uint8_t *key;

	if (handle == NULL ||
	    !argument_bytes_exact(&call, 1, "key", handle->map.key_size, &key))
		return NULL;
	if (bpf_map_delete_elem(handle->fd, key_pointer(handle, key)) == 0)
		return make_bool(env, true);
	if (errno == ENOENT)
		return make_bool(env, false);
	return throw_errno(&call, errno, "delete from map", handle->name, "BPF_MAP_DELETE_ELEM");
}

/* mapNextKey(handle, key | null, next): is there one */
EXPORTED(map_next_key)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 3, &call, HANDLE_MAP);
	uint8_t *key = NULL, *next;

	if (handle == NULL)
		return NULL;
	if (!is_nullish(&call, 1) &&
	    !argument_bytes_exact(&call, 1, "key", handle->map.key_size, &key))
		return NULL;
	if (!argument_bytes_exact(&call, 2, "next", handle->map.key_size, &next))
		return NULL;
	if (bpf_map_get_next_key(handle->fd, key, next) == 0)
		return make_bool(env, true);
	if (errno == ENOENT)
		return make_bool(env, false);
	return throw_errno(&call, errno, "iterate map", handle->name, "BPF_MAP_GET_NEXT_KEY");
}

/* A buffer of `count` elements of `size` bytes, or longer. */
static bool argument_elements(struct call *call, size_t index, const char *name, uint32_t count,
			      uint32_t size, uint8_t **data)
{
	struct bytes bytes;

	if (!argument_bytes(call, index, name, &bytes))
		return false;
	if (bytes.length < (size_t)count * size) {
		throw_range(call, "%s must have at least %zu bytes for %u elements, not %zu", name,
			    (size_t)count * size, count, bytes.length);
		return false;
	}
	*data = bytes.data;
	return true;
}

static napi_value throw_batch(struct call *call, const struct handle *handle, const char *action,
			      const char *syscall, uint32_t completed)
{
	struct failure failure = {
		.action = action,
		.object = handle->name,
		.syscall = syscall,
		.error = errno,
		.completed = completed,
	};

	return throw_failure(call, &failure);
}

/* mapUpdateBatch(handle, keys, values, count, flags) */
EXPORTED(map_update_batch)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	struct call call;
	struct handle *handle = handle_begin(env, info, 5, &call, HANDLE_MAP);
	uint8_t *keys, *values;
	uint32_t count, done, flags;

	if (handle == NULL || !argument_u32(&call, 3, "count", &count) ||
	    !argument_elements(&call, 1, "keys", count, handle->map.key_size, &keys) ||
	    !argument_elements(&call, 2, "values", count, handle->map.value_bytes, &values) ||
	    !argument_u32(&call, 4, "flags", &flags))
		return NULL;
	done = count;
	options.elem_flags = flags;
	if (count > 0 && bpf_map_update_batch(handle->fd, keys, values, &done, &options) != 0)
		/* Refused before it began (no such operation): the kernel then leaves the count. */
		return throw_batch(&call, handle, "update a batch of map", "BPF_MAP_UPDATE_BATCH",
				   done < count ? done : 0);
	return NULL;
}

/* mapDeleteBatch(handle, keys, count) */
EXPORTED(map_delete_batch)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	struct call call;
	struct handle *handle = handle_begin(env, info, 3, &call, HANDLE_MAP);
	uint8_t *keys;
	uint32_t count, done;

	if (handle == NULL || !argument_u32(&call, 2, "count", &count) ||
	    !argument_elements(&call, 1, "keys", count, handle->map.key_size, &keys))
		return NULL;
	done = count;
	if (count > 0 && bpf_map_delete_batch(handle->fd, keys, &done, &options) != 0)
		return throw_batch(&call, handle, "delete a batch from map", "BPF_MAP_DELETE_BATCH",
				   done < count ? done : 0);
	return NULL;
}

/*
 * mapLookupBatch(handle, isFirst, token, keys, values, count): elements read; when there are no more
 * after them, -1 - elements. `token` carries the position from call to call.
 */
EXPORTED(map_lookup_batch)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	struct call call;
	struct handle *handle = handle_begin(env, info, 6, &call, HANDLE_MAP);
	uint8_t *keys, *values, *token;
	uint32_t count, done, token_bytes;
	bool is_first;

	if (handle == NULL)
		return NULL;
	token_bytes = handle->map.key_size > BATCH_TOKEN_BYTES_MIN ? handle->map.key_size :
								     BATCH_TOKEN_BYTES_MIN;
	if (!argument_bool(&call, 1, "isFirst", &is_first) ||
	    !argument_bytes_exact(&call, 2, "token", token_bytes, &token) ||
	    !argument_u32(&call, 5, "count", &count) ||
	    !argument_elements(&call, 3, "keys", count, handle->map.key_size, &keys) ||
	    !argument_elements(&call, 4, "values", count, handle->map.value_bytes, &values))
		return NULL;
	if (count == 0 || count > INT32_MAX)
		return throw_range(&call, "count must be 1 to %d, not %u", INT32_MAX, count);
	done = count;
	if (bpf_map_lookup_batch(handle->fd, is_first ? NULL : token, token, keys, values, &done,
				 &options) == 0)
		return make_i32(env, (int32_t)done);
	if (errno == ENOENT)
		return make_i32(env, -1 - (int32_t)done);
	return throw_batch(&call, handle, "look up a batch of map", "BPF_MAP_LOOKUP_BATCH",
			   done < count ? done : 0);
}

/* Bytes of the page before this place: whole pages are mapped, of 4 KiB on most kernels, of 16 or 64 KiB on some of arm64. */
static size_t page_before(uintptr_t place)
{
	return place % (uintptr_t)sysconf(_SC_PAGESIZE);
}

static void unmap(napi_env env, void *data, void *hint)
{
	size_t before = page_before((uintptr_t)data);

	(void)env;
	munmap((uint8_t *)data - before, (size_t)(uintptr_t)hint + before);
}

/*
 * mapMmap(handle, offset, length): ArrayBuffer over so many bytes of the map's memory, from `offset` on; length 0 is all from
 * there. The buffer keeps the memory until it is collected.
 */
EXPORTED(map_mmap)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 3, &call, HANDLE_MAP);
	napi_value buffer = NULL;
	napi_status status;
	uint32_t offset, wanted;
	size_t length, before;
	uint8_t *data;

	if (handle == NULL || !argument_u32(&call, 1, "offset", &offset) ||
	    !argument_u32(&call, 2, "length", &wanted))
		return NULL;
	if (handle->map.type != BPF_MAP_TYPE_ARRAY || !(handle->map.flags & BPF_F_MMAPABLE))
		return throw_errno(&call, EOPNOTSUPP, "map (no array with BPF_F_MMAPABLE) memory of",
				   handle->name, "mmap");
	/* Elements are 8-byte aligned (kernel/bpf/arraymap.c). */
	length = (size_t)((handle->map.value_size + 7) & ~7u) * handle->map.max_entries;
	if (offset >= length || wanted > length - offset)
		return throw_errno(&call, EINVAL, "map memory beyond the end of", handle->name, "mmap");
	length = wanted == 0 ? length - offset : wanted;
	/* Writable, or a store from JavaScript would be a fault: a frozen map is refused here. */
	before = page_before(offset);
	data = mmap(NULL, length + before, PROT_READ | PROT_WRITE, MAP_SHARED, handle->fd,
		    (off_t)(offset - before));
	if (data == MAP_FAILED)
		return throw_errno(&call, errno, "map memory of", handle->name, "mmap");
	data += before;
	status = napi_create_external_arraybuffer(env, data, length, unmap,
						  (void *)(uintptr_t)length, &buffer);
	if (status == napi_no_external_buffers_allowed) {
		unmap(env, data, (void *)(uintptr_t)length);
		return throw_errno(&call, EOPNOTSUPP, "make an external ArrayBuffer over",
				   handle->name, NULL);
	}
	/* On another failure the memory may already belong to the engine: a leak beats a double unmap. */
	if (status != napi_ok)
		return throw_errno(&call, ENOMEM, "make an external ArrayBuffer over", handle->name,
				   NULL);
	return buffer;
}

/* bufferDetach(arrayBuffer): its length becomes 0 and the memory is unmapped soon after */
EXPORTED(buffer_detach)
{
	struct call call;

	if (!call_begin(env, info, 1, &call))
		return NULL;
	if (napi_detach_arraybuffer(env, call.values[0]) != napi_ok)
		napi_throw_type_error(env, "TANDEM_BPF_ARGUMENT", "not a detachable ArrayBuffer");
	return NULL;
}

/* mapFreeze(handle) */
EXPORTED(map_freeze)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 1, &call, HANDLE_MAP);

	if (handle == NULL)
		return NULL;
	if (bpf_map_freeze(handle->fd) != 0)
		return throw_errno(&call, errno, "freeze map", handle->name, "BPF_MAP_FREEZE");
	return NULL;
}
