/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* The event loop: stdin's lines, file descriptors, deadlines. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_PER_WAIT = 256 };

static int epoll_fd;
static struct watch watches = { .next = &watches, .previous = &watches };
static struct watch dead = { .next = &dead, .previous = &dead };
static size_t watch_count;
static bool is_done;
static int status; /* of the process; code that sets it to 1 says why on stderr */

static char input[PROBE_LINE_BYTES_MAX];
static size_t input_length;

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void list_insert(struct watch *list, struct watch *watch)
{
	watch->next = list->next;
	watch->previous = list;
	list->next->previous = watch;
	list->next = watch;
}

static void list_remove(struct watch *watch)
{
	watch->next->previous = watch->previous;
	watch->previous->next = watch->next;
}

/*
 * A zeroed structure of `size` bytes that starts with a struct watch on `fd`. Takes the descriptor over:
 * on failure it is closed and NULL is returned with errno set.
 */
void *watch_new(size_t size, int fd, uint32_t id, uint32_t events)
{
	struct watch *watch = watch_count < PROBE_WATCHES_MAX ? calloc(1, size) : NULL;
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (watch == NULL) {
		close(fd);
		errno = ENOBUFS;
		return NULL;
	}
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		int error = errno;

		close(fd);
		free(watch);
		errno = error;
		return NULL;
	}
	watch->fd = fd;
	watch->id = id;
	list_insert(&watches, watch);
	watch_count++;
	return watch;
}

void watch_events(struct watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

/* Other events of the same epoll_wait may point to the watch, so its memory lives until they are done. */
void watch_close(struct watch *watch)
{
	if (watch->is_dead)
		return;
	watch->is_dead = true;
	close(watch->fd);
	list_remove(watch);
	list_insert(&dead, watch);
	watch_count--;
}

struct watch *watch_find(uint32_t id, void (*on_ready)(struct watch *, uint32_t))
{
	for (struct watch *watch = watches.next; watch != &watches; watch = watch->next)
		if (watch->id == id && (on_ready == NULL || watch->on_ready == on_ready))
			return watch;
	return NULL;
}

static void free_dead(void)
{
	while (dead.next != &dead) {
		struct watch *watch = dead.next;

		list_remove(watch);
		if (watch->on_close != NULL)
			watch->on_close(watch);
		free(watch);
	}
}

static void op_close(const struct request *request)
{
	struct watch *watch = watch_find((uint32_t)arg_number(request, "handle", 0), NULL);

	if (watch == NULL || !watch->is_handle) {
		answer_error(request->id, ENOENT, "no such handle");
		return;
	}
	if (watch->on_cancel != NULL)
		watch->on_cancel(watch);
	if (arg_number(request, "reset", 0) != 0) {
		struct linger abort_on_close = { .l_onoff = 1, .l_linger = 0 };

		setsockopt(watch->fd, SOL_SOCKET, SO_LINGER, &abort_on_close, sizeof(abort_on_close));
	}
	watch_close(watch);
	answer_ok(request->id);
	answer_end();
}

static const struct {
	const char *name;
	void (*run)(const struct request *request);
} operations[] = {
	{ "udp", op_udp },         { "ping", op_ping },     { "tcp", op_tcp },
	{ "exchange", op_exchange }, { "listen", op_listen }, { "served", op_served },
	{ "bind", op_bind },       { "frame", op_frame },   { "ring", op_ring },
	{ "raw", op_raw },         { "capture", op_capture }, { "captured", op_captured },
	{ "blast", op_blast },     { "bulk", op_bulk },     { "close", op_close },
	{ "keep", op_keep },       { "pour", op_pour },     { "frames", op_frames },
	{ "sight", op_sight },     { "sighted", op_sighted }, { "partial", op_partial },
};

static void run_line(char *line)
{
	struct request request;

	if (!request_parse(line, &request)) {
		answer_error(request.id, EBADMSG, "not a request");
		return;
	}
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (strcmp(operations[i].name, request.operation) == 0) {
			operations[i].run(&request);
			return;
		}
	}
	answer_error(request.id, ENOSYS, "no operation %s", request.operation);
}

static void read_input(void)
{
	ssize_t length = read(STDIN_FILENO, input + input_length, sizeof(input) - input_length);
	char *line = input;
	char *end;

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (length < 0) {
		perror("probe: read");
		status = 1;
	}
	if (length <= 0) {
		is_done = true;
		return;
	}
	input_length += (size_t)length;
	while ((end = memchr(line, '\n', input_length - (size_t)(line - input))) != NULL) {
		*end = '\0';
		run_line(line);
		line = end + 1;
	}
	input_length -= (size_t)(line - input);
	memmove(input, line, input_length);
	if (input_length == sizeof(input)) {
		fprintf(stderr, "probe: a line of more than %d bytes\n", PROBE_LINE_BYTES_MAX);
		status = 1;
		is_done = true;
	}
}

/*
 * Runs what was overdue at `now`; returns the milliseconds until the next deadline, -1 without one.
 * `now` is from before the last look at the descriptors: what came in time is never called late.
 */
static int run_deadlines(uint64_t now)
{
	uint64_t first = 0;
	struct watch *watch = watches.next;

	while (watch != &watches) {
		struct watch *next = watch->next;

		if (watch->deadline_ns != 0 && watch->deadline_ns <= now) {
			watch->deadline_ns = 0;
			watch->on_deadline(watch);
		}
		if (!watch->is_dead && watch->deadline_ns != 0 &&
		    (first == 0 || watch->deadline_ns < first))
			first = watch->deadline_ns;
		watch = next;
	}
	now = now_ns();
	if (first == 0)
		return -1;
	return first <= now ? 0 : (int)((first - now) / 1000000u) + 1;
}

int loop_run(void)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	struct epoll_event on_input = { .events = EPOLLIN, .data.ptr = NULL };
	int timeout_ms = -1;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &on_input) != 0) {
		perror("probe: epoll");
		return 1;
	}
	while (!is_done) {
		uint64_t looked_ns = now_ns();
		int count = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, timeout_ms);

		for (int i = 0; i < count && !is_done; i++) {
			struct watch *watch = events[i].data.ptr;

			if (watch == NULL)
				read_input();
			else if (!watch->is_dead)
				watch->on_ready(watch, events[i].events);
		}
		timeout_ms = run_deadlines(looked_ns);
		free_dead();
	}
	return status;
}
