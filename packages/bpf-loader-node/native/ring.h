/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* A BPF ring buffer's memory and the place of one of its readers (ring-memory.c). */
#ifndef TANDEM_RING_H
#define TANDEM_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring_memory {
	int fd;
	uint32_t ring_bytes;
	size_t page_bytes;
	uint64_t *consumer_page; /* read-write, shared with every other reader */
	uint8_t *producer_pages; /* read-only */
	uint64_t position;       /* where we read next; ours alone */
	uint64_t committed;      /* what the consumer page held when we looked or wrote last */
	bool is_held;            /* the page moves by ring_commit alone, not with each batch */
	uint64_t oversized;      /* records longer than a batch: skipped */
	uint64_t fenced;         /* batches dropped: another reader had moved the page */
	uint64_t repaired;       /* times that the page held what cannot be */
};

/* Where the records of one batch go. */
struct ring_batch {
	uint8_t *bytes;
	uint32_t *lengths;
	double *positions; /* NULL: not wanted */
	uint32_t bytes_max;
	uint32_t records_max;
};

/* Maps the ring of the fd, which it owns from here on; returns an errno, or 0. */
int ring_memory_open(struct ring_memory *ring, int fd, uint32_t ring_bytes, bool is_held);
void ring_memory_close(struct ring_memory *ring);
/* Copies records until the batch is full or the ring is empty; returns their number. */
uint32_t ring_memory_read(struct ring_memory *ring, const struct ring_batch *batch);
/* Frees the room before `position`. False: another reader has moved the page. */
bool ring_memory_commit(struct ring_memory *ring, uint64_t position);
/* Where the last record that was put into the ring ends. */
uint64_t ring_memory_end(const struct ring_memory *ring);
/* Reads from the page on: records that were read and not committed come again. */
void ring_memory_rewind(struct ring_memory *ring);

#endif
