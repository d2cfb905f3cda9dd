/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/* The C heap of the process, of which free() gives back only the end: a block that stays keeps all pages before it. */
#include "dns_sockets.h"

#include <malloc.h>

/* trimHeap(): returns whether pages were given back. Other C libraries than glibc give them back themselves. */
napi_value ds_trim_heap(napi_env env, napi_callback_info info)
{
	napi_value result;
	bool is_trimmed = false;

	(void)info;
#ifdef __GLIBC__
	is_trimmed = malloc_trim(0) == 1;
#endif
	return napi_get_boolean(env, is_trimmed, &result) == napi_ok ? result : NULL;
}
