/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The type information of an object, as raw bytes: src/btf.ts decodes them. A decoder in a memory-safe
 * language needs no trust in the file.
 */
#include "loader.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>

/* objectBtf(handle): the raw .BTF section as libbpf holds it */
EXPORTED(object_btf)
{
	struct call call;
	struct handle *handle;
	const struct btf *btf;
	const void *data;
	uint32_t size = 0;

	if (!call_begin(env, info, 1, &call))
		return NULL;
	handle = argument_handle(&call, 0, HANDLE_OBJECT);
	if (handle == NULL)
		return NULL;
	btf = bpf_object__btf(handle->object);
	data = btf != NULL ? btf__raw_data(btf, &size) : NULL;
	if (data == NULL)
		return throw_errno(&call, ENOENT, "read the BTF of", handle->name, NULL);
	return make_bytes(env, data, size);
}
