/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * For tests: the side of a device comes from the map `test_devices`, by index; one that is not in it is
 * outside, and not trusted. Stands in front of include/tandem/devices.h, which tells the meaning of each function.
 */
#ifndef TANDEM_DEVICES_H
#define TANDEM_DEVICES_H

#include <tandem/hook_facts.h>
#include <tandem/maps.h>

enum device_side {
	TD_SIDE_OUTSIDE,
	TD_SIDE_POD,
	TD_SIDE_STRANGER,
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1024);
} test_devices SEC(".maps");

static __always_inline enum device_side test_side(__u32 ifindex)
{
	__u32 *side = bpf_map_lookup_elem(&test_devices, &ifindex);

	return side ? *side : TD_SIDE_OUTSIDE;
}

static __always_inline bool is_pod_device(__u32 ifindex)
{
	return test_side(ifindex) == TD_SIDE_POD;
}

static __always_inline bool is_trusted_device(__u32 ifindex)
{
	__u32 *side = bpf_map_lookup_elem(&test_devices, &ifindex);

	return side && *side == TD_SIDE_OUTSIDE;
}

static __always_inline enum device_side entry_side(struct bpf_nf_ctx *ctx, __u32 bridge_port)
{
	return test_side(bridge_port ? bridge_port : skb_ifindex(ctx->skb));
}

static __always_inline enum device_side exit_side(struct bpf_nf_ctx *ctx)
{
	return test_side(skb_out(ctx->skb));
}

#endif /* TANDEM_DEVICES_H */
