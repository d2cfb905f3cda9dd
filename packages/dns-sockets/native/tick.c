/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * A callback at even intervals, called from the wait for the sockets (poll.c). A timer of Node costs a turn
 * of libuv and of Node's timer lists, 100 us with cold caches; a thread that packets wake every 250 us
 * notices in passing that a tick is due.
 */
#include "dns_sockets.h"

#include <errno.h>

/* Milliseconds from libuv's time until the tick is due, 0 when it is; -1: there is none. */
static int left(const struct ds_env *ds)
{
	uint64_t now = uv_now(ds->uv);

	if (ds->tick_ms == 0)
		return -1;
	return ds->tick_due <= now ? 0 : (int)(ds->tick_due - now);
}

/* The shorter one of `timeout`, -1 for none, and the time until the tick. */
int ds_tick_timeout(const struct ds_env *ds, int timeout)
{
	int until = left(ds);

	return until >= 0 && (timeout < 0 || until < timeout) ? until : timeout;
}

static bool call(struct ds_env *ds)
{
	napi_value receiver, callee;

	return napi_get_reference_value(ds->env, ds->on_tick, &callee) == napi_ok &&
	       callee != NULL && napi_get_undefined(ds->env, &receiver) == napi_ok &&
	       napi_call_function(ds->env, receiver, callee, 0, NULL, NULL) == napi_ok;
}

/*
 * Within a handle scope: calls back if the tick was due by the time that libuv read before the sockets were
 * looked at. What had come by then has been seen, also after this process was stopped for a while. A late
 * tick does not make the next ones come sooner.
 */
void ds_tick(struct ds_env *ds)
{
	if (left(ds) != 0)
		return;
	ds->tick_due = uv_now(ds->uv) + ds->tick_ms;
	ds_enter(ds);
	if (!call(ds))
		ds_uncaught(ds->env);
	ds_leave(ds);
}

/* tickStart(ms, callback): one of an environment; a second one takes the place of the first */
napi_value ds_tick_start(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	napi_ref callback;

	ds_args_begin(&args, env, info, 2);
	uint32_t ms = ds_arg_u32(&args, 0, "ms", 1, DS_TICK_MS_MAX);
	ds_arg_function(&args, 1, "callback");
	if (args.failed)
		return NULL;
	struct ds_env *ds = args.ds;
	if (napi_create_reference(env, args.value[1], 1, &callback) != napi_ok)
		return ds_throw_errno(env, ENOMEM, "napi_create_reference", "tick");
	int error = ds->tick_ms == 0 ? ds_wait_begin(ds) : 0;
	if (error != 0) {
		napi_delete_reference(env, callback);
		return ds_throw_errno(env, error, "epoll_create1", "tick");
	}
	if (ds->tick_ms != 0)
		napi_delete_reference(env, ds->on_tick);
	ds->on_tick = callback;
	ds->tick_ms = ms;
	ds->tick_due = uv_now(ds->uv) + ms;
	return NULL;
}

/* tickStop(): also within the callback */
napi_value ds_tick_stop(napi_env env, napi_callback_info info)
{
	struct ds_args args;

	ds_args_begin(&args, env, info, 0);
	if (args.failed || args.ds->tick_ms == 0)
		return NULL;
	args.ds->tick_ms = 0;
	napi_delete_reference(env, args.ds->on_tick);
	ds_wait_end(args.ds);
	return NULL;
}
