// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Finds the node's end of a pod's veth among the interfaces that the CNI plugins name. */

import type { NetworkView } from '@tandem/netlink/network-view';
import type { Rtnetlink } from '@tandem/netlink/rtnetlink';
import type { SandboxNetwork } from './cni-result.ts';

export type InterfaceView = Pick<NetworkView, 'state' | 'catchUp'> & {
  readonly rtnetlink: Pick<Rtnetlink, 'linkIn'>;
};

/**
 * The host side of the pod's veth: the one whose other end, in another namespace, has the pod's MAC address. Null:
 * none is, or several are. `view` has caught up before.
 */
export async function hostInterface(
  { hostInterfaces, podMac }: SandboxNetwork,
  view: InterfaceView,
): Promise<string | null> {
  const found: string[] = [];
  for (const name of hostInterfaces) {
    const link = view.state.linkByName(name);
    if (link?.kind !== 'veth' || link.linkNetnsId === null) continue;
    if (podMac !== null) {
      // oxlint-disable-next-line no-await-in-loop -- of two or three
      const peer = await view.rtnetlink.linkIn(link.linkNetnsId, link.link).catch(() => null);
      if (peer === null || Buffer.compare(peer.mac, podMac) !== 0) continue;
    }
    found.push(name);
  }
  return found.length === 1 ? (found[0] ?? null) : null;
}
