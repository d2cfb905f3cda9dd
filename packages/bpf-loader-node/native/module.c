/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Entry point: one `struct loader` per environment, the table of exported functions, and the exit.
 * At exit everything open is closed in the order of `enum handle_kind`; Node's loop is kept running
 * until the uv handles of the rings are gone, and only then the memory is released.
 */
#include "loader.h"

#include <stdlib.h>

#define FUNCTION(js_name, c_name) { js_name, c_name }

static const struct {
	const char *name;
	napi_callback function;
} functions[] = {
	FUNCTION("setErrorClass", set_error_class),
	FUNCTION("handleClose", handle_close_js),
	FUNCTION("handleFd", handle_fd_js),
	FUNCTION("handlePin", handle_pin),
	FUNCTION("openPinned", open_pinned),
	FUNCTION("openFd", open_fd),
	FUNCTION("openId", open_id),
	FUNCTION("nextId", next_id),
	FUNCTION("objectOpen", object_open),
	FUNCTION("objectLoad", object_load),
	FUNCTION("objectMaps", object_maps),
	FUNCTION("objectPrograms", object_programs),
	FUNCTION("objectMap", object_map),
	FUNCTION("objectProgram", object_program),
	FUNCTION("objectSetRodata", object_set_rodata),
	FUNCTION("objectReusePin", object_reuse_pin),
	FUNCTION("objectSetMaxEntries", object_set_max_entries),
	FUNCTION("objectSetAutoload", object_set_autoload),
	FUNCTION("objectBtf", object_btf),
	FUNCTION("mapCreate", map_create),
	FUNCTION("mapInfo", map_info),
	FUNCTION("mapLookup", map_lookup),
	FUNCTION("mapUpdate", map_update),
	FUNCTION("mapDelete", map_delete),
	FUNCTION("mapNextKey", map_next_key),
	FUNCTION("mapUpdateBatch", map_update_batch),
	FUNCTION("mapDeleteBatch", map_delete_batch),
	FUNCTION("mapLookupBatch", map_lookup_batch),
	FUNCTION("mapMmap", map_mmap),
	FUNCTION("mapFreeze", map_freeze),
	FUNCTION("bufferDetach", buffer_detach),
	FUNCTION("programInfo", program_info),
	FUNCTION("programTestRun", program_test_run),
	FUNCTION("programRunSyscall", program_run_syscall),
	FUNCTION("linkAttachTcx", link_attach_tcx),
	FUNCTION("linkEnsureTcxPins", link_ensure_tcx_pins),
	FUNCTION("linkAttachNetfilter", link_attach_netfilter),
	FUNCTION("linkAttachCgroup", link_attach_cgroup),
	FUNCTION("linkUpdate", link_update),
	FUNCTION("linkDetach", link_detach),
	FUNCTION("linkInfo", link_info),
	FUNCTION("tcxQuery", tcx_query),
	FUNCTION("reuseportAttach", reuseport_attach),
	FUNCTION("reuseportDetach", reuseport_detach),
	FUNCTION("ringOpen", ring_open),
	FUNCTION("ringConsume", ring_consume),
	FUNCTION("ringCommit", ring_commit),
	FUNCTION("ringRewind", ring_rewind),
	FUNCTION("ringStats", ring_stats),
	FUNCTION("ringSetRef", ring_set_ref),
	FUNCTION("featureProbe", feature_probe),
	FUNCTION("featureNames", feature_names),
	FUNCTION("netfilterIsTaken", netfilter_is_taken),
	FUNCTION("netnsCookie", netns_cookie),
	FUNCTION("interfaceIndex", interface_index),
};

static void loader_free(napi_env env, void *data, void *hint)
{
	struct loader *loader = data;

	(void)hint;
	if (loader->error_class != NULL)
		napi_delete_reference(env, loader->error_class);
	free(loader->handles);
	free(loader);
}

void loader_exit_finish(struct loader *loader)
{
	napi_remove_async_cleanup_hook(loader->cleanup);
}

static void loader_exit(napi_async_cleanup_hook_handle handle, void *data)
{
	struct loader *loader = data;

	(void)handle;
	loader->is_exiting = true;
	handle_close_all(loader);
	if (loader->rings_closing == 0)
		loader_exit_finish(loader);
}

NAPI_MODULE_INIT()
{
	struct loader *loader = calloc(1, sizeof(*loader));

	if (loader == NULL) {
		napi_throw_error(env, "TANDEM_BPF_FULL", "out of memory");
		return NULL;
	}
	loader->env = env;
	log_setup();
	if (napi_set_instance_data(env, loader, loader_free, NULL) != napi_ok ||
	    napi_add_async_cleanup_hook(env, loader_exit, loader, &loader->cleanup) != napi_ok) {
		napi_throw_error(env, "TANDEM_BPF_RUNTIME", "cannot register with the environment");
		return NULL;
	}
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		napi_value function;

		if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH,
					 functions[i].function, loader, &function) != napi_ok ||
		    napi_set_named_property(env, exports, functions[i].name, function) != napi_ok)
			return NULL;
	}
	return exports;
}
