// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernel's own entries for pods behind a bridge: a sticky one in the bridge's forwarding table and a
 * permanent one among the neighbours of the node. No frame of a pod changes them, and they hold while both processes are
 * dead (ADR 12). If they are removed, the agent restores them. The neighbour entry ends with its pod, the
 * forwarding entry with its port.
 */

import type { Ifindex } from '@tandem/core/ids';
import { formatAddress, isIpv4 } from '@tandem/core/net/ip';
import { lacksIpv6 } from '@tandem/datapath/address-families';
import { NTF_STICKY, NUD_PERMANENT, RTPROT_TANDEM } from '@tandem/netlink/constants';
import type { NetworkState } from '@tandem/netlink/network-state';
import type { Rtnetlink } from '@tandem/netlink/rtnetlink';
import type { PodInterface } from './pod-interface.ts';

export interface BridgedEndpoint {
  readonly address: Uint8Array;
  readonly interface: PodInterface;
}

/** Makes missing entries and removes those without a pod. Never rejects: returns the failures, in words. */
export async function ensureBridgeEntries(
  state: NetworkState,
  rtnetlink: Rtnetlink,
  endpoints: readonly BridgedEndpoint[],
): Promise<readonly string[]> {
  const problems: string[] = [];
  const attempt = async (work: Promise<unknown>): Promise<void> => {
    try {
      await work;
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  };
  const wanted = new Set<string>();
  for (const { address, interface: at } of endpoints) {
    if (!at.isBridged || !hasMac(at)) continue;
    wanted.add(neighborKey(at.l3Ifindex, address));
    const forwarding = state.forwardingEntry(at.l3Ifindex, at.mac);
    if (forwarding?.port !== at.vethIfindex || (forwarding.flags & NTF_STICKY) === 0) {
      // oxlint-disable-next-line no-await-in-loop -- few, and in the order of their pods
      await attempt(rtnetlink.setStickyForwarding(at.vethIfindex, at.mac));
    }
    const neighbor = state.neighbor(at.l3Ifindex, address);
    const isRight =
      neighbor !== undefined &&
      (neighbor.state & NUD_PERMANENT) !== 0 &&
      Buffer.compare(neighbor.mac, at.mac) === 0;
    if (isRight || (!isIpv4(address) && lacksIpv6(state.links.get(at.l3Ifindex)?.name ?? '')))
      continue;
    // oxlint-disable-next-line no-await-in-loop -- as above
    await attempt(rtnetlink.setPermanentNeighbor(at.l3Ifindex, address, at.mac));
  }
  for (const { ifindex, address, protocol } of state.neighbors) {
    if (protocol !== RTPROT_TANDEM || wanted.has(neighborKey(ifindex, address))) continue;
    // oxlint-disable-next-line no-await-in-loop -- as above
    await attempt(rtnetlink.deleteNeighbor(ifindex, address));
  }
  return problems;
}

const hasMac = ({ mac }: PodInterface): boolean => mac.some((octet) => octet !== 0);

const neighborKey = (ifindex: Ifindex, address: Uint8Array): string =>
  `${ifindex} ${formatAddress(address)}`;
