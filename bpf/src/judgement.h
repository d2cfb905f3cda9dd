/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* The input of `judge`: the two ends of a packet, and the interfaces by which it enters and leaves. */
#ifndef TANDEM_JUDGEMENT_H
#define TANDEM_JUDGEMENT_H

#include <tandem/conntrack.h>
#include <tandem/devices.h>
#include <tandem/events.h>
#include <tandem/parse_hook.h>

/* One end of the connection: an endpoint of this node (id > 0) or anybody else. */
struct side {
	__u32 id;
	__u32 policy_id;
	__u32 flags;
	struct td_class class;
};

struct judgement {
	struct packet packet;
	struct connection connection;
	struct side source;
	struct side destination;
	__u32 ifindex; /* where the packet came in, the port of a bridge if it is known; 0: none, the host made the packet */
	__u8 hook;
	bool is_reply;
	bool from_host;
	bool is_steered;
	bool is_verified;  /* the source is the endpoint behind the interface by which the packet came in */
	bool is_delivered; /* the interface by which it leaves is the one of the destination's endpoint */
	__u8 entry;	   /* device_side, where the source is no endpoint */
	__u8 exit;	   /* device_side, where the destination is none */
	/* of the drop */
	struct event_facts facts;
};

static __always_inline const struct td_endpoint *side_load(struct side *side, const struct td_addr *address)
{
	const struct td_endpoint *endpoint = bpf_map_lookup_elem(&endpoints, address);

	side->class.id = TD_CLASS_NONE;
	if (!endpoint)
		return NULL;
	side->id = endpoint->id;
	side->policy_id = endpoint->policy_id;
	side->flags = endpoint->flags;
	side->class.id = endpoint->class_id;
	side->class.flags = TD_CLASS_CLUSTER;
	return endpoint;
}

static __always_inline bool is_local_in(const struct judgement *j)
{
	return j->hook == NF_INET_LOCAL_IN;
}

/* Is it the endpoint's interface? The index alone is not enough, because another interface may have it now. */
static __always_inline bool is_interface_of(const struct td_endpoint *endpoint, __u32 ifindex)
{
	return ifindex == endpoint->veth_ifindex && is_pod_device(ifindex);
}

/* Does a packet that leaves by `ifindex` reach the endpoint? A packet that is routed onto a bridge has no port yet. */
static __always_inline bool is_way_to(const struct td_endpoint *endpoint, __u32 ifindex)
{
	if (endpoint->flags & TD_EP_BRIDGED && ifindex == endpoint->l3_ifindex)
		return is_pod_device(endpoint->veth_ifindex);
	return is_interface_of(endpoint, ifindex);
}

/*
 * Whether the source of a packet that the host did not make is verified at the ingress interface. Without an endpoint: the
 * side of that interface.
 */
static __always_inline void judgement_load_entry(struct judgement *j, struct bpf_nf_ctx *ctx,
						 const struct td_endpoint *source, __u32 bridge_port)
{
	__s64 checksum_at;

	if (!source) {
		j->entry = entry_side(ctx, bridge_port);
		return;
	}
	j->is_verified = is_interface_of(source, j->ifindex);
	checksum_at = skb_checksum_at(ctx->skb);
	/* PACKET_VNET_HDR lets a pod choose where; over addresses or ports, they would change after the verdict */
	if (checksum_at != TD_NO_CHECKSUM &&
	    checksum_at < j->packet.l4_offset + l4_checksum_offset(j->packet.protocol))
		j->packet.is_cut = 1;
}

/* The packet's ends and its interfaces. */
static __always_inline void judgement_load(struct judgement *j, struct bpf_nf_ctx *ctx)
{
	const struct td_endpoint *source = side_load(&j->source, &j->packet.source);
	const struct td_endpoint *destination = side_load(&j->destination, &j->packet.destination);
	__u32 bridge_port = skb_bridge_port(ctx->skb);

	j->hook = ctx->state->hook;
	j->ifindex = bridge_port ? bridge_port : skb_ifindex(ctx->skb);
	j->from_host = j->ifindex == 0 || j->ifindex == TD_LOOPBACK_IFINDEX;
	if (!j->from_host)
		judgement_load_entry(j, ctx, source, bridge_port);
	if (is_local_in(j))
		return;
	if (destination)
		j->is_delivered = is_way_to(destination, skb_out(ctx->skb));
	else if (!j->from_host)
		j->exit = exit_side(ctx);
}

#endif /* TANDEM_JUDGEMENT_H */
