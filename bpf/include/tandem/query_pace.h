/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Limits the rate of datagrams to the shared socket. A listener has one receive buffer for all pods, and a member reads a
 * datagram before it knows whose it is. So the members' own limit, which answers with SERVFAIL, bounds only what a pod gets: what
 * it sends beyond the pace of the members would fill the buffer, and the queries of others would be lost.
 *
 * A pod has td_config.datagrams_per_second, and as many in one burst, within the rate of the node (pod_pace.h), of which
 * TD_QUERY_NODE_BURST_NS are taken at once. Excess datagrams are dropped without an answer.
 */
#ifndef TANDEM_QUERY_PACE_H
#define TANDEM_QUERY_PACE_H

#include <tandem/pod_frame.h>
#include <tandem/pod_pace.h>

/* By default 10,000 datagrams, about what the receive buffer of one member holds. */
#define TD_QUERY_NODE_BURST_NS (TD_NS_PER_S / 4)

/* One, or those that the kernel makes of a segmented packet (UDP_SEGMENT), each of which takes its room in the buffer. */
static __always_inline __u64 datagrams_of(const struct __sk_buff *skb, const struct packet *p)
{
	__u32 headers = p->l4_offset + sizeof(struct udphdr);
	__u32 each = skb->gso_size;

	if (!each || skb->len <= headers)
		return 1;
	return (skb->len - headers + each - 1) / each;
}

/* May the pod send this datagram toward the shared socket now? */
static __always_inline bool query_allowed(const struct __sk_buff *skb, const struct packet *p, __u32 endpoint_id)
{
	if (!td_config.datagrams_per_second)
		return true;
	return pod_pace_take(&query_pace, &node_query_pace, endpoint_id,
			     datagrams_of(skb, p) * (TD_NS_PER_S / td_config.datagrams_per_second),
			     TD_QUERY_NODE_BURST_NS);
}

#endif /* TANDEM_QUERY_PACE_H */
