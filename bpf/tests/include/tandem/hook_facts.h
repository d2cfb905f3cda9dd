/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * For tests: what a test run of a netfilter program cannot set comes from the map `test_facts`. Stands in
 * front of include/tandem/hook_facts.h, which tells the meaning of each function.
 */
#ifndef TANDEM_HOOK_FACTS_H
#define TANDEM_HOOK_FACTS_H

#include <tandem/packet.h>

struct test_facts {
	__u32 mark;
	__u32 ifindex;
	__u32 bridge_port;
	__u32 out;
	__u32 info;    /* 0..7 */
	__u32 tracked; /* 1: there is an entry */
	__u64 status;
	struct td_addr client;
	struct td_addr frontend;
	struct td_addr backend;
	__be16 frontend_port_be;
	__u8 tcp_state;
	__s8 checksum_at; /* 0: nowhere */
	__u8 frame_kind;
	__u8 bridge; /* bits of enum test_bridge */
	__u8 reserved[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct test_facts);
	__uint(max_entries, 1);
} test_facts SEC(".maps");

static __always_inline struct test_facts *facts_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&test_facts, &zero);
}

static __always_inline __u32 skb_mark(struct sk_buff *skb __attribute__((unused)))
{
	struct test_facts *facts = facts_get();

	return facts ? facts->mark : 0;
}

static __always_inline __u32 skb_ifindex(struct sk_buff *skb __attribute__((unused)))
{
	struct test_facts *facts = facts_get();

	return facts ? facts->ifindex : 0;
}

static __always_inline __u32 skb_bridge_port(struct sk_buff *skb __attribute__((unused)))
{
	struct test_facts *facts = facts_get();

	return facts ? facts->bridge_port : 0;
}

static __always_inline __u32 skb_out(struct sk_buff *skb __attribute__((unused)))
{
	struct test_facts *facts = facts_get();

	return facts ? facts->out : 0;
}

static __always_inline __u32 frame_kind(struct __sk_buff *skb __attribute__((unused)))
{
	struct test_facts *facts = facts_get();

	return facts ? facts->frame_kind : TD_PACKET_HOST;
}

/* Facts of the bridge by whose port a frame leaves; 0: there is none. */
enum test_bridge {
	TEST_BRIDGE = 1,
	TEST_BRIDGE_OF_PODS = 2,
	TEST_BRIDGE_HAS_INGRESS = 4,
	TEST_BRIDGE_IS_DESTINATION = 8,
};

static __always_inline bool test_bridge_is(enum test_bridge what)
{
	struct test_facts *facts = facts_get();

	return facts && facts->bridge & what;
}

static __always_inline __s64 skb_checksum_at(struct sk_buff *skb __attribute__((unused)))
{
	struct test_facts *facts = facts_get();

	return facts && facts->checksum_at ? facts->checksum_at : TD_NO_CHECKSUM;
}

static __always_inline unsigned long skb_connection(struct sk_buff *skb __attribute__((unused)))
{
	struct test_facts *facts = facts_get();

	return facts ? (facts->tracked << 3 | (facts->info & TD_CTINFO_MASK)) : 0;
}

static __always_inline long connection_status(struct nf_conn *entry __attribute__((unused)),
					      unsigned long *status)
{
	struct test_facts *facts = facts_get();

	if (facts)
		*status = facts->status;
	return 0;
}

static __always_inline long connection_tcp_state(struct nf_conn *entry __attribute__((unused)),
						 __u8 *state)
{
	struct test_facts *facts = facts_get();

	if (facts)
		*state = facts->tcp_state;
	return 0;
}

static __always_inline void connection_client(struct nf_conn *entry __attribute__((unused)),
					      __u8 family __attribute__((unused)),
					      struct td_addr *to)
{
	struct test_facts *facts = facts_get();

	__builtin_memset(to, 0, sizeof(*to));
	if (facts)
		*to = facts->client;
}

static __always_inline void connection_frontend(struct nf_conn *entry __attribute__((unused)),
						__u8 family __attribute__((unused)),
						struct td_addr *to, __be16 *port)
{
	struct test_facts *facts = facts_get();

	__builtin_memset(to, 0, sizeof(*to));
	*port = 0;
	if (facts) {
		*to = facts->frontend;
		*port = facts->frontend_port_be;
	}
}

static __always_inline void connection_backend(struct nf_conn *entry __attribute__((unused)),
					       __u8 family __attribute__((unused)),
					       struct td_addr *to)
{
	struct test_facts *facts = facts_get();

	__builtin_memset(to, 0, sizeof(*to));
	if (facts)
		*to = facts->backend;
}

#endif /* TANDEM_HOOK_FACTS_H */
