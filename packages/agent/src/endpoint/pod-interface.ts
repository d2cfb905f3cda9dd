// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod's interface on the node: the host side of its veth. Taken from what no pod can write, that is an object
 * of the operator's or a route of the node's; never from forwarding or neighbour tables, which believe the
 * frames of pods (ADR 12).
 */

import type { Link } from '@tandem/netlink/link';
import type { NetworkState } from '@tandem/netlink/network-state';

export interface PodInterface {
  readonly name: string;
  /** Host side of the pod's veth. */
  readonly vethIfindex: number;
  /** The bridge, when the veth is a port of one; else vethIfindex. */
  readonly l3Ifindex: number;
  readonly isBridged: boolean;
  /** MAC address of the bridge, or zeros. */
  readonly bridgeMac: Uint8Array;
  /** MAC address of the pod behind a bridge port; zeros where it is not known or the veth is no port. */
  readonly mac: Uint8Array;
}

export type Search =
  | { readonly link: Link }
  /** Why there is none, or why the one that is named can't be a pod's. */
  | { readonly problem: string };

/** What is known of a pod that tells its interface. */
export interface PodPlace {
  /** Of one address. */
  readonly addressText: string;
  /** Named by an object whose writer is the operator. */
  readonly interfaceName?: string;
}

/** `isTrusted`: interfaces that lead out of the node. */
export function findInterface(
  state: NetworkState,
  { addressText, interfaceName }: PodPlace,
  isTrusted: (ifindex: number) => boolean,
): Search {
  const link =
    interfaceName === undefined ? routed(state, addressText) : state.linkByName(interfaceName);
  if (link === undefined) {
    return {
      problem:
        interfaceName === undefined
          ? `no route of the node leads to ${addressText} alone`
          : `there is no interface ${interfaceName}`,
    };
  }
  const refusal = refusalOf(link, isTrusted(link.ifindex));
  return refusal === null ? { link } : { problem: `${link.name} ${refusal}` };
}

/** By the host route that point-to-point CNIs make. One to a bridge does not tell the port. */
function routed(state: NetworkState, addressText: string): Link | undefined {
  const ifindex = state.routes.hosts.get(addressText);
  const link = ifindex === undefined ? undefined : state.links.get(ifindex);
  return link?.kind === 'bridge' ? undefined : link;
}

function refusalOf(link: Link, isTrusted: boolean): string | null {
  if (isTrusted) return 'leads out of the node, so it is no pod’s';
  if (link.kind === 'netkit') return 'is a netkit interface, which is not supported';
  if (link.kind !== 'veth') return `is no veth (${link.kind === '' ? 'hardware' : link.kind})`;
  if (link.linkNetnsId === null) return 'has its other end on the node itself, so it is no pod’s';
  return null;
}

const noMac: Uint8Array = new Uint8Array(6);

/** `mac`: of the pod; null: not known. */
export function describeInterface(
  state: NetworkState,
  link: Link,
  mac: Uint8Array | null,
): PodInterface {
  const master = state.links.get(link.master);
  const isBridged = master?.kind === 'bridge';
  return {
    name: link.name,
    vethIfindex: link.ifindex,
    l3Ifindex: isBridged ? master.ifindex : link.ifindex,
    isBridged,
    bridgeMac: isBridged ? master.mac : noMac,
    mac: isBridged && mac !== null ? mac : noMac,
  };
}
