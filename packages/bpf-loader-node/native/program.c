/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Programs: facts, test runs, and the hot path of `learn`: a syscall program that reads and writes a
 * context in JavaScript's own memory.
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* programInfo(handle) */
EXPORTED(program_info)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 1, &call, HANDLE_PROGRAM);
	struct bpf_prog_info facts = { 0 };
	uint32_t length = sizeof(facts);
	char tag[2 * BPF_TAG_SIZE + 1];
	napi_value result;

	if (handle == NULL)
		return NULL;
	if (bpf_obj_get_info_by_fd(handle->fd, &facts, &length) != 0)
		return throw_errno(&call, errno, "read facts of program", handle->name,
				   "BPF_OBJ_GET_INFO_BY_FD");
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		snprintf(tag + 2 * i, 3, "%02x", facts.tag[i]);
	napi_create_object(env, &result);
	set_u32(env, result, "id", facts.id);
	set_u32(env, result, "type", facts.type);
	set_string(env, result, "name", facts.name);
	set_string(env, result, "tag", tag);
	set_u64(env, result, "loadedNs", facts.load_time);
	set_u64(env, result, "runNs", facts.run_time_ns);
	set_u64(env, result, "runCount", facts.run_cnt);
	set_u32(env, result, "verifiedInstructions", facts.verified_insns);
	return result;
}

/*
 * programTestRun(handle, data | null, ctx | null, dataOut | null, ctxOut | null, repeat, flags):
 * {retval, dataSize, ctxSize, durationNs}
 */
EXPORTED(program_test_run)
{
	LIBBPF_OPTS(bpf_test_run_opts, options);
	struct call call;
	struct handle *handle = handle_begin(env, info, 7, &call, HANDLE_PROGRAM);
	struct bytes data, ctx, data_out, ctx_out;
	uint32_t repeat, flags;
	napi_value result;

	if (handle == NULL || !argument_optional_bytes(&call, 1, "data", &data) ||
	    !argument_optional_bytes(&call, 2, "ctx", &ctx) ||
	    !argument_optional_bytes(&call, 3, "dataOut", &data_out) ||
	    !argument_optional_bytes(&call, 4, "ctxOut", &ctx_out) ||
	    !argument_u32(&call, 5, "repeat", &repeat) || !argument_u32(&call, 6, "flags", &flags))
		return NULL;
	if (data.length > UINT32_MAX || ctx.length > UINT32_MAX || data_out.length > UINT32_MAX ||
	    ctx_out.length > UINT32_MAX)
		return throw_range(&call, "a buffer of a test run must be shorter than 4 GiB");
	if (repeat > INT32_MAX)
		return throw_range(&call, "repeat must be at most %d", INT32_MAX);
	options.data_in = data.length > 0 ? data.data : NULL;
	options.data_size_in = (uint32_t)data.length;
	options.ctx_in = ctx.length > 0 ? ctx.data : NULL;
	options.ctx_size_in = (uint32_t)ctx.length;
	options.data_out = data_out.length > 0 ? data_out.data : NULL;
	options.data_size_out = (uint32_t)data_out.length;
	options.ctx_out = ctx_out.length > 0 ? ctx_out.data : NULL;
	options.ctx_size_out = (uint32_t)ctx_out.length;
	options.repeat = (int)repeat;
	options.flags = flags;
	if (bpf_prog_test_run_opts(handle->fd, &options) != 0)
		return throw_errno(&call, errno, "run program", handle->name, "BPF_PROG_TEST_RUN");
	napi_create_object(env, &result);
	set_u32(env, result, "retval", options.retval);
	set_u32(env, result, "dataSize", options.data_size_out);
	set_u32(env, result, "ctxSize", options.ctx_size_out);
	set_u32(env, result, "durationNs", options.duration);
	return result;
}

/* programRunSyscall(handle, ctx): the program's return value, signed; ctx is read back in place */
EXPORTED(program_run_syscall)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 2, &call, HANDLE_PROGRAM);
	union bpf_attr attributes;
	struct bytes ctx;

	if (handle == NULL || !argument_bytes(&call, 1, "ctx", &ctx))
		return NULL;
	if (ctx.length > UINT16_MAX)
		return throw_range(&call, "ctx must have at most %u bytes, not %zu", UINT16_MAX,
				   ctx.length);
	memset(&attributes, 0, sizeof(attributes));
	attributes.test.prog_fd = (uint32_t)handle->fd;
	attributes.test.ctx_in = ctx.length > 0 ? (uint64_t)(uintptr_t)ctx.data : 0;
	attributes.test.ctx_size_in = (uint32_t)ctx.length;
	if (syscall(__NR_bpf, BPF_PROG_TEST_RUN, &attributes, sizeof(attributes)) != 0)
		return throw_errno(&call, errno, "run program", handle->name, "BPF_PROG_TEST_RUN");
	return make_i32(env, (int32_t)attributes.test.retval);
}
