/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Constants of a program that are set between opening and loading: the verifier then sees their values
 * and drops the branches that cannot be taken.
 */
#include "loader.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Where a variable lies: its section's map, offset and size; false when there is none. */
static bool find_rodata(struct bpf_object *object, const char *variable, struct bpf_map **map,
			uint32_t *offset, uint32_t *size)
{
	const struct btf *btf = bpf_object__btf(object);
	uint32_t count = btf != NULL ? btf__type_cnt(btf) : 0;

	for (uint32_t id = 1; id < count; id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const struct btf_var_secinfo *entries;
		const char *section;

		if (!btf_is_datasec(type))
			continue;
		section = btf__name_by_offset(btf, type->name_off);
		if (strncmp(section, ".rodata", strlen(".rodata")) != 0)
			continue;
		entries = btf_var_secinfos(type);
		for (uint32_t i = 0; i < btf_vlen(type); i++) {
			const struct btf_type *entry = btf__type_by_id(btf, entries[i].type);

			if (strcmp(btf__name_by_offset(btf, entry->name_off), variable) != 0)
				continue;
			*map = bpf_object__find_map_by_name(object, section);
			*offset = entries[i].offset;
			*size = entries[i].size;
			return *map != NULL;
		}
	}
	return false;
}

/* objectSetRodata(handle, variable, bytes) */
EXPORTED(object_set_rodata)
{
	struct call call;
	struct handle *handle;
	struct bpf_map *map = NULL;
	struct bytes bytes;
	char variable[256];
	uint32_t offset = 0, size = 0;
	size_t length = 0;
	const void *current;
	uint8_t *changed;
	int result;

	if (!call_begin(env, info, 3, &call))
		return NULL;
	handle = argument_handle(&call, 0, HANDLE_OBJECT);
	if (handle == NULL ||
	    !argument_string(&call, 1, "variable", variable, sizeof(variable)) ||
	    !argument_bytes(&call, 2, "bytes", &bytes))
		return NULL;
	if (!find_rodata(handle->object, variable, &map, &offset, &size))
		return throw_missing(&call, "find read-only variable", variable);
	if (bytes.length != size)
		return throw_range(&call, "variable %s has %u bytes, not %zu", variable, size,
				   bytes.length);
	current = bpf_map__initial_value(map, &length);
	if (current == NULL || (size_t)offset + size > length)
		return throw_state(&call, "set read-only variable", variable);
	changed = malloc(length);
	if (changed == NULL)
		return throw_errno(&call, ENOMEM, "set read-only variable", variable, NULL);
	memcpy(changed, current, length);
	memcpy(changed + offset, bytes.data, size);
	/* libbpf refuses it once the map exists. */
	result = bpf_map__set_initial_value(map, changed, length);
	free(changed);
	if (result != 0)
		return throw_state(&call, "set, after load, read-only variable", variable);
	return NULL;
}
