/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* A log-linear histogram: 64 buckets to each power of two. */
#include "load.h"

static unsigned bucket_of(uint64_t value)
{
	unsigned power;

	if (value < 64)
		return (unsigned)value;
	power = 63u - (unsigned)__builtin_clzll(value);
	unsigned bucket = (power - 5) * 64 + (unsigned)((value >> (power - 6)) & 63);

	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The upper end of a bucket. */
static uint64_t value_of(unsigned bucket)
{
	unsigned power;

	if (bucket < 64)
		return bucket;
	power = bucket / 64 + 5;
	return ((uint64_t)(64 + bucket % 64 + 1) << (power - 6)) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->bucket[bucket_of(value)]++;
	histogram->count++;
	if (value > histogram->max)
		histogram->max = value;
}

/* The value that `share` (0..1) of all do not exceed; 0 without any. */
uint64_t histogram_at(const struct histogram *histogram, double share)
{
	uint64_t left = (uint64_t)((double)histogram->count * share);

	if (histogram->count == 0)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (histogram->bucket[i] > left) {
			uint64_t value = value_of(i);

			return value < histogram->max ? value : histogram->max;
		}
		left -= histogram->bucket[i];
	}
	return histogram->max;
}
