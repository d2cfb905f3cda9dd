/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Frames that a bridge of pods switches out of a port, among them those that no netfilter hook sees. */
#ifndef TANDEM_SWITCHED_H
#define TANDEM_SWITCHED_H

#include <tandem/devices.h>
#include <tandem/pod_frame.h>

/*
 * Whether a bridge switches the frame: what the host made or routes is PACKET_HOST. br_netfilter gives what it has shown to
 * `judge` its former kind again (since Linux 5.10), so a packet of a stranger is one here, too.
 */
static __always_inline bool is_switched(struct __sk_buff *skb)
{
	return frame_ingress(skb) != 0 && frame_kind(skb) != TD_PACKET_HOST;
}

/* Whether it came in by a port that is no known pod's and not trusted. */
static __always_inline bool is_of_stranger(struct __sk_buff *skb)
{
	__u32 ingress = frame_ingress(skb);

	return is_switched(skb) && !is_pod_device(ingress) && !is_trusted_device(ingress);
}

#endif /* TANDEM_SWITCHED_H */
