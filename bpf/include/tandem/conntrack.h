/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * What a packet's conntrack entry tells: direction, whether the connection is confirmed, and its first
 * tuple. Read by address (probe reads), so that the object loads whether or not conntrack is a module.
 */
#ifndef TANDEM_CONNTRACK_H
#define TANDEM_CONNTRACK_H

#include <tandem/packet.h>

struct connection {
	struct nf_conn *entry; /* NULL: none, or untracked */
	__u8 info;
};

static __always_inline struct connection connection_of(struct sk_buff *skb)
{
	unsigned long word = skb->_nfct;
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
 * Not confirmed yet: the first packet. A one-way UDP stream stays NEW for life but is confirmed after
 * its first packet, and must not die when the name's TTL ends.
 */
static __always_inline bool connection_is_new(const struct connection *c)
{
	struct nf_conn *entry = c->entry;
	unsigned long status = 0;

	if (!entry)
		return true;
	if (c->info != TD_CTINFO_NEW)
		return false;
	if (bpf_core_read(&status, sizeof(status), &entry->status))
		return true;
	return !(status & TD_CT_STATUS_CONFIRMED);
}

static __always_inline void connection_address(const union nf_inet_addr *from, __u8 family,
					       struct td_addr *to)
{
	__builtin_memset(to, 0, sizeof(*to));
	if (family == 6) {
		bpf_core_read(to, sizeof(*to), from);
		return;
	}
	address_from_ipv4(to, 0);
	bpf_core_read(&to->a[3], sizeof(to->a[3]), from);
}

/* The destination before translation; false when there is none. */
static __always_inline bool connection_first_destination(const struct connection *c, __u8 family,
							 struct td_addr *address, __be16 *port)
{
	struct nf_conn *entry = c->entry;

	if (!entry)
		return false;
	connection_address(&entry->tuplehash[0].tuple.dst.u3, family, address);
	return bpf_core_read(port, sizeof(*port), &entry->tuplehash[0].tuple.dst.u.all) == 0;
}

/* Is `address` an end of the connection: client, frontend, or the backend that answers? */
static __always_inline bool connection_has_party(const struct connection *c, __u8 family,
						 const struct td_addr *address)
{
	struct nf_conn *entry = c->entry;
	struct td_addr end;

	connection_address(&entry->tuplehash[0].tuple.src.u3, family, &end);
	if (address_equal(&end, address))
		return true;
	connection_address(&entry->tuplehash[0].tuple.dst.u3, family, &end);
	if (address_equal(&end, address))
		return true;
	connection_address(&entry->tuplehash[1].tuple.src.u3, family, &end);
	return address_equal(&end, address);
}

#endif /* TANDEM_CONNTRACK_H */
