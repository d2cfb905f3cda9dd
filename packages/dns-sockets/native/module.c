/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * The module's entry, run once per environment, and that environment's end:
 * loops and their sockets, unix and netlink sockets, owned fds, and when libuv has closed the last
 * handle, the memory. JavaScript is not called on the way.
 */
#include "dns_sockets.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void finish(struct ds_env *ds)
{
	napi_async_cleanup_hook_handle cleanup = ds->cleanup;

	free(ds);
	napi_remove_async_cleanup_hook(cleanup);
}

/* Every close callback of ours ends here. */
void ds_handle_closed(struct ds_env *ds)
{
	ds->open_handles--;
	if (ds->tearing_down && ds->open_handles == 0)
		finish(ds);
}

static void tear_down(napi_async_cleanup_hook_handle handle, void *data)
{
	struct ds_env *ds = data;

	(void)handle;
	ds->tearing_down = true;
	for (size_t i = 0; i < DS_LOOPS_MAX; i++)
		if (ds->loops[i] != NULL)
			ds_loop_shut(ds->loops[i], false);
	for (size_t i = 0; i < DS_UNIX_MAX; i++)
		if (ds->unixes[i] != NULL) {
			if (ds->unixes[i]->is_listener)
				ds_unix_remove_path(ds->unixes[i]);
			ds_unix_shut(ds->unixes[i], false);
		}
	for (size_t i = 0; i < DS_NETLINK_MAX; i++)
		if (ds->netlinks[i] != NULL)
			ds_netlink_shut(ds->netlinks[i], false);
	ds_close_poll(ds);
	ds_close_owned_fds(ds);
	close(ds->reserve_fd);
	if (ds->open_handles == 0)
		finish(ds);
}

/* Handles are laid out by the header we were compiled with, filled by the node that runs us. */
static bool libuv_is_compatible(void)
{
	return uv_version() >> 16 == UV_VERSION_MAJOR &&
	       uv_handle_size(UV_POLL) <= sizeof(uv_poll_t) &&
	       uv_handle_size(UV_PREPARE) <= sizeof(uv_prepare_t) &&
	       uv_handle_size(UV_IDLE) <= sizeof(uv_idle_t);
}

static napi_value layout_of(napi_env env)
{
	const struct {
		const char *name;
		uint32_t value;
	} words[] = {
		{"headerWords", DS_HEADER_WORDS},
		{"recordWords", DS_RECORD_WORDS},
		{"slotsMax", DS_SLOTS_MAX},
		{"txPerSlot", DS_TX_PER_SLOT},
		{"socketsMax", DS_SOCKETS_MAX},
		{"loopsMax", DS_LOOPS_MAX},
		{"unixSocketsMax", DS_UNIX_MAX},
		{"unixMessageBytesMax", DS_UNIX_MESSAGE_MAX},
		{"unixFdsMax", DS_UNIX_FDS_MAX},
		{"netlinkSocketsMax", DS_NETLINK_MAX},
		{"netlinkDatagramBytesMax", DS_NETLINK_DATAGRAM_MAX},
		{"tickMsMax", DS_TICK_MS_MAX},
		{"clockByte", offsetof(struct ds_header, monotonic_ns)},
		{"rxOffset", offsetof(struct ds_rx_record, offset) / 4},
		{"rxCapacity", offsetof(struct ds_rx_record, capacity) / 4},
		{"rxLength", offsetof(struct ds_rx_record, length) / 4},
		{"rxFlags", offsetof(struct ds_rx_record, flags) / 4},
		{"rxPeerPort", offsetof(struct ds_rx_record, peer_port) / 4},
		{"rxDestinationPort", offsetof(struct ds_rx_record, destination_port) / 4},
		{"rxIfindex", offsetof(struct ds_rx_record, ifindex) / 4},
		{"rxPeer", offsetof(struct ds_rx_record, peer) / 4},
		{"rxDestination", offsetof(struct ds_rx_record, destination) / 4},
		{"metaBytes", DS_META_BYTES},
		{"metaNameBytes", DS_META_NAME_BYTES},
		{"txHandle", offsetof(struct ds_tx_record, handle) / 4},
		{"txOffset", offsetof(struct ds_tx_record, offset) / 4},
		{"txLength", offsetof(struct ds_tx_record, length) / 4},
		{"txPort", offsetof(struct ds_tx_record, port) / 4},
		{"txIfindex", offsetof(struct ds_tx_record, ifindex) / 4},
		{"txResult", offsetof(struct ds_tx_record, result) / 4},
		{"txDestination", offsetof(struct ds_tx_record, destination) / 4},
		{"txSource", offsetof(struct ds_tx_record, source) / 4},
	};
	napi_value object = NULL;

	if (napi_create_object(env, &object) != napi_ok)
		return NULL;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		napi_set_named_property(env, object, words[i].name, ds_u32(env, words[i].value));
	return object;
}

static struct ds_env *create_env(napi_env env)
{
	napi_value resource, name;
	struct ds_env *ds = calloc(1, sizeof *ds);

	if (ds == NULL)
		return NULL;
	ds->env = env;
	ds->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (napi_get_uv_event_loop(env, &ds->uv) == napi_ok &&
	    napi_create_object(env, &resource) == napi_ok &&
	    napi_create_string_utf8(env, "tandem:unix", NAPI_AUTO_LENGTH, &name) == napi_ok &&
	    napi_async_init(env, resource, name, &ds->async_context) == napi_ok &&
	    napi_add_async_cleanup_hook(env, tear_down, ds, &ds->cleanup) == napi_ok)
		return ds;
	close(ds->reserve_fd);
	free(ds);
	return NULL;
}

NAPI_MODULE_INIT()
{
	const struct {
		const char *name;
		napi_callback function;
	} functions[] = {
		{"createListener", ds_create_listener},
		{"guardListener", ds_guard_listener},
		{"enlargeBuffers", ds_enlarge_buffers},
		{"armFence", ds_arm_fence},
		{"createUpstreamTcp", ds_create_upstream_tcp},
		{"createUpstreamUdp", ds_create_upstream_udp},
		{"closeFd", ds_close_fd},
		{"releaseFd", ds_release_fd},
		{"duplicateFd", ds_duplicate_fd},
		{"tryLockFd", ds_try_lock_fd},
		{"localPort", ds_local_port},
		{"hasWriter", ds_has_writer},
		{"loopCreate", ds_loop_create},
		{"loopAdd", ds_loop_add},
		{"loopRemove", ds_loop_remove},
		{"loopMemory", ds_loop_memory},
		{"loopFlush", ds_loop_flush},
		{"loopStats", ds_loop_stats},
		{"loopClose", ds_loop_close},
		{"unixListen", ds_unix_listen},
		{"unixConnect", ds_unix_connect},
		{"unixAdopt", ds_unix_adopt},
		{"unixSend", ds_unix_send},
		{"unixClose", ds_unix_close},
		{"peerCredentials", ds_peer_credentials},
		{"netlinkOpen", ds_netlink_open},
		{"netlinkJoin", ds_netlink_join},
		{"netlinkSend", ds_netlink_send},
		{"netlinkReceive", ds_netlink_receive},
		{"netlinkClose", ds_netlink_close},
		{"tcpListen", ds_tcp_listen},
		{"tcpAddresses", ds_tcp_addresses},
		{"tcpResetOnClose", ds_tcp_reset_on_close},
		{"tickStart", ds_tick_start},
		{"tickStop", ds_tick_stop},
		{"clockInto", ds_clock_into},
		{"trimHeap", ds_trim_heap},
		{"executeAs", ds_execute_as},
	};
	enum { COUNT = sizeof functions / sizeof *functions };
	napi_property_descriptor properties[COUNT];

	if (!libuv_is_compatible()) {
		napi_throw_error(env, "TANDEM_SOCKET_LIBUV", "this node's libuv is not 1.x");
		return NULL;
	}
	struct ds_env *ds = create_env(env);
	if (ds == NULL) {
		napi_throw_error(env, "TANDEM_SOCKET_SYSTEM", "cannot set up dns_sockets");
		return NULL;
	}
	for (size_t i = 0; i < COUNT; i++)
		properties[i] = (napi_property_descriptor){
			.utf8name = functions[i].name,
			.method = functions[i].function,
			.attributes = napi_enumerable,
			.data = ds,
		};
	napi_define_properties(env, exports, COUNT, properties);
	napi_set_named_property(env, exports, "layout", layout_of(env));
	return exports;
}
