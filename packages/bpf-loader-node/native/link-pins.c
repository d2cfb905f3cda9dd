/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Pinned tcx links of one program at several interfaces, made by a thread of libuv's pool: the kernel takes the RTNL lock
 * for each, and waits for a grace period of RCU with it held, which is milliseconds on an idle machine and tens on a busy one.
 * The thread sees nothing of JavaScript; the environment's thread has the results when it is done.
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX_DIGITS 10u

struct pin_result {
	uint32_t ifindex;
	int error;          /* errno, positive; 0 = the link is there */
	const char *action; /* of the step that failed */
	const char *syscall;
};

struct pin_work {
	struct loader *loader;
	napi_async_work work;
	napi_deferred deferred;
	int program_fd; /* owned: the handle may be closed meanwhile */
	uint32_t program_id;
	uint32_t attach_type;
	uint32_t flags;
	char prefix[PATH_BYTES];
	uint32_t count;
	struct pin_result results[];
};

static void failed(struct pin_result *result, int error, const char *action, const char *syscall)
{
	result->error = error;
	result->action = action;
	result->syscall = syscall;
}

/* False: there is no link at this interface under the pin, and the path is free. */
static bool update_pinned(const struct pin_work *work, struct pin_result *result, const char *path)
{
	struct tcx_place place;
	bool is_there = false;
	int error, fd = bpf_obj_get(path);

	if (fd < 0) {
		if (errno != ENOENT)
			failed(result, errno, "open pin", "BPF_OBJ_GET");
		return errno != ENOENT;
	}
	if (fd_kind(fd) != HANDLE_LINK)
		failed(result, EINVAL, "open (it is no BPF link)", "BPF_OBJ_GET");
	else if ((error = link_tcx_place(fd, &place)) != 0)
		failed(result, -error, "read facts of link", "BPF_OBJ_GET_INFO_BY_FD");
	else if (place.ifindex == result->ifindex && place.attach_type == work->attach_type)
		is_there = true;
	if (is_there && place.program_id != work->program_id &&
	    bpf_link_update(fd, work->program_fd, NULL) != 0)
		failed(result, errno, "update link", "BPF_LINK_UPDATE");
	close(fd);
	if (is_there || result->error != 0)
		return true;
	/* A pin without its interface: that went away, and its index was given to another. */
	if (unlink(path) == 0 || errno == ENOENT)
		return false;
	failed(result, errno, "remove pin", "unlink");
	return true;
}

static void ensure_pinned(const struct pin_work *work, struct pin_result *result)
{
	const struct tcx_anchor anchor = { .flags = work->flags };
	char path[PATH_BYTES + INDEX_DIGITS];
	int fd;

	snprintf(path, sizeof(path), "%s%u", work->prefix, result->ifindex);
	if (update_pinned(work, result, path))
		return;
	fd = link_create_tcx(work->program_fd, result->ifindex, work->attach_type, &anchor);
	if (fd < 0) {
		failed(result, -fd, "attach tcx program", "BPF_LINK_CREATE");
		return;
	}
	if (bpf_obj_pin(fd, path) != 0)
		failed(result, errno, "pin", "BPF_OBJ_PIN");
	close(fd);
}

static void execute(napi_env env, void *data)
{
	struct pin_work *work = data;

	(void)env;
	for (uint32_t i = 0; i < work->count; i++)
		ensure_pinned(work, &work->results[i]);
}

static napi_value result_value(struct call *call, const struct pin_work *work,
			       const struct pin_result *result)
{
	char object[PATH_BYTES + INDEX_DIGITS];
	struct failure failure = {
		.action = result->action,
		.object = object,
		.syscall = result->syscall,
		.error = result->error,
		.completed = -1,
	};
	napi_value value = NULL;

	if (result->error == 0) {
		napi_get_null(call->env, &value);
		return value;
	}
	snprintf(object, sizeof(object), "%s%u", work->prefix, result->ifindex);
	return make_failure(call, &failure);
}

static void complete(napi_env env, napi_status status, void *data)
{
	struct pin_work *work = data;
	struct call call = { .env = env, .loader = work->loader };
	napi_value list;

	/* Calls fail where the environment is ending: then no answer is waited for. */
	if (napi_create_array_with_length(env, work->count, &list) == napi_ok) {
		for (uint32_t i = 0; i < work->count; i++) {
			struct pin_result *result = &work->results[i];
			napi_value value;

			if (status != napi_ok)
				failed(result, ECANCELED, "attach tcx program", NULL);
			value = result_value(&call, work, result);
			/* No error could be made of it: a pending exception would keep the promise from an end. */
			if (value == NULL &&
			    napi_get_and_clear_last_exception(env, &value) != napi_ok)
				continue;
			napi_set_element(env, list, i, value);
		}
		napi_resolve_deferred(env, work->deferred, list);
	}
	napi_delete_async_work(env, work->work);
	close(work->program_fd);
	free(work);
}

static struct pin_work *work_new(struct call *call, const struct handle *program, struct words ifindexes)
{
	struct bpf_prog_info info = { 0 };
	uint32_t length = sizeof(info);
	struct pin_work *work = calloc(1, sizeof(*work) + ifindexes.length * sizeof(work->results[0]));

	if (work == NULL) {
		throw_errno(call, ENOMEM, "attach tcx program", program->name, NULL);
		return NULL;
	}
	work->program_fd = fd_duplicate(program->fd);
	if (work->program_fd < 0 || bpf_obj_get_info_by_fd(program->fd, &info, &length) != 0) {
		throw_errno(call, errno, "attach tcx program", program->name, "BPF_OBJ_GET_INFO_BY_FD");
		if (work->program_fd >= 0)
			close(work->program_fd);
		free(work);
		return NULL;
	}
	work->loader = call->loader;
	work->program_id = info.id;
	work->count = (uint32_t)ifindexes.length;
	for (uint32_t i = 0; i < work->count; i++)
		work->results[i].ifindex = ifindexes.data[i];
	return work;
}

/* linkEnsureTcxPins(program, attachType, flags, prefix, ifindexes): promise of a list of errors or null, by place */
EXPORTED(link_ensure_tcx_pins)
{
	struct call call;
	struct handle *program = handle_begin(env, info, 5, &call, HANDLE_PROGRAM);
	uint32_t attach_type, flags;
	char prefix[PATH_BYTES];
	struct words ifindexes;
	struct pin_work *work;
	napi_value name, promise;

	if (program == NULL || !argument_u32(&call, 1, "attachType", &attach_type) ||
	    !argument_u32(&call, 2, "flags", &flags) ||
	    !argument_string(&call, 3, "prefix", prefix, sizeof(prefix)) ||
	    !argument_words(&call, 4, "ifindexes", &ifindexes))
		return NULL;
	if (attach_type != TD_ATTACH_TCX_INGRESS && attach_type != TD_ATTACH_TCX_EGRESS)
		return throw_range(&call, "attachType must be that of tcx");
	if (ifindexes.length > PIN_WORK_MAX)
		return throw_range(&call, "at most %u interfaces at a time", PIN_WORK_MAX);
	work = work_new(&call, program, ifindexes);
	if (work == NULL)
		return NULL;
	work->attach_type = attach_type;
	work->flags = flags;
	memcpy(work->prefix, prefix, sizeof(prefix));
	if (napi_create_string_utf8(env, "tandem:tcx", NAPI_AUTO_LENGTH, &name) == napi_ok &&
	    napi_create_promise(env, &work->deferred, &promise) == napi_ok) {
		if (napi_create_async_work(env, NULL, name, execute, complete, work, &work->work) == napi_ok &&
		    napi_queue_async_work(env, work->work) == napi_ok)
			return promise;
	}
	throw_errno(&call, ENOMEM, "attach tcx program", program->name, NULL);
	close(work->program_fd);
	free(work);
	return NULL;
}
