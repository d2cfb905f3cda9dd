// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Classifies interfaces whose kind alone does not show their side of the node: veths, and ports of bridges of pods. A veth
 * that leads neither to a known pod nor out of the node is a stranger, as in the datapath, and passes
 * nothing.
 */

import type { Ifindex } from '@tandem/core/ids';
import type { NodeDevices } from '@tandem/datapath/device-maps';
import { RTPROT_DHCP } from '@tandem/netlink/constants';
import type { Link } from '@tandem/netlink/link';
import type { NetworkState } from '@tandem/netlink/network-state';
import { learnedProtocols } from '@tandem/netlink/route-view';

export interface DeviceOptions {
  /** Names of interfaces that are no pod's. */
  readonly trustedInterfaces: readonly string[];
  /** Names of bridges whose ports are pods'. */
  readonly podBridges: readonly string[];
  readonly tunnelPorts: readonly number[];
}

export interface ClassifiedDevices extends NodeDevices {
  /** Ports of bridges of pods that are no pod's. */
  readonly trustedPorts: readonly Pick<Link, 'name' | 'ifindex'>[];
  /** Interfaces on the pods' side without a known pod: their traffic is dropped. */
  readonly unknown: readonly Link[];
}

/** `isOfPod`: interfaces of known pods. */
export function classifyDevices(
  state: NetworkState,
  options: DeviceOptions,
  isOfPod: (ifindex: Ifindex) => boolean,
): ClassifiedDevices {
  const podBridges = new Set(options.podBridges);
  const links = [...state.links.values()];
  // Once for each: `isOfPod` asks the kernel.
  const ofPods = new Set(links.filter(({ ifindex }) => isOfPod(ifindex)));
  for (const { master: bridge } of ofPods) {
    const master = state.links.get(bridge);
    if (master?.kind === 'bridge') podBridges.add(master.name);
  }
  const trusted: Ifindex[] = [];
  const trustedPorts: Link[] = [];
  const unknown: Link[] = [];
  const tunnelPorts = new Set(options.tunnelPorts);
  const uplinks = vethUplinks(state);
  for (const link of links) {
    const isPort = podBridges.has(state.links.get(link.master)?.name ?? '');
    if (link.tunnelPort !== 0) tunnelPorts.add(link.tunnelPort);
    if (ofPods.has(link)) continue;
    // As in the datapath: always a stranger.
    if (link.kind === 'netkit') unknown.push(link);
    if (link.kind === 'netkit' || (link.kind !== 'veth' && !isPort)) continue;
    const leadsOut =
      options.trustedInterfaces.includes(link.name) ||
      uplinks.has(link.ifindex) ||
      link.kind !== 'veth';
    if (leadsOut) {
      trusted.push(link.ifindex);
      if (isPort) trustedPorts.push(link);
    }
    // At a bridge of pods also one with both ends on the node, as Weave has it: only by its name can it be trusted.
    else if (isPort || (link.linkNetnsId !== null && link.master === 0)) unknown.push(link);
  }
  return {
    trusted,
    trustedPorts,
    podBridges: [...podBridges],
    tunnelPorts: [...tunnelPorts],
    unknown,
  };
}

/**
 * Veths by which the node reaches others, known by a default route or one through a gateway. Such a route counts where
 * it was made on the node, not where the other end of the link said it: a pod may advertise itself as a router
 * before the agent's first start. One by DHCP counts where nothing else leads out, as in a container that is a node.
 */
function vethUplinks({ links, routes }: NetworkState): ReadonlySet<Ifindex> {
  const made = new Set<Ifindex>();
  const leased = new Set<Ifindex>();
  let leadsOutElsewhere = false;
  for (const [ifindex, protocols] of routes.waysOut) {
    const kind = links.get(ifindex)?.kind;
    const isMade = [...protocols].some((protocol) => !learnedProtocols.has(protocol));
    const isLeased = protocols.has(RTPROT_DHCP);
    if (kind === 'veth') {
      if (isMade) made.add(ifindex);
      if (isLeased) leased.add(ifindex);
    } else {
      // Behind a bridge, too, a pod may advertise itself.
      leadsOutElsewhere ||= kind !== 'bridge' || isMade || isLeased;
    }
  }
  return made.size === 0 && !leadsOutElsewhere ? leased : made;
}
