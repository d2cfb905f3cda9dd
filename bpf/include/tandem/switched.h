/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * Frames that a bridge of pods switches out of a port, among them those that no netfilter hook sees. Not each frame that comes in
 * by one device and leaves by a bridge port is such a one: what other bridges send by a VLAN device on this port keeps its
 * ingress and its kind, and a link stays at a port that moves to another bridge.
 */
#ifndef TANDEM_SWITCHED_H
#define TANDEM_SWITCHED_H

#include <tandem/devices.h>
#include <tandem/pod_frame.h>

/* Whether the frame came in by a device that is no known pod's and not trusted. */
static __always_inline bool is_of_stranger(struct __sk_buff *skb)
{
	__u32 ingress = frame_ingress(skb);

	return ingress != 0 && !is_pod_device(ingress) && !is_trusted_device(ingress);
}

/*
 * Whether the bridge switches the frame. What the host routes is PACKET_HOST, and has a bridge as its ingress, never a port.
 * PACKET_HOST is also, in a bridge with VLANs, what is for the bridge's own Ethernet address in one that it is not in. The search
 * of the ports comes last: it takes as long as the bridge has many.
 */
static __always_inline bool is_switched_by(struct net_device *bridge, struct __sk_buff *skb)
{
	if (frame_kind(skb) == TD_PACKET_HOST) {
		const struct ethhdr *ethernet = header_at(skb, 0, sizeof(*ethernet));

		if (!ethernet || !is_mac_of(bridge, ethernet->h_dest))
			return false;
	}
	return is_port_of(bridge, frame_ingress(skb));
}

#endif /* TANDEM_SWITCHED_H */
