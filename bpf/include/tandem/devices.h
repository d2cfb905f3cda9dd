/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Which side of the node a device is on. The interface by which a packet enters or leaves decides its endpoint,
 * because a pod cannot choose it (ADR 12). Both processes may be dead: a device that is in no map is classified by
 * its kind, and a veth by the network namespace of its peer.
 *
 * The tests' stand-in is tests/include/tandem/devices.h: a test run has no devices.
 */
#ifndef TANDEM_DEVICES_H
#define TANDEM_DEVICES_H

#include <tandem/hook_facts.h>
#include <tandem/maps.h>

enum device_side {
	TD_SIDE_OUTSIDE,  /* the world, another node, a container that is no pod */
	TD_SIDE_POD,	  /* the interface of an endpoint */
	TD_SIDE_STRANGER, /* of a pod that is not known, or that cannot be distinguished from one */
};

/* Kinds of devices: the name with its 0, in the low octets of a word. */
#define TD_KIND_VETH   0x0068746576ull	   /* "veth" */
#define TD_KIND_BRIDGE 0x00656764697262ull /* "bridge" */
#define TD_KIND_NETKIT 0x0074696b74656eull /* "netkit" */
#define TD_KIND_OCTETS_VETH 0xffffffffffull
#define TD_KIND_OCTETS_LONG 0xffffffffffffffull

static __always_inline bool is_pod_device(__u32 ifindex)
{
	return bpf_map_lookup_elem(&pod_devices, &ifindex) != NULL;
}

static __always_inline bool is_trusted_device(__u32 ifindex)
{
	return bpf_map_lookup_elem(&trusted_devices, &ifindex) != NULL;
}

/* The first 8 octets of the kind's name; 0: a device without one, as physical ones are. */
static __always_inline __u64 device_kind(struct net_device *device)
{
	const struct rtnl_link_ops *ops = device->rtnl_link_ops;
	struct timespec64 *word;

	if (!ops)
		return 0;
	word = bpf_rdonly_cast(ops->kind, bpf_core_type_id_kernel(struct timespec64));
	return word->tv_sec;
}

static __always_inline bool is_veth(__u64 kind)
{
	return (kind & TD_KIND_OCTETS_VETH) == TD_KIND_VETH;
}

static __always_inline bool is_bridge(__u64 kind)
{
	return (kind & TD_KIND_OCTETS_LONG) == TD_KIND_BRIDGE;
}

static __always_inline bool is_netkit(__u64 kind)
{
	return (kind & TD_KIND_OCTETS_LONG) == TD_KIND_NETKIT;
}

static __always_inline bool is_pod_bridge(struct net_device *device)
{
	struct td_device_name name = {};

	/* up to its end: behind it the kernel leaves what is left of a longer name that the device had before */
	return bpf_core_read_str(&name, sizeof(name), &device->name) > 0 &&
	       bpf_map_lookup_elem(&pod_bridges, &name);
}

/* The device that this one is a port of (bridge, bond, VRF), or NULL. */
static __always_inline struct net_device *device_master(struct net_device *device)
{
	struct netdev_adjacent *adjacent;
	struct list_head *first = NULL;
	struct net_device *master = NULL;
	bool is_master = false;

	bpf_core_read(&first, sizeof(first), &device->adj_list.upper.next);
	if (!first || first == &device->adj_list.upper)
		return NULL;
	adjacent = (void *)first - bpf_core_field_offset(struct netdev_adjacent, list);
	bpf_core_read(&is_master, sizeof(is_master), &adjacent->master);
	if (is_master)
		bpf_core_read(&master, sizeof(master), &adjacent->dev);
	return master;
}

/* A veth whose other end is in the same network namespace leads to no pod. */
static __always_inline bool is_own_pair(struct net_device *veth)
{
	struct net *own = NULL, *others = NULL;
	struct net_device *peer = NULL;
	void *private;

	if (bpf_core_field_exists(struct net_device, priv))
		private = (void *)veth + bpf_core_field_offset(struct net_device, priv);
	else
		private = (void *)veth + ((bpf_core_type_size(struct net_device) + 31) & ~31u);
	/*
	 * The peer is the first member of struct veth_priv. This is no CO-RE relocation: where veth is a module, its types are
	 * in a BTF of its own, which libbpf finds only with CAP_SYS_ADMIN; the agent does not have it.
	 */
	bpf_probe_read_kernel(&peer, sizeof(peer), private);
	if (!peer)
		return false;
	bpf_core_read(&own, sizeof(own), &veth->nd_net.net);
	bpf_core_read(&others, sizeof(others), &peer->nd_net.net);
	return own == others;
}

/*
 * A veth. What comes in by a port of a bridge, and not by the bridge, was sent to a group that bridges keep to
 * themselves (01:80:c2:00:00:0x, IEEE 802.1D): Linux delivers IP in such frames as of the port itself.
 */
static __always_inline enum device_side veth_side(struct net_device *veth, __u32 ifindex)
{
	struct net_device *master;

	if (is_pod_device(ifindex))
		return TD_SIDE_POD;
	if (is_trusted_device(ifindex))
		return TD_SIDE_OUTSIDE;
	master = device_master(veth);
	if (master)
		return is_pod_bridge(master) ? TD_SIDE_STRANGER : TD_SIDE_OUTSIDE;
	return is_own_pair(veth) ? TD_SIDE_OUTSIDE : TD_SIDE_STRANGER;
}

/* As untrusted_skb(). */
static __always_inline const struct nf_hook_state *untrusted_state(const struct nf_hook_state *state)
{
	return bpf_rdonly_cast(state, bpf_core_type_id_kernel(struct nf_hook_state));
}

/*
 * The side by which a packet came in that the host did not make. `bridge_port`: as skb_bridge_port().
 * `state->in` is NULL on what a bridge switches; there the bridge is `state->out`.
 */
static __always_inline enum device_side entry_side(struct bpf_nf_ctx *ctx, __u32 bridge_port)
{
	const struct nf_hook_state *state = untrusted_state(ctx->state);
	struct net_device *in = state->in;
	__u64 kind;

	if (bridge_port) {
		if (is_pod_device(bridge_port))
			return TD_SIDE_POD;
		if (is_trusted_device(bridge_port))
			return TD_SIDE_OUTSIDE;
		if (!in)
			in = state->out;
		return in && is_pod_bridge(in) ? TD_SIDE_STRANGER : TD_SIDE_OUTSIDE;
	}
	if (!in) /* routed multicast */
		return TD_SIDE_STRANGER;
	kind = device_kind(in);
	if (is_veth(kind))
		return veth_side(in, in->ifindex);
	/* without br_netfilter the port is not to be known */
	if (is_bridge(kind))
		return is_pod_bridge(in) ? TD_SIDE_STRANGER : TD_SIDE_OUTSIDE;
	return is_netkit(kind) ? TD_SIDE_STRANGER : TD_SIDE_OUTSIDE;
}

/* Ports of a bridge that a search looks at: a bridge has no more (BR_MAX_PORTS). */
#define TD_PORTS_SEARCHED 1024

struct port_search {
	struct list_head *head;
	struct list_head *at;
	struct net_device *port;
	__u32 ifindex;
	bool is_over; /* looked at all, or found it */
};

static long port_search_step(__u32 step __attribute__((unused)), struct port_search *search)
{
	struct list_head *at = search->at;
	struct netdev_adjacent *adjacent;
	struct net_device *port = NULL;
	__u32 ifindex = 0;

	if (at == search->head) {
		search->is_over = true;
		return 1;
	}
	adjacent = (void *)at - bpf_core_field_offset(struct netdev_adjacent, list);
	bpf_core_read(&port, sizeof(port), &adjacent->dev);
	bpf_core_read(&ifindex, sizeof(ifindex), &port->ifindex);
	if (ifindex == search->ifindex) {
		search->port = port;
		search->is_over = true;
		return 1;
	}
	if (bpf_core_read(&search->at, sizeof(search->at), &at->next))
		return 1;
	return 0;
}

/* For rare packets: 256 ports may take 10 us. */
static __always_inline void port_search(struct port_search *search, struct net_device *bridge)
{
	search->head = (void *)bridge + bpf_core_field_offset(struct net_device, adj_list.lower);
	if (!bpf_core_read(&search->at, sizeof(search->at), &bridge->adj_list.lower.next))
		bpf_loop(TD_PORTS_SEARCHED, port_search_step, search, 0);
}

/* Is the bridge port one end of a veth pair whose both ends are the node's? */
static __always_inline bool is_own_port(struct bpf_nf_ctx *ctx, __u32 bridge_port)
{
	struct net_device *bridge = untrusted_state(ctx->state)->in;
	struct port_search search = { .ifindex = bridge_port };
	struct net_device *port;

	if (!bridge)
		return false;
	port_search(&search, bridge);
	if (!search.port)
		return false;
	port = bpf_rdonly_cast(search.port, bpf_core_type_id_kernel(struct net_device));
	return is_veth(device_kind(port)) && is_own_pair(port);
}

/* The bridge by whose port the frame comes or leaves, or NULL: the device is a port of none. */
static __always_inline struct net_device *frame_bridge(struct __sk_buff *skb)
{
	struct net_device *device = untrusted_skb(bpf_cast_to_kern_ctx(skb))->dev;

	return device ? device_master(device) : NULL;
}

/* A port that cannot be looked for counts as one of the bridge. */
static __always_inline bool is_port_of(struct net_device *bridge, __u32 ifindex)
{
	struct port_search search = { .ifindex = ifindex };

	port_search(&search, bridge);
	return search.port || !search.is_over;
}

/* Its Ethernet address now; false: it cannot be read. */
static __always_inline bool device_mac(struct net_device *device, __u8 *mac)
{
	const unsigned char *address = NULL;

	bpf_core_read(&address, sizeof(address), &device->dev_addr);
	return !bpf_probe_read_kernel(mac, ETH_ALEN, address);
}

static __always_inline bool is_mac_of(struct net_device *device, const __u8 *mac)
{
	__u8 own[ETH_ALEN] = {};

	return device_mac(device, own) && !mac_difference(own, mac);
}

/* The side by which a packet leaves whose destination is no endpoint. */
static __always_inline enum device_side exit_side(struct bpf_nf_ctx *ctx)
{
	struct net_device *out = untrusted_skb(ctx->skb)->dev;
	__u64 kind;

	if (!out)
		return TD_SIDE_OUTSIDE;
	kind = device_kind(out);
	if (is_bridge(kind))
		return is_pod_bridge(out) ? TD_SIDE_STRANGER : TD_SIDE_OUTSIDE;
	if (is_veth(kind))
		return veth_side(out, out->ifindex);
	return is_netkit(kind) ? TD_SIDE_STRANGER : TD_SIDE_OUTSIDE;
}

#endif /* TANDEM_DEVICES_H */
