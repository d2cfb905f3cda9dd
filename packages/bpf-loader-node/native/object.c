/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* bpf_object: an ELF file is opened, lists its maps and programs, and is loaded. */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sections that libbpf 1.1 does not know. Newer versions set the same values themselves. */
static const struct {
	const char *section;
	uint32_t type;
	uint32_t attach_type;
} late_sections[] = {
	{ "netfilter", TD_PROG_TYPE_NETFILTER, TD_ATTACH_NETFILTER },
	{ "tcx/ingress", BPF_PROG_TYPE_SCHED_CLS, TD_ATTACH_TCX_INGRESS },
	{ "tcx/egress", BPF_PROG_TYPE_SCHED_CLS, TD_ATTACH_TCX_EGRESS },
};

static void set_late_types(struct bpf_object *object)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object) {
		const char *section = bpf_program__section_name(program);

		if (bpf_program__type(program) != BPF_PROG_TYPE_UNSPEC)
			continue;
		if (section[0] == '?') /* declared as not loaded by default */
			section++;
		for (size_t i = 0; i < sizeof(late_sections) / sizeof(late_sections[0]); i++) {
			if (strcmp(section, late_sections[i].section) != 0)
				continue;
			bpf_program__set_type(program, late_sections[i].type);
			bpf_program__set_expected_attach_type(program,
							      late_sections[i].attach_type);
		}
	}
}

static napi_value throw_logged(struct call *call, const char *code, int error, const char *action,
			       const char *object, struct log_capture *log)
{
	struct failure failure = {
		.code = code,
		.action = action,
		.object = object,
		.error = error,
		.log = log->text,
		.completed = -1,
	};
	napi_value result = throw_failure(call, &failure);

	log_free(log);
	return result;
}

/* The name that libbpf gives an object of this path: the file's, to its first dot. */
static void name_of_path(const char *path, char *name, size_t size)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash != NULL ? slash + 1 : path;

	snprintf(name, size, "%.*s", (int)strcspn(base, "."), base);
}

/* The names that the object declares; false: no memory. */
static bool read_map_names(struct handle *handle)
{
	struct bpf_map *map;
	uint32_t count = 0;

	bpf_object__for_each_map(map, handle->object)
		count++;
	handle->map_names = calloc(count + 1, sizeof(*handle->map_names));
	if (handle->map_names == NULL)
		return false;
	bpf_object__for_each_map(map, handle->object) {
		struct map_name *entry = &handle->map_names[handle->map_count++];

		entry->map = map;
		snprintf(entry->name, sizeof(entry->name), "%s", bpf_map__name(map));
	}
	return true;
}

/* objectOpen(path, name | null): handle */
EXPORTED(object_open)
{
	LIBBPF_OPTS(bpf_object_open_opts, options);
	struct call call;
	struct log_capture log;
	struct bpf_object *object;
	struct handle *handle;
	char path[PATH_BYTES], name[NAME_BYTES];
	size_t length = 0;
	void *data;
	int error;

	if (!call_begin(env, info, 2, &call) ||
	    !argument_string(&call, 0, "path", path, sizeof(path)))
		return NULL;
	if (is_nullish(&call, 1))
		name_of_path(path, name, sizeof(name));
	else if (!argument_string(&call, 1, "name", name, sizeof(name)))
		return NULL;
	data = file_read(path, &length);
	if (data == NULL)
		return throw_logged(&call, "TANDEM_BPF_OPEN", errno, "read BPF object", path,
				    &(struct log_capture){ NULL });
	options.object_name = name;
	log_begin(&log);
	object = bpf_object__open_mem(data, length, &options);
	error = errno;
	log_end(&log);
	free(data); /* libbpf has copied what it needs */
	if (object == NULL)
		return throw_logged(&call, "TANDEM_BPF_OPEN", error, "open BPF object", path, &log);
	log_free(&log);
	set_late_types(object);
	handle = handle_new(&call, HANDLE_OBJECT, bpf_object__name(object));
	if (handle == NULL) {
		bpf_object__close(object);
		return NULL;
	}
	handle->object = object;
	handle->map_names = NULL;
	handle->map_count = 0;
	if (!read_map_names(handle)) {
		handle_close(call.loader, handle);
		return throw_errno(&call, ENOMEM, "read the maps of", path, "calloc");
	}
	return handle_number(call.loader, handle);
}

/*
 * Signals wait meanwhile: the kernel's verifier gives up with EAGAIN when one is pending, and libbpf tries five times, so that under
 * a profiler that interrupts this thread all the time a large program would never be loaded.
 */
static int load_without_signals(struct bpf_object *object)
{
	static const int own_faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	sigset_t waiting, former;
	int result;

	sigfillset(&waiting);
	for (size_t i = 0; i < sizeof(own_faults) / sizeof(*own_faults); i++)
		sigdelset(&waiting, own_faults[i]);
	pthread_sigmask(SIG_BLOCK, &waiting, &former);
	result = bpf_object__load(object);
	pthread_sigmask(SIG_SETMASK, &former, NULL);
	return result;
}

/* objectLoad(handle) */
EXPORTED(object_load)
{
	struct call call;
	struct log_capture log;
	struct handle *handle = handle_begin(env, info, 1, &call, HANDLE_OBJECT);
	int result;

	if (handle == NULL)
		return NULL;
	log_begin(&log);
	result = load_without_signals(handle->object);
	log_end(&log);
	if (result != 0)
		return throw_logged(&call, "TANDEM_BPF_LOAD", -result, "load BPF object",
				    handle->name, &log);
	log_free(&log);
	return NULL;
}

/* objectMaps(handle): declarations */
EXPORTED(object_maps)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 1, &call, HANDLE_OBJECT);
	napi_value list;
	uint32_t index = 0;

	if (handle == NULL || napi_create_array(env, &list) != napi_ok)
		return NULL;
	for (uint32_t i = 0; i < handle->map_count; i++) {
		const struct bpf_map *map = handle->map_names[i].map;
		napi_value entry;

		napi_create_object(env, &entry);
		set_string(env, entry, "name", handle->map_names[i].name);
		set_u32(env, entry, "type", bpf_map__type(map));
		set_u32(env, entry, "keySize", bpf_map__key_size(map));
		set_u32(env, entry, "valueSize", bpf_map__value_size(map));
		set_u32(env, entry, "maxEntries", bpf_map__max_entries(map));
		set_u32(env, entry, "flags", bpf_map__map_flags(map));
		napi_set_element(env, list, index++, entry);
	}
	return list;
}

/* objectPrograms(handle): declarations */
EXPORTED(object_programs)
{
	struct call call;
	struct handle *handle = handle_begin(env, info, 1, &call, HANDLE_OBJECT);
	struct bpf_program *program;
	napi_value list;
	uint32_t index = 0;

	if (handle == NULL || napi_create_array(env, &list) != napi_ok)
		return NULL;
	bpf_object__for_each_program(program, handle->object) {
		napi_value entry;

		napi_create_object(env, &entry);
		set_string(env, entry, "name", bpf_program__name(program));
		set_string(env, entry, "section", bpf_program__section_name(program));
		set_u32(env, entry, "type", bpf_program__type(program));
		set_u32(env, entry, "expectedAttachType",
			bpf_program__expected_attach_type(program));
		napi_set_named_property(env, entry, "autoload",
					make_bool(env, bpf_program__autoload(program)));
		napi_set_element(env, list, index++, entry);
	}
	return list;
}
