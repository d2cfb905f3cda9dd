// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Finds the node's end of a pod's veth among the interfaces that the CNI plugins name. */

import type { NetworkView } from '@tandem/netlink/network-view';
import type { Rtnetlink } from '@tandem/netlink/rtnetlink';
import type { SandboxNetwork } from './cni-result.ts';

export type InterfaceView = Pick<NetworkView, 'state' | 'refresh'> & {
  readonly rtnetlink: Pick<Rtnetlink, 'linkIn' | 'linkNamed'>;
};

/**
 * Has the view know these interfaces as they are. It does already, but for a notice that is still on its way: so each is asked
 * for by its name, and all are listed only where one differs. The kernel lists them under the lock that CNI plugins wait for.
 */
export async function knowInterfaces(names: readonly string[], view: InterfaceView): Promise<void> {
  for (const name of names) {
    // oxlint-disable-next-line no-await-in-loop -- of two or three
    const link = await view.rtnetlink.linkNamed(name).catch(() => undefined);
    const known = view.state.linkByName(name);
    const isKnown =
      link !== undefined &&
      known?.ifindex === link?.ifindex &&
      known?.master === link?.master &&
      known?.link === link?.link &&
      known?.linkNetnsId === link?.linkNetnsId;
    if (isKnown) continue;
    // oxlint-disable-next-line no-await-in-loop -- once
    await view.refresh('links');
    return;
  }
}

/**
 * The host side of the pod's veth: the one whose other end, in another namespace, has the pod's MAC address. Null:
 * none is, or several are. `view` has what was so before the call.
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
