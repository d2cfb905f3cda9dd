/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * judge: netfilter at POST_ROUTING (priority 90, after DNAT, before SNAT) and LOCAL_IN (112), IPv4 and
 * IPv6. It judges every packet of an endpoint once, for both ends, as part of its connection: a reply is turned round and looked
 * up like the packet that it answers, so a changed policy applies to open connections too.
 *
 * The interfaces decide which endpoint a packet belongs to. An endpoint's address counts as source only on the endpoint's own
 * interface, which from_pod guards (safety rule 3), and as destination only if the packet leaves by that interface, of any
 * sender. A packet that entered by no device is the host's. `judge` writes only the use of addresses: last_used_ns of `fqdn`, and
 * `fqdn_live`.
 */
#ifndef TANDEM_JUDGE_H
#define TANDEM_JUDGE_H

#include <tandem/conntrack.h>
#include <tandem/devices.h>
#include <tandem/flood.h>
#include <tandem/parse_hook.h>
#include "judge_policy.h"
#include "judgement.h"

/*
 * Rule 1: a member's reply to a pod, from the shared socket. Its source may be an endpoint's address. Only members may bind
 * port P of the host (guard_port).
 */
static __always_inline bool is_our_reply(const struct judgement *j)
{
	return !is_local_in(j) && j->ifindex == 0 && is_udp_or_tcp(&j->packet) &&
	       j->packet.source_port == td_config.port_be;
}

/* The packet is for port P of the node, which only packets that from_pod steered may reach. */
static __always_inline bool is_at_our_port(const struct judgement *j)
{
	return is_local_in(j) && is_udp_or_tcp(&j->packet) && !j->packet.is_tail &&
	       j->packet.destination_port == td_config.port_be;
}

/* Rule 3: the end of a tunnel accepts the source of an inner packet unchecked, so pods may not send to it. */
static __always_inline bool is_tunnel(const struct packet *p)
{
	__u32 port = bpf_ntohs(p->destination_port);

	if (is_tunnel_protocol(p->protocol))
		return true;
	return p->protocol == IPPROTO_UDP && bpf_map_lookup_elem(&tunnel_ports, &port);
}

/*
 * A packet that is delivered to the host has the host's class, whatever its destination: a link-local address, a broadcast
 * or a group. An address of the node keeps its own class, because node-local DNS has one; any other address gets the class of
 * the loopback address.
 */
static __always_inline struct td_class class_of_host(const struct td_addr *address)
{
	struct td_addr loopback = { .a = { 0, 0, 0, bpf_htonl(1) } };
	struct td_class class = class_of(address);

	if (!is_node(&class))
		class = class_of(&loopback);
	/* also while the loopback address has no class: no name that was learned opens the host */
	class.flags |= TD_CLASS_NODE;
	return class;
}

/* Neighbour and listener discovery, which a pod may send without an address of its own. */
static __always_inline bool is_neighbour_message(const struct packet *p)
{
	return is_neighbour_discovery(p) || is_multicast_listener(p);
}

/*
 * Rule 3 for the node itself: only packets of this node may have its address as source, if they are for an endpoint. Packets
 * to the node may have it all the same: an answer whose translation is undone, and the node's own multicast that loops back.
 * Neighbour discovery is exempt, because it finds out whether another host has the address.
 */
static __always_inline bool is_forged_host(const struct judgement *j)
{
	return j->source.class.flags & TD_CLASS_HOST && j->destination.id && !is_local_in(j) &&
	       !is_neighbour_message(&j->packet);
}

/*
 * Rule 18: the packet is for an endpoint's address and leaves by another interface than the endpoint's, so the address has
 * another owner now. This applies to packets of the host, too.
 */
static __always_inline bool is_astray(const struct judgement *j)
{
	return j->destination.id && !is_local_in(j) && !j->is_delivered;
}

/*
 * From a pod to an address of the loopback, which is on no link. With route_localnet, which kube-proxy sets, the node delivers
 * it to programs that listen for the node alone, and a member would ask a DNS server there. A reply has such a destination
 * if the node asked by it, for translation is undone before.
 */
static __always_inline bool is_at_loopback(const struct judgement *j)
{
	return j->source.id && !j->from_host && !j->is_reply && is_loopback(&j->packet.destination);
}

/*
 * The ends of a packet (rules 3, 6 and 18). An interface on the pods' side without an endpoint belongs to a pod whose
 * policy is not computed yet: packets from it are dropped, and those to it that the host did not send.
 *
 * A function of its own: kernels that round each frame up to 32 octets have not one octet of stack more for the longest
 * chain of calls, which ends in fqdn_search_pages().
 */
static __noinline __u32 judge_strangers(struct judgement *j)
{
	/* the host's reply to a pod is judged as the pod's request, which needs the host's class */
	if (!j->source.id && (!j->from_host || j->is_reply)) {
		/* only an endpoint at the other end has a policy that asks for it */
		if (j->destination.id)
			j->source.class = class_of(&j->packet.source);
		if (j->entry == TD_SIDE_STRANGER)
			return TD_COUNT_DROP_UNKNOWN_POD;
		if (!j->from_host && is_forged_host(j))
			return TD_COUNT_DROP_UNVERIFIED;
		/*
		 * At LOCAL_IN, behind source translation, an answer to the host bears the Service's address that
		 * the host asked; at POST_ROUTING, before it, still the pod's own.
		 */
		if (j->entry == TD_SIDE_POD && !(j->is_reply && is_local_in(j)) &&
		    !is_neighbour_message(&j->packet))
			return TD_COUNT_DROP_UNVERIFIED;
	}
	if (j->source.id && !j->from_host && !j->is_verified)
		return TD_COUNT_DROP_UNVERIFIED;
	if (is_local_in(j)) {
		if (is_at_loopback(j))
			return TD_COUNT_DROP_PARSE;
		if (!j->destination.id && j->source.id)
			j->destination.class = class_of_host(&j->packet.destination);
		return TD_COUNT_FORWARDED;
	}
	if (!j->destination.id && j->source.id)
		j->destination.class = class_of(&j->packet.destination);
	if (is_astray(j) || j->exit == TD_SIDE_STRANGER)
		return TD_COUNT_DROP_UNKNOWN_POD;
	return TD_COUNT_FORWARDED;
}

/* The mark and port P: only packets that from_pod steered reach the shared socket, and they reach nothing else. */
static __always_inline __u32 judge_steering(const struct judgement *j)
{
	if (j->is_steered && !j->from_host) {
		if (!is_at_our_port(j) || !j->source.id)
			return TD_COUNT_DROP_NOT_REDIRECTED;
		return j->source.flags & TD_EP_HOLD ? TD_COUNT_DROP_HOLD : TD_COUNT_REDIRECTED;
	}
	if (is_at_our_port(j) && !j->is_reply)
		return TD_COUNT_DROP_PORT;
	return TD_COUNT_FORWARDED;
}

/* Packets that are dropped whatever policy says, HOLD apart. */
static __always_inline __u32 judge_packet_kind(const struct judgement *j)
{
	const struct packet *p = &j->packet;

	if (p->is_fragment)
		return TD_COUNT_DROP_FRAGMENT;
	if (p->is_cut)
		return TD_COUNT_DROP_PARSE;
	if (j->source.id && !j->from_host && is_tunnel(p) &&
	    (is_local_in(j) || (j->destination.class.flags & TD_CLASS_NODE)))
		return TD_COUNT_DROP_TUNNEL;
	return TD_COUNT_FORWARDED;
}

/*
 * Rule 14: an ICMP error that conntrack relates to a flow passes, but from a local endpoint only if the endpoint is
 * a party to that flow. Otherwise a pod could send one to the parties of any flow that it can quote.
 */
static __always_inline bool is_strangers_error(const struct judgement *j, bool is_related_error)
{
	return is_related_error && j->source.id &&
	       !connection_has_party(&j->connection, j->packet.family, &j->packet.source);
}

/* An ICMP reply is judged as the request that it answers. */
static __always_inline __be16 icmp_request_of(const struct packet *p)
{
	__u8 type = p->icmp_type;

	if (p->family == 4 && type == 0)
		type = 8;
	else if (p->family == 4 && (type == 14 || type == 16 || type == 18))
		type--;
	else if (p->family == 6 && (type == 129 || type == 140))
		type--;
	return bpf_htons((__u16)type << 8);
}

static __always_inline void judgement_turn_round(struct judgement *j)
{
	struct packet *p = &j->packet;
	struct td_addr address = p->source;
	struct side side = j->source;
	__be16 port = p->source_port;

	p->source = p->destination;
	p->destination = address;
	j->source = j->destination;
	j->destination = side;
	if (is_icmp(p)) {
		p->destination_port = icmp_request_of(p);
		return;
	}
	p->source_port = p->destination_port;
	p->destination_port = port;
}

/* The order matters: identity of the source, then steering, then what needs no policy, then policy. */
__noinline int judge_connection(struct judgement *j)
{
	bool is_related_error;
	bool host_acts;
	__u32 reason;

	if (!j)
		return TD_COUNT_DROP_PARSE;
	host_acts = j->is_reply ? is_local_in(j) : j->from_host;
	if (is_our_reply(j))
		return is_astray(j) ? TD_COUNT_DROP_UNKNOWN_POD : TD_COUNT_HOST;
	reason = judge_strangers(j);
	if (reason != TD_COUNT_FORWARDED)
		return reason;
	reason = judge_steering(j);
	if (reason != TD_COUNT_FORWARDED)
		return reason;
	if (!j->source.id && !j->destination.id)
		return TD_COUNT_NO_ENDPOINT;
	if (j->source.id == j->destination.id) /* a pod cannot be cut off from itself */
		return TD_COUNT_FORWARDED;
	reason = judge_packet_kind(j);
	if (reason != TD_COUNT_FORWARDED)
		return reason;
	is_related_error = connection_is_related(&j->connection) && is_icmp_error(&j->packet);
	if (is_strangers_error(j, is_related_error))
		return TD_COUNT_DROP_ICMP_ERROR;
	if (host_acts && !(j->is_reply ? j->destination.id : j->source.id))
		return TD_COUNT_HOST;
	if (is_neighbour_message(&j->packet))
		return TD_COUNT_FORWARDED;
	if ((j->source.flags | j->destination.flags) & TD_EP_HOLD)
		return TD_COUNT_DROP_HOLD;
	if (is_related_error)
		return TD_COUNT_RELATED;
	if (j->is_reply)
		judgement_turn_round(j);
	return judge_policy(j, host_acts);
}

/*
 * The payer of a drop's event: the pod that sent the packet, also if another pod's policy drops it. For a forged or unknown
 * source it is the interface, and for a source outside of the node the destination.
 */
static __always_inline __u32 event_payer(const struct judgement *j)
{
	if (j->source.id && (j->is_verified || j->from_host))
		return j->source.id;
	if (!j->source.id && j->entry == TD_SIDE_OUTSIDE && j->destination.id)
		return j->destination.id;
	return j->ifindex | TD_PAYER_DEVICE;
}

/* A function of its own, as judge_strangers(). A bridge may flood a packet without endpoint to all ports. */
static __noinline bool is_told_flood(const struct judgement *j, __u32 port, __u32 reason)
{
	return !is_local_in(j) && !j->destination.id &&
	       flood_is_told(flood_digest(&j->packet, j->ifindex, reason), port);
}

SEC("netfilter")
int judge(struct bpf_nf_ctx *ctx)
{
	struct judgement j = {};
	__u32 reason;

	if (parse_hook(ctx->skb, ctx->state->pf, &j.packet)) {
		count(TD_COUNT_DROP_PARSE);
		return NF_DROP;
	}
	judgement_load(&j, ctx);
	j.is_steered = (skb_mark(ctx->skb) & td_config.mark) != 0;
	j.connection = connection_of(ctx->skb);
	/* conntrack relates it to the flow that it quotes, as an error; to policy it is a packet like any other */
	if (is_icmp_redirect(&j.packet))
		j.connection.entry = NULL;
	j.is_reply = connection_is_reply(&j.connection);
	j.facts.ifindex = j.ifindex;
	j.facts.payer = event_payer(&j);
	j.facts.hook = is_local_in(&j) ? TD_HOOK_LOCAL_IN : TD_HOOK_POST_ROUTING;
	reason = judge_connection(&j);
	if (reason == TD_COUNT_REDIRECTED) /* from_pod has counted it */
		return NF_ACCEPT;
	count(reason);
	if (reason == TD_COUNT_FORWARDED || reason == TD_COUNT_HOST ||
	    reason == TD_COUNT_NO_ENDPOINT || reason == TD_COUNT_RELATED)
		return NF_ACCEPT;
	if (skb_bridge_port(ctx->skb) && is_told_flood(&j, skb_out(ctx->skb), reason))
		return NF_DROP;
	if (!j.facts.endpoint_id)
		j.facts.endpoint_id = j.source.id ? j.source.id : j.destination.id;
	judge_report(&j, reason, TD_VERDICT_DENY);
	return NF_DROP;
}

#endif /* TANDEM_JUDGE_H */
