/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * One drop event per frame that a bridge floods. The bridge sends a copy of a broadcast, multicast or unknown unicast frame to
 * each port, one after the other on one CPU. The drop of the first copy makes an event; the drops of the other copies are
 * counted only. An equal frame at the port of the event is a new frame and makes an event again.
 *
 * A heuristic that may report a frame twice, but not hide one: a packet of an interrupt between two ports costs one more event.
 */
#ifndef TANDEM_FLOOD_H
#define TANDEM_FLOOD_H

#include <tandem/events.h>

/* How long after its event other copies of a frame are expected: the port of the event may be deleted meanwhile. */
#define TD_FLOOD_NS 100000000ull

/* Digest of the parts of a frame that are equal at all ports. Two frames with one digest in a row share an event. */
static __always_inline __u64 flood_digest(const struct packet *p, __u32 ingress, __u32 reason)
{
	const __u64 prime = 0x9e3779b97f4a7c15ull;
	__u64 digest = (__u64)ingress << 32 | reason << 16 | p->protocol << 8 | p->icmp_type;

	for (int i = 0; i < 4; i++)
		digest = (digest ^ ((__u64)p->source.a[i] << 32 | p->destination.a[i])) * prime;
	digest = (digest ^ ((__u64)p->source_port << 16 | p->destination_port)) * prime;
	return digest | 1;
}

/* Was the drop of this frame reported at another port? `port`: by which it was to leave. */
static __always_inline bool flood_is_told(__u64 digest, __u32 port)
{
	__u32 zero = 0;
	struct flood *flood = bpf_map_lookup_elem(&flood_told, &zero);
	__u64 now = bpf_ktime_get_boot_ns();

	if (!flood)
		return false;
	if (flood->frame == digest && flood->port != port && now - flood->time_ns < TD_FLOOD_NS)
		return true;
	flood->frame = digest;
	flood->time_ns = now;
	flood->port = port;
	return false;
}

#endif /* TANDEM_FLOOD_H */
