/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Limits the rate of datagrams to the shared socket. A listener has one receive buffer for all pods, and a member reads a
 * datagram before it knows whose it is. So the members' own limit, which answers with SERVFAIL, bounds only what a pod gets: what
 * it sends beyond the pace of the members would fill the buffer, and the queries of others would be lost.
 *
 * A pod has td_config.datagrams_per_second, and as many in one burst, within the rate of the node (pod_pace.h), of which as many
 * are taken at once as the buffer of one member holds. A datagram counts as several if it takes more memory than a query: with
 * MSG_ZEROCOPY one of 400 octets takes 70 KB, and 119 of these fill the buffer. Excess datagrams are dropped without an answer.
 */
#ifndef TANDEM_QUERY_PACE_H
#define TANDEM_QUERY_PACE_H

#include <tandem/lane.h>
#include <tandem/pod_frame.h>
#include <tandem/pod_pace.h>

/* Memory of a datagram that counts as one: a query of up to 250 octets takes 832, one of 1200 octets 2304. */
#define TD_QUERY_BYTES 1024u

/*
 * Datagrams that the node takes at once: as many, and the guaranteed burst of a pod, fit into the receive buffer of 8 MiB
 * (socketBufferBytes, twice).
 */
#define TD_QUERIES_AT_ONCE 7500u

/* The datagrams that the kernel makes of this packet (UDP_SEGMENT), each with what it takes; at least what the packet takes. */
static __always_inline __u64 query_units(struct __sk_buff *skb, const struct packet *p)
{
	struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);
	__u64 units = (kernel_skb->truesize + TD_QUERY_BYTES - 1) / TD_QUERY_BYTES;
	__u32 headers = p->l4_offset + sizeof(struct udphdr);
	__u32 each = skb->gso_size;
	__u64 of_segments;

	if (!each || skb->len <= headers)
		return units;
	of_segments = (skb->len - headers + each - 1) / each * (1 + each / TD_QUERY_BYTES);
	return of_segments > units ? of_segments : units;
}

/* May the pod send this datagram toward the shared socket now? If so, it gets its lane. */
static __always_inline bool query_allowed(struct __sk_buff *skb, const struct packet *p, __u32 endpoint_id)
{
	struct td_pod_pace *pod;
	__u64 interval, cost;

	lane_set(skb, TD_LANE_LIGHT);
	if (!td_config.datagrams_per_second)
		return true;
	interval = TD_NS_PER_S / td_config.datagrams_per_second;
	cost = query_units(skb, p) * interval;
	pod = pod_pace_of(&query_pace, endpoint_id);
	if (!pod_pace_take(pod, &node_query_pace, cost, interval / TD_PACE_NODE_SHARE * TD_QUERIES_AT_ONCE))
		return false;
	if (!pod || !lane_is_light(pod, cost, interval))
		lane_set(skb, TD_LANE_HEAVY);
	return true;
}

#endif /* TANDEM_QUERY_PACE_H */
