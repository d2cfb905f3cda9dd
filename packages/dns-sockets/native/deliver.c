/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * From a wake of one socket to JavaScript and back: receive, onBatch, send, onSocketError.
 *
 * JavaScript runs by napi_call_function, without the tick and microtask checkpoint that
 * napi_make_callback adds to each batch. After every call the loop may have been closed and its
 * memory given up: nothing shared is touched before `closing` was looked at.
 */
#include "dns_sockets.h"

#include <errno.h>

/* False if the callback threw, or JavaScript cannot run any more. */
static bool call(struct ds_loop *loop, napi_ref function, uint32_t first, uint32_t second)
{
	napi_env env = loop->env->env;
	napi_value callee, receiver, arguments[2];

	if (napi_get_reference_value(env, function, &callee) != napi_ok || callee == NULL ||
	    napi_get_undefined(env, &receiver) != napi_ok ||
	    napi_create_uint32(env, first, &arguments[0]) != napi_ok ||
	    napi_create_uint32(env, second, &arguments[1]) != napi_ok)
		return false;
	if (napi_call_function(env, receiver, callee, 2, arguments, NULL) == napi_ok)
		return true;
	loop->counters.callbackFailures++;
	return false;
}

/* The buffer's owner may have detached it (a map that was unmapped): then nothing moves. */
bool ds_payload_is_usable(struct ds_loop *loop)
{
	napi_value array_buffer;
	bool detached = true;

	return napi_get_reference_value(loop->env->env, loop->payload_ref, &array_buffer) ==
		       napi_ok &&
	       array_buffer != NULL &&
	       napi_is_detached_arraybuffer(loop->env->env, array_buffer, &detached) == napi_ok &&
	       !detached;
}

/* One report per socket that met errors since the last time, whatever their number. */
static void report_errors(struct ds_loop *loop)
{
	loop->reporting = true;
	while (!loop->closing && loop->errored != NULL) {
		struct ds_socket *socket = loop->errored;
		int error = socket->error;

		loop->errored = socket->next_errored;
		socket->errored = false;
		socket->error = 0;
		if (!call(loop, loop->on_socket_error, socket->handle, (uint32_t)error)) {
			ds_uncaught(loop->env->env);
			break;
		}
	}
	loop->reporting = false;
}

/*
 * Sends, reports errors, and sends what onSocketError added. Errors of that second round
 * wait for the next wake or flush, so that a dead server cannot keep us here.
 */
uint32_t ds_send_and_report(struct ds_loop *loop)
{
	uint32_t sent = ds_send_all(loop);

	if (loop->errored == NULL || loop->reporting)
		return sent;
	report_errors(loop);
	if (!loop->closing && ds_payload_is_usable(loop))
		sent += ds_send_all(loop);
	return sent;
}

static void report_error(struct ds_loop *loop, struct ds_socket *socket, int error)
{
	loop->counters.socketErrors++;
	if (!call(loop, loop->on_socket_error, socket->handle, (uint32_t)error)) {
		ds_uncaught(loop->env->env);
		return;
	}
	if (!loop->closing && ds_payload_is_usable(loop))
		ds_send_and_report(loop);
}

/* False when this wake is over. */
static bool one_round(struct ds_loop *loop, struct ds_socket *socket)
{
	if (!ds_payload_is_usable(loop)) {
		ds_unwatch(socket);
		napi_throw_error(loop->env->env, "TANDEM_SOCKET_DETACHED",
				 "the payload buffer of a UdpLoop was detached while it is open");
		ds_uncaught(loop->env->env);
		return false;
	}
	int count = ds_receive(loop, socket);
	if (count <= 0) {
		if (count < 0 && count != -EAGAIN)
			report_error(loop, socket, -count);
		return false;
	}
	bool called = call(loop, loop->on_batch, socket->handle, (uint32_t)count);
	if (!called) {
		/* A batch that was not finished is not sent: half a decision is none. */
		if (!loop->closing)
			loop->header->tx_count = 0;
		ds_uncaught(loop->env->env);
		return false;
	}
	if (loop->closing)
		return false;
	/* Nearly always flush has sent all. */
	if (loop->header->tx_count > 0 || loop->errored != NULL) {
		if (!ds_payload_is_usable(loop))
			return false;
		ds_send_and_report(loop);
	}
	return !loop->closing && !socket->closing && (uint32_t)count == loop->slots;
}

/*
 * `socket` is ready: within a handle scope, and between ds_enter and ds_leave, so that it stays even when it
 * is closed here.
 */
void ds_on_readable(struct ds_socket *socket)
{
	struct ds_loop *loop = socket->loop;

	bool may_wait = socket->kind == DS_HEAVY_LISTENER || socket->kind == DS_LATE_CONNECTED;
	int rounds = may_wait ? DS_ROUNDS_PER_WAKE_HEAVY : DS_ROUNDS_PER_WAKE;

	loop->counters.wakes++;
	for (int round = 0; round < rounds; round++)
		if (!one_round(loop, socket))
			break;
}
