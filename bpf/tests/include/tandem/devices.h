/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Stands in for include/tandem/devices.h, which describes each function, in tests: a value of the map `test_devices`,
 * by index, is the side of the device plus 1; a device with 0 is outside, and not trusted. The map is an array because
 * the bench measures this object: a lookup in it costs about as much as one in the DEVMAP_HASH of the shipped
 * programs, while a lookup in a hash table costs several times that.
 */
#ifndef TANDEM_DEVICES_H
#define TANDEM_DEVICES_H

#include <tandem/hook_facts.h>
#include <tandem/maps.h>

enum device_side {
	TD_SIDE_OUTSIDE,
	TD_SIDE_POD,
	TD_SIDE_STRANGER,
	TD_SIDE_OWN, /* of the tests alone: as outside, and a veth whose both ends are the node's */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 8192);
} test_devices SEC(".maps");

static __always_inline enum device_side test_side(__u32 ifindex)
{
	__u32 *side = bpf_map_lookup_elem(&test_devices, &ifindex);

	return side && *side ? *side - 1 : TD_SIDE_OUTSIDE;
}

static __always_inline bool is_pod_device(__u32 ifindex)
{
	return test_side(ifindex) == TD_SIDE_POD;
}

static __always_inline bool is_trusted_device(__u32 ifindex)
{
	__u32 *side = bpf_map_lookup_elem(&test_devices, &ifindex);

	return side && *side == TD_SIDE_OUTSIDE + 1;
}

static __always_inline enum device_side entry_side(struct bpf_nf_ctx *ctx, __u32 bridge_port)
{
	__u32 side = test_side(bridge_port ? bridge_port : skb_ifindex(ctx->skb));

	return side == TD_SIDE_OWN ? TD_SIDE_OUTSIDE : side;
}

static __always_inline bool is_own_port(struct bpf_nf_ctx *ctx __attribute__((unused)), __u32 bridge_port)
{
	return test_side(bridge_port) == TD_SIDE_OWN;
}

static __always_inline struct net_device *frame_bridge(struct __sk_buff *skb __attribute__((unused)))
{
	return test_bridge_is(TEST_BRIDGE) ? (void *)facts_get() : NULL;
}

static __always_inline bool is_pod_bridge(struct net_device *bridge __attribute__((unused)))
{
	return test_bridge_is(TEST_BRIDGE_OF_PODS);
}

static __always_inline bool is_port_of(struct net_device *bridge __attribute__((unused)),
				       __u32 ifindex __attribute__((unused)))
{
	return test_bridge_is(TEST_BRIDGE_HAS_INGRESS);
}

static __always_inline bool device_mac(struct net_device *device __attribute__((unused)),
				       __u8 *mac __attribute__((unused)))
{
	return false;
}

static __always_inline bool is_mac_of(struct net_device *device __attribute__((unused)),
				      const __u8 *mac __attribute__((unused)))
{
	return test_bridge_is(TEST_BRIDGE_IS_DESTINATION);
}

static __always_inline enum device_side exit_side(struct bpf_nf_ctx *ctx)
{
	return test_side(skb_out(ctx->skb));
}

#endif /* TANDEM_DEVICES_H */
