// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Copyright The Tandem Authors */
/* All programs of Tandem and one that no verifier accepts: what a broken release would be. */

#include "../src/tandem.bpf.c"

SEC("syscall")
int refused(void *ctx)
{
	struct td_addr address = {};
	struct td_endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &address);

	(void)ctx;
	return (int)endpoint->id; /* not checked for NULL */
}
