/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Reading a BPF ring buffer that other processes may read too.
 *
 *   map memory:  | consumer position | producer position | data | data again |
 *                  page, read-write    page, read-only     mapped twice: a record never wraps
 *
 * The kernel overwrites nothing at or behind the consumer position, and positions only grow: 64 bits of
 * bytes since the ring was made. So the page itself is the fence between readers, however long one of
 * them was stopped and wherever:
 *
 * - it is moved by compare-and-swap from the value that the reader knows, never by a plain store: who
 *   was overtaken cannot move it back, nor past what the other has not read;
 * - a copy counts only if the page is not past its start afterwards: then the kernel could not have
 *   overwritten it while it was made.
 *
 * Bytes read under a position that another reader has moved may be anything, so every length is
 * bounded before it is used.
 */
#include "ring.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t page_load(const struct ring_memory *ring)
{
	return __atomic_load_n(ring->consumer_page, __ATOMIC_SEQ_CST);
}

uint64_t ring_memory_end(const struct ring_memory *ring)
{
	return __atomic_load_n((uint64_t *)ring->producer_pages, __ATOMIC_ACQUIRE);
}

static bool page_move(struct ring_memory *ring, uint64_t from, uint64_t to)
{
	if (!__atomic_compare_exchange_n(ring->consumer_page, &from, to, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return false;
	ring->committed = to;
	return true;
}

int ring_memory_open(struct ring_memory *ring, int fd, uint32_t ring_bytes, bool is_held)
{
	void *pages;

	ring->fd = fd;
	ring->ring_bytes = ring_bytes;
	ring->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	ring->is_held = is_held;
	pages = mmap(NULL, ring->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (pages == MAP_FAILED)
		return errno;
	ring->consumer_page = pages;
	pages = mmap(NULL, ring->page_bytes + 2 * (size_t)ring_bytes, PROT_READ, MAP_SHARED, fd,
		     (off_t)ring->page_bytes);
	if (pages == MAP_FAILED)
		return errno;
	ring->producer_pages = pages;
	ring_memory_rewind(ring);
	return 0;
}

void ring_memory_close(struct ring_memory *ring)
{
	if (ring->consumer_page != NULL)
		munmap(ring->consumer_page, ring->page_bytes);
	if (ring->producer_pages != NULL)
		munmap(ring->producer_pages, ring->page_bytes + 2 * (size_t)ring->ring_bytes);
	if (ring->fd >= 0)
		close(ring->fd);
	ring->consumer_page = NULL;
	ring->producer_pages = NULL;
	ring->fd = -1;
}

/* Whether records can begin there: nothing is known of what the kernel may have overwritten. */
static bool is_possible(const struct ring_memory *ring, uint64_t position, uint64_t end)
{
	return position % BPF_RINGBUF_HDR_SZ == 0 && position <= end &&
	       end - position <= ring->ring_bytes;
}

/*
 * Takes notice of what other readers did to the page. What it cannot hold is replaced by the end of
 * the ring, which is the only place where a record is known to begin: what lies before is lost.
 */
static void look_at_page(struct ring_memory *ring)
{
	for (;;) {
		uint64_t end = ring_memory_end(ring);
		uint64_t page = page_load(ring);

		/* The producer may have moved on since; a position behind the end is then possible. */
		if (page > end)
			end = ring_memory_end(ring);
		if (is_possible(ring, page, end)) {
			ring->committed = page;
			if (ring->position < page || ring->position > end)
				ring->position = page;
			return;
		}
		if (page_move(ring, page, end)) {
			ring->position = end;
			ring->repaired++;
			return;
		}
	}
}

void ring_memory_rewind(struct ring_memory *ring)
{
	look_at_page(ring);
	ring->position = ring->committed;
}

/* `is_broken`: what lies at the position is no record. */
static uint32_t copy(struct ring_memory *ring, const struct ring_batch *batch, uint64_t *position,
		     bool *is_broken)
{
	const uint8_t *data = ring->producer_pages + ring->page_bytes;
	uint64_t end = ring_memory_end(ring);
	uint32_t used = 0, count = 0;

	*is_broken = false;
	while (*position < end && count < batch->records_max) {
		const uint8_t *record = data + (*position & (ring->ring_bytes - 1));
		uint32_t header = __atomic_load_n((const uint32_t *)record, __ATOMIC_ACQUIRE);
		uint32_t length = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		uint32_t padded = (length + 7) & ~7u;

		if (header & BPF_RINGBUF_BUSY_BIT) /* reserved, not committed yet */
			break;
		if ((uint64_t)padded + BPF_RINGBUF_HDR_SZ > end - *position) {
			*is_broken = true;
			break;
		}
		if (!(header & BPF_RINGBUF_DISCARD_BIT)) {
			if (padded > batch->bytes_max) {
				ring->oversized++;
			} else if (padded > batch->bytes_max - used) {
				break;
			} else {
				memcpy(batch->bytes + used, record + BPF_RINGBUF_HDR_SZ, length);
				if (batch->positions != NULL)
					batch->positions[count] = (double)*position;
				batch->lengths[count++] = length;
				used += padded;
			}
		}
		*position += padded + BPF_RINGBUF_HDR_SZ;
	}
	return count;
}

uint32_t ring_memory_read(struct ring_memory *ring, const struct ring_batch *batch)
{
	/* Twice at most in a row: who is overtaken again and again leaves the ring to the other. */
	for (int attempt = 0; attempt < 2; attempt++) {
		uint64_t position;
		uint32_t count;
		bool is_broken;

		look_at_page(ring);
		position = ring->position;
		count = copy(ring, batch, &position, &is_broken);
		if (position == ring->position && is_broken) {
			/* Under our feet, or where no record ever began: only the end is one for sure. */
			uint64_t end = ring_memory_end(ring);

			if (page_move(ring, ring->committed, end)) {
				ring->position = end;
				ring->repaired++;
			}
			continue;
		}
		if (position == ring->position)
			return 0;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (ring->is_held ? page_load(ring) <= ring->position
				  : page_move(ring, ring->committed, position)) {
			ring->position = position;
			return count;
		}
		ring->fenced++;
	}
	return 0;
}

bool ring_memory_commit(struct ring_memory *ring, uint64_t position)
{
	if (position <= ring->committed)
		return true;
	if (position > ring->position)
		position = ring->position;
	return page_move(ring, ring->committed, position);
}
