/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * How full the queues of the members' TCP listeners are. A listener has one SYN queue, for handshakes that are not finished, and one accept
 * queue, both for all pods. A pod within its rate (connect_pace.h) can fill either: the first by never finishing a handshake, the second
 * by connecting faster than the members accept. Then the kernel drops everybody's SYNs. A full SYN queue harms only without SYN cookies
 * (tcp_syncookies=0), where the kernel drops what comes when three quarters of tcp_max_syn_backlog are taken.
 *
 * select_member sees the listener of each SYN and notes here that a queue is fuller than the share below. from_pod then drops SYNs of pods
 * that open many connections (lane.h), so that the rest of the queue is for those that open few. A note counts for
 * TD_CONNECT_QUEUE_NOTE_NS, after which the next SYN measures again.
 */
#ifndef TANDEM_CONNECT_QUEUE_H
#define TANDEM_CONNECT_QUEUE_H

#include <tandem/maps.h>
#include <linux/if_ether.h>

#define TD_CONNECT_QUEUE_NOTE_NS 20000000ull

/* The part of a queue that pods that open many connections may fill. A quarter of 4,096 is what one pod may open at once by default. */
#define TD_CONNECT_QUEUE_SHARE 4u

/* `family`: ETH_P_IP or ETH_P_IPV6, in network byte order. */
static __always_inline __u64 *connect_queue_of(__be32 family, __u32 member)
{
	__u32 index = (family == bpf_htons(ETH_P_IPV6) ? TD_MEMBERS_MAX : 0) + member;

	return bpf_map_lookup_elem(&connect_queues, &index);
}

/* An empty queue never is, whatever the node's limits: they may be less than TD_CONNECT_QUEUE_SHARE. */
static __always_inline bool is_share_taken(__u32 length, __u32 most)
{
	return length && length >= most / TD_CONNECT_QUEUE_SHARE;
}

static __always_inline bool is_queue_filling(struct sock *listener)
{
	struct inet_connection_sock *queues =
		bpf_rdonly_cast(listener, bpf_core_type_id_kernel(struct inet_connection_sock));
	struct netns_ipv4 *node = &listener->__sk_common.skc_net.net->ipv4;
	__u32 most = listener->sk_max_ack_backlog;
	__u32 most_syns = node->sysctl_max_syn_backlog;

	if (is_share_taken(listener->sk_ack_backlog, most))
		return true;
	if (node->sysctl_tcp_syncookies)
		return false;
	return is_share_taken(queues->icsk_accept_queue.qlen.counter,
			      most_syns < most ? most_syns : most);
}

/* A SYN goes to the member's listener, which select_member has selected. */
static __always_inline void connect_queue_note(struct sk_reuseport_md *packet, __u32 member)
{
	struct sk_reuseport_kern *kernel = bpf_cast_to_kern_ctx(packet);
	__u64 *filling_ns = connect_queue_of(packet->eth_protocol, member);
	struct sock *listener = kernel->selected_sk;

	if (filling_ns && listener)
		WRITE_ONCE(*filling_ns, is_queue_filling(listener) ? bpf_ktime_get_ns() : 0);
}

/* Is a queue of any member's listener of this family filling up? */
static __always_inline bool are_connect_queues_filling(__be32 family)
{
	__u64 now = bpf_ktime_get_ns();

	for (__u32 member = 0; member < TD_MEMBERS_MAX; member++) {
		__u64 *filling_ns = connect_queue_of(family, member);
		__u64 seen = filling_ns ? READ_ONCE(*filling_ns) : 0;

		if (seen && (__s64)(now - seen) < (__s64)TD_CONNECT_QUEUE_NOTE_NS)
			return true;
	}
	return false;
}

#endif /* TANDEM_CONNECT_QUEUE_H */
