/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The kernel's own types, as far as the programs need them: only the fields that are read, relocated by name at load (CO-RE),
 * so that one object fits 6.6 and newer and no vmlinux.h is needed to build it.
 */
#ifndef TANDEM_KERNEL_H
#define TANDEM_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define NF_DROP   0
#define NF_ACCEPT 1

#define NF_INET_LOCAL_IN     1
#define NF_INET_POST_ROUTING 4

#define NFPROTO_IPV4 2
#define NFPROTO_IPV6 10

/* tcx verdicts (linux/bpf.h has them from 6.6 on). */
#define TD_TCX_NEXT (-1)
#define TD_TCX_DROP 2

#define TD_PACKET_HOST 0

#define TD_CHECKSUM_PARTIAL 3
/* Before every place in a packet and its headroom. */
#define TD_NO_CHECKSUM (-((__s64)1 << 32))

/* The loopback device's index is the same in every network namespace. */
#define TD_LOOPBACK_IFINDEX 1

/* skb->_nfct: the low bits are the packet's relation to its connection. */
#define TD_CTINFO_MASK        7ul
#define TD_CTINFO_ESTABLISHED 0 /* a reply was seen; original direction */
#define TD_CTINFO_RELATED     1
#define TD_CTINFO_NEW         2
#define TD_CTINFO_REPLY       3 /* established, reply direction */
#define TD_CTINFO_RELATED_REPLY 4
#define TD_CT_STATUS_CONFIRMED  (1ul << 3)
#define TD_CT_TCP_ESTABLISHED   3 /* enum tcp_conntrack */

#define CORE __attribute__((preserve_access_index))

struct list_head {
	struct list_head *next;
} CORE;

struct rtnl_link_ops {
	const char *kind;
} CORE;

struct netns_ipv4 {
	__u8 sysctl_tcp_syncookies;
	int sysctl_max_syn_backlog;
} CORE;

struct net {
	struct netns_ipv4 ipv4;
} CORE;

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	char name[16];
	int ifindex;
	const unsigned char *dev_addr;
	const struct rtnl_link_ops *rtnl_link_ops;
	possible_net_t nd_net;
	struct {
		struct list_head upper;
		struct list_head lower;
	} adj_list;
	__u8 priv[]; /* since 6.10; before, it followed the structure's end */
} CORE;

struct netdev_adjacent {
	struct net_device *dev;
	bool master;
	struct list_head list;
} CORE;

struct skb_ext {
	__u8 offset[4]; /* in units of 8 octets, by enum skb_ext_id */
} CORE;

enum skb_ext_id {
	SKB_EXT_BRIDGE_NF,
};

/* State that br_netfilter keeps beside a packet: the bridge port by which it came in. */
struct nf_bridge_info {
	int physinif; /* since 6.8 */
} CORE;

struct nf_bridge_info___before_6_8 {
	struct net_device *physindev;
} CORE;

struct sk_buff {
	struct net_device *dev;
	unsigned long _nfct;
	int skb_iif;
	__u32 mark;
	__u32 priority;
	unsigned char *head;
	unsigned char *data;
	__u16 csum_start;
	__u16 csum_offset;
	__u8 ip_summed : 2;
	__u8 active_extensions;
	unsigned int truesize; /* memory that the packet takes of a buffer */
	struct skb_ext *extensions;
} CORE;

struct sk_reuseport_kern {
	struct sk_buff *skb;
	struct sock *selected_sk;
} CORE;

struct nf_hook_state {
	__u8 hook;
	__u8 pf;
	struct net_device *in;
	struct net_device *out;
} CORE;

/* Any structure of the kernel that begins with a word: to read one at an address. */
struct timespec64 {
	long long tv_sec;
} CORE;

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} CORE;

union nf_inet_addr {
	__u32 all[4];
} CORE;

struct nf_conntrack_man {
	union nf_inet_addr u3;
} CORE;

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			__be16 all;
		} u;
	} dst;
} CORE;

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
} CORE;

struct ip_ct_tcp {
	__u8 state;
} CORE;

union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
} CORE;

struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
	union nf_conntrack_proto proto;
} CORE;

typedef struct {
	unsigned int val;
} kuid_t;

struct sock_common {
	possible_net_t skc_net;
} CORE;

struct sock {
	struct sock_common __sk_common;
	kuid_t sk_uid;
	__u32 sk_ack_backlog; /* of a listener: connections that wait to be accepted */
	__u32 sk_max_ack_backlog;
} CORE;

typedef struct {
	int counter;
} atomic_t;

struct request_sock_queue {
	atomic_t qlen; /* handshakes that are not finished */
} CORE;

struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
} CORE;

/* 6.4 */
extern int bpf_dynptr_from_skb(struct sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer,
			      __u32 buffer__szk) __ksym;
/* 6.2 */
extern void *bpf_cast_to_kern_ctx(void *context) __ksym;
extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

#define READ_ONCE(x)	 (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/*
 * Zero, but computed from `value`: a load at an address that contains it is ordered after the load of
 * `value` on every CPU (address dependency), which is the one read barrier that BPF of 6.6 can express.
 */
static __always_inline __u64 zero_after(__u64 value)
{
	asm volatile("%0 &= 0" : "+r"(value));
	return value;
}

#endif /* TANDEM_KERNEL_H */
