/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * How a thread with UDP sockets or a tick waits. libuv would wait for them as well, but with two system
 * calls and a turn of all its phases for each wake: Node has it poll without a timeout first, to measure
 * its idle time. So the sockets are in an epoll set of ours, and the thread waits there:
 *
 *     libuv's turn --> prepare: [ epoll_wait --> onBatch of each ready socket --> tick, if due ] ...
 *                  --> libuv polls
 *
 * Of the sockets that are ready those for pods that ask much come last, with half as many datagrams: what waits elsewhere, replies too,
 * waits for one batch of them at most. And they come in every wake, so that nothing keeps them waiting for ever.
 *
 * Late sockets are those to servers that single pods ask: such a server may send without end, to as many sockets as its pod has. They are in
 * a set of their own, which is one event of the first. Of those that are ready a few have a batch in each wake, in turn.
 *
 * The descriptor that libuv polls is in the set too, and no wait is longer than libuv's own would be: as
 * soon as libuv has anything to do, a timer included, it has its turn. The idle handle keeps it from
 * waiting itself, where it would not see our sockets.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_MAX = 64, LATE_PER_WAKE = 8, WAKES_PER_SCOPE = 64 };

/* Keys of the events of libuv's descriptor and of the set of late sockets; no socket has them, because handles are larger. */
static const uint64_t libuv_key = 0, late_key = 1;

static uint64_t key_of(const struct ds_socket *socket)
{
	return (uint64_t)socket->loop->id << 32 | socket->handle;
}

/* NULL: closed since the kernel said that it is ready. */
static struct ds_socket *socket_of(struct ds_env *ds, uint64_t key)
{
	uint32_t id = (uint32_t)(key >> 32);
	struct ds_loop *loop = ds->loops[id % DS_LOOPS_MAX];

	return loop == NULL || loop->id != id ? NULL : ds_loop_socket(loop, (uint32_t)key);
}

static void on_idle(uv_idle_t *idle)
{
	(void)idle;
}

/* As long as libuv would wait, with our idle handle stopped: milliseconds, -1 without end. */
static int timeout_of(struct ds_env *ds)
{
	uv_update_time(ds->uv);
	return uv_backend_timeout(ds->uv);
}

/* Calls the heavy sockets that are ready, or all others that are. */
static void deliver(struct ds_env *ds, const struct epoll_event *events, int count, bool heavy)
{
	for (int i = 0; i < count; i++) {
		struct ds_socket *socket =
			events[i].data.u64 <= late_key ? NULL : socket_of(ds, events[i].data.u64);

		if (socket != NULL && (socket->kind == DS_HEAVY_LISTENER) == heavy)
			ds_on_readable(socket);
	}
}

/* The kernel puts sockets that it names, and that are ready still, behind all others of the set: each has its turn. */
static void deliver_late(struct ds_env *ds)
{
	struct epoll_event events[LATE_PER_WAKE];

	deliver(ds, events, epoll_wait(ds->late_fd, events, LATE_PER_WAKE, 0), false);
}

/* One wake; says whether libuv is to have its turn. */
static bool wait_once(struct ds_env *ds)
{
	struct epoll_event events[EVENTS_MAX];
	int timeout = timeout_of(ds);
	int until = ds_tick_timeout(ds, timeout);
	int count = epoll_wait(ds->poll_fd, events, EVENTS_MAX, until);
	bool is_libuv_due = count < 0 || timeout == 0 || (count == 0 && until == timeout);
	bool is_late_ready = false;

	for (int i = 0; i < count; i++) {
		is_libuv_due = is_libuv_due || events[i].data.u64 == libuv_key;
		is_late_ready = is_late_ready || events[i].data.u64 == late_key;
	}
	ds_enter(ds);
	deliver(ds, events, count, false);
	if (is_late_ready)
		deliver_late(ds);
	deliver(ds, events, count, true);
	ds_leave(ds);
	ds_tick(ds);
	return is_libuv_due;
}

/* Some wakes share a handle scope: each is memory that is allocated and freed. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct ds_env *ds = prepare->data;
	bool is_libuv_due = false;
	napi_handle_scope scope;

	uv_idle_stop(&ds->idle);
	while (!is_libuv_due && ds->watched > 0) {
		if (napi_open_handle_scope(ds->env, &scope) != napi_ok)
			break;
		for (int i = 0; i < WAKES_PER_SCOPE && !is_libuv_due && ds->watched > 0; i++)
			is_libuv_due = wait_once(ds);
		napi_close_handle_scope(ds->env, scope);
	}
	if (ds->watched > 0)
		uv_idle_start(&ds->idle, on_idle);
}

static int add(int set, int fd, uint64_t key)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = key};

	return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

static int set_of(const struct ds_socket *socket)
{
	const struct ds_env *ds = socket->loop->env;

	return socket->kind == DS_LATE_CONNECTED ? ds->late_fd : ds->poll_fd;
}

static void close_sets(struct ds_env *ds)
{
	close(ds->poll_fd);
	if (ds->late_fd >= 0)
		close(ds->late_fd);
}

/* With the first socket or tick of the environment. */
static int open_poll(struct ds_env *ds)
{
	ds->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (ds->poll_fd < 0)
		return errno;
	ds->late_fd = epoll_create1(EPOLL_CLOEXEC);
	int error = ds->late_fd < 0 ? errno : add(ds->poll_fd, ds->late_fd, late_key);
	if (error == 0)
		error = add(ds->poll_fd, uv_backend_fd(ds->uv), libuv_key);
	if (error != 0) {
		close_sets(ds);
		return error;
	}
	uv_prepare_init(ds->uv, &ds->prepare);
	uv_idle_init(ds->uv, &ds->idle);
	ds->prepare.data = ds->idle.data = ds;
	ds->open_handles += 2;
	ds->has_poll = true;
	return 0;
}

/* There is one more thing to wait for. 0 or an errno. */
int ds_wait_begin(struct ds_env *ds)
{
	int error = ds->has_poll ? 0 : open_poll(ds);

	if (error != 0)
		return error;
	if (ds->watched++ == 0) {
		uv_prepare_start(&ds->prepare, on_prepare);
		uv_idle_start(&ds->idle, on_idle);
	}
	return 0;
}

/* There is one thing less to wait for. */
void ds_wait_end(struct ds_env *ds)
{
	if (--ds->watched == 0) {
		uv_prepare_stop(&ds->prepare);
		uv_idle_stop(&ds->idle);
	}
}

/* 0 or the errno that says why this socket cannot be waited for. */
int ds_watch(struct ds_socket *socket)
{
	struct ds_env *ds = socket->loop->env;
	int error = ds_wait_begin(ds);

	if (error != 0)
		return error;
	error = add(set_of(socket), socket->fd, key_of(socket));
	if (error != 0) {
		ds_wait_end(ds);
		return error;
	}
	socket->watched = true;
	return 0;
}

void ds_unwatch(struct ds_socket *socket)
{
	struct ds_env *ds = socket->loop->env;

	if (!socket->watched)
		return;
	socket->watched = false;
	/* Closing our descriptor would not do: the caller has another of the same socket. */
	epoll_ctl(set_of(socket), EPOLL_CTL_DEL, socket->fd, NULL);
	ds_wait_end(ds);
}

static void on_closed(uv_handle_t *handle)
{
	ds_handle_closed(handle->data);
}

/* With the end of the environment. */
void ds_close_poll(struct ds_env *ds)
{
	if (!ds->has_poll)
		return;
	close_sets(ds);
	uv_close((uv_handle_t *)&ds->prepare, on_closed);
	uv_close((uv_handle_t *)&ds->idle, on_closed);
}

/* Sockets and loops that JavaScript closes in a callback are freed when all callbacks have returned. */
void ds_enter(struct ds_env *ds)
{
	ds->entered++;
}

void ds_leave(struct ds_env *ds)
{
	if (--ds->entered == 0)
		ds_free_closed(ds);
}

void ds_free_closed(struct ds_env *ds)
{
	if (ds->entered > 0)
		return;
	for (struct ds_socket *socket = ds->closed_sockets, *next; socket != NULL; socket = next) {
		next = socket->next_closed;
		free(socket);
	}
	for (struct ds_loop *loop = ds->closed_loops, *next; loop != NULL; loop = next) {
		next = loop->next_closed;
		free(loop);
	}
	ds->closed_sockets = NULL;
	ds->closed_loops = NULL;
}
