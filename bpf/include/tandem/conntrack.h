/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Reads a packet's conntrack entry: direction, whether it is confirmed, its parties. */
#ifndef TANDEM_CONNTRACK_H
#define TANDEM_CONNTRACK_H

#include <tandem/hook_facts.h>

struct connection {
	struct nf_conn *entry; /* NULL: none, or untracked */
	__u8 info;
};

static __always_inline struct connection connection_of(struct sk_buff *skb)
{
	unsigned long word = skb_connection(skb);
	struct connection c = {
		.entry = (struct nf_conn *)(word & ~TD_CTINFO_MASK),
		.info = word & TD_CTINFO_MASK,
	};

	return c;
}

static __always_inline bool connection_is_reply(const struct connection *c)
{
	return c->entry && (c->info == TD_CTINFO_REPLY || c->info == TD_CTINFO_RELATED_REPLY);
}

static __always_inline bool connection_is_related(const struct connection *c)
{
	return c->entry && (c->info == TD_CTINFO_RELATED || c->info == TD_CTINFO_RELATED_REPLY);
}

/*
 * Not confirmed yet: the first packet. A one-way UDP stream always stays NEW but is confirmed after
 * its first packet, and must not die when the name's TTL ends.
 */
static __always_inline bool connection_is_new(const struct connection *c)
{
	unsigned long status = 0;

	if (!c->entry)
		return true;
	if (c->info != TD_CTINFO_NEW)
		return false;
	return connection_status(c->entry, &status) || !(status & TD_CT_STATUS_CONFIRMED);
}

/* The client's packet of a connection that the other end has answered. */
static __always_inline bool connection_is_answered(const struct connection *c)
{
	return c->entry && c->info == TD_CTINFO_ESTABLISHED;
}

/* After the handshake, and neither end has begun to close or has reset it. */
static __always_inline bool connection_is_open_tcp(const struct connection *c)
{
	__u8 state = 0;

	return !connection_tcp_state(c->entry, &state) && state == TD_CT_TCP_ESTABLISHED;
}

/* Is `address` an end of the connection: client, frontend, or the backend that answers? */
static __always_inline bool connection_has_party(const struct connection *c, __u8 family,
						 const struct td_addr *address)
{
	struct td_addr end;
	__be16 port;

	connection_client(c->entry, family, &end);
	if (address_equal(&end, address))
		return true;
	connection_frontend(c->entry, family, &end, &port);
	if (address_equal(&end, address))
		return true;
	connection_backend(c->entry, family, &end);
	return address_equal(&end, address);
}

#endif /* TANDEM_CONNTRACK_H */
