/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Limits the rate of TCP connections to the shared socket. A listener has one accept queue for all pods, in the order of
 * arrival, so the rate of each pod is bounded before it. An excess SYN is dropped without an answer, and the client sends it
 * again after a second.
 *
 * A pod has td_config.connects_per_second, and as many in one burst, within the rate of the node (pod_pace.h). While a queue of the
 * members fills up, it has the part of that in which a pod opens few connections (lane.h, connect_queue.h).
 */
#ifndef TANDEM_CONNECT_PACE_H
#define TANDEM_CONNECT_PACE_H

#include <tandem/connect_queue.h>
#include <tandem/lane.h>
#include <tandem/pod_frame.h>
#include <tandem/pod_pace.h>

#define TD_TCP_FLAGS_OFFSET 13
#define TD_TCP_SYN	    0x02
#define TD_TCP_ACK	    0x10

/*
 * Is there a connection, or the beginning of one, to which this segment belongs? `port_be`: the listeners'. Without
 * one, a segment with ACK opens a connection all the same if it carries a SYN cookie (tcp_syncookies): after a RST
 * the same cookie does it again.
 */
static __always_inline bool has_connection(struct __sk_buff *skb, const struct packet *p, __be16 port_be)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = p->family == 4 ? sizeof(tuple.ipv4) : sizeof(tuple.ipv6);
	struct bpf_sock *socket;
	bool is_open;

	if (p->family == 4) {
		tuple.ipv4.saddr = p->source.a[3];
		tuple.ipv4.daddr = p->destination.a[3];
		tuple.ipv4.sport = p->source_port;
		tuple.ipv4.dport = port_be;
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &p->source, sizeof(p->source));
		__builtin_memcpy(tuple.ipv6.daddr, &p->destination, sizeof(p->destination));
		tuple.ipv6.sport = p->source_port;
		tuple.ipv6.dport = port_be;
	}
	socket = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	is_open = socket->state != BPF_TCP_LISTEN;
	bpf_sk_release(socket);
	return is_open;
}

/* Whether a segment toward the shared socket belongs to a connection, or may open one now. */
static __always_inline bool connect_allowed(struct __sk_buff *skb, const struct packet *p, __u32 endpoint_id)
{
	__u64 interval;
	struct td_pod_pace *pod;
	const __u8 *flags;

	if (!td_config.connects_per_second)
		return true;
	flags = header_at(skb, p->l4_offset + TD_TCP_FLAGS_OFFSET, 1);
	if (!flags)
		return false;
	if ((*flags & (TD_TCP_SYN | TD_TCP_ACK)) != TD_TCP_SYN &&
	    has_connection(skb, p, td_config.port_be))
		return true;
	interval = TD_NS_PER_S / td_config.connects_per_second;
	pod = pod_pace_of(&connect_pace, endpoint_id);
	if (!pod_pace_take(pod, &node_connect_pace, interval, TD_NS_PER_S))
		return false;
	return (pod && lane_is_light(pod, interval, interval)) || !are_connect_queues_filling(skb->protocol);
}

#endif /* TANDEM_CONNECT_PACE_H */
