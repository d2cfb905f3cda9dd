/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* CLOCK_MONOTONIC for heartbeats and timeouts, CLOCK_BOOTTIME for expiry: no allocation. */
#include "dns_sockets.h"

#include <string.h>
#include <time.h>

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void ds_clock_now(double *monotonic_ns, double *boottime_ns)
{
	*monotonic_ns = (double)clock_ns(CLOCK_MONOTONIC);
	*boottime_ns = (double)clock_ns(CLOCK_BOOTTIME);
}

/*
 * clockInto(array): [0] = monotonic ns, [1] = boottime ns if there is room. Bytes are stored with
 * one 8-byte store each, so that an aligned array over a shared map is never seen half-written.
 */
napi_value ds_clock_into(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	bool is_typed = false;
	napi_typedarray_type type = napi_int8_array;
	size_t length = 0;
	void *data = NULL;

	ds_args_begin(&args, env, info, 1);
	if (args.failed)
		return NULL;
	if (napi_is_typedarray(env, args.value[0], &is_typed) != napi_ok || !is_typed ||
	    napi_get_typedarray_info(env, args.value[0], &type, &length, &data, NULL, NULL) !=
		    napi_ok ||
	    length == 0 || data == NULL ||
	    (type != napi_float64_array && type != napi_bigint64_array &&
	     type != napi_biguint64_array))
		return ds_throw_argument(env, "out", "must be a non-empty Float64Array, "
						     "BigInt64Array or BigUint64Array");
	for (size_t i = 0; i < length && i < 2; i++) {
		int64_t now = clock_ns(i == 0 ? CLOCK_MONOTONIC : CLOCK_BOOTTIME);
		uint64_t word = (uint64_t)now;

		if (type == napi_float64_array) {
			double number = (double)now;
			memcpy(&word, &number, sizeof word);
		}
		__atomic_store_n((uint64_t *)data + i, word, __ATOMIC_RELEASE);
	}
	return NULL;
}
