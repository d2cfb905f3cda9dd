// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod's interface on the node: the host side of its veth. Taken from what no pod can write, that is an object
 * of the operator's or a route of the node's; never from forwarding or neighbour tables, which believe the
 * frames of pods (ADR 12).
 */

import type { Ifindex } from '@tandem/core/ids';
import type { Link } from '@tandem/netlink/link';
import type { NetworkState } from '@tandem/netlink/network-state';

export interface PodInterface {
  readonly name: string;
  /** Host side of the pod's veth. */
  readonly vethIfindex: Ifindex;
  /** The bridge, when the veth is a port of one; else vethIfindex. */
  readonly l3Ifindex: Ifindex;
  readonly isBridged: boolean;
  /** MAC address of the bridge, or zeros. */
  readonly bridgeMac: Uint8Array;
  /** MAC address of the pod behind a bridge port; zeros where it is not known or the veth is no port. */
  readonly mac: Uint8Array;
}

/** Why a pod has no interface. */
export interface SearchProblem {
  /** `interface-refused`: there is one, and it cannot be a pod's. */
  readonly code: 'interface-not-found' | 'interface-refused';
  readonly problem: string;
  readonly fix: string;
}

export type Search = { readonly link: Link } | SearchProblem;

export const ownVethFix =
  'with a directory as source the annotation tandem.dev/interface must name the host side of the pod’s own veth; on Kubernetes delete the pod, so that its successor comes through the CNI gate';

/** Facts about a pod that lead to its interface. */
export interface PodPlace {
  /** Text of the address. */
  readonly addressText: string;
  /** Named by an object whose writer is the operator. */
  readonly interfaceName?: string;
}

/** `isTrusted`: interfaces that lead out of the node. */
export function findInterface(
  state: NetworkState,
  { addressText, interfaceName }: PodPlace,
  isTrusted: (ifindex: Ifindex) => boolean,
): Search {
  const link =
    interfaceName === undefined ? routed(state, addressText) : state.linkByName(interfaceName);
  if (link === undefined) {
    return {
      code: 'interface-not-found',
      problem:
        interfaceName === undefined
          ? `no route of the node leads to ${addressText} alone`
          : `there is no interface ${interfaceName}`,
      fix: ownVethFix,
    };
  }
  const refusal = refusalOf(link, isTrusted(link.ifindex));
  if (refusal === null) return { link };
  const [reason, fix] = refusal;
  return { code: 'interface-refused', problem: `${link.name} ${reason}`, fix };
}

/** By the host route that point-to-point CNIs make. One to a bridge does not name the port. */
function routed(state: NetworkState, addressText: string): Link | undefined {
  const ifindex = state.routes.hosts.get(addressText);
  const link = ifindex === undefined ? undefined : state.links.get(ifindex);
  return link?.kind === 'bridge' ? undefined : link;
}

const vethFix = 'have the CNI make veth pairs: docs/compatibility.md says which do';

/** Why an interface cannot be a pod's, and the fix; null: it can. */
function refusalOf(link: Link, isTrusted: boolean): readonly [reason: string, fix: string] | null {
  if (isTrusted) {
    const fix = `if it is the pod’s, remove it from trustedInterfaces and from the node’s routes through a gateway; else ${ownVethFix}`;
    return ['leads out of the node, so it is no pod’s', fix];
  }
  if (link.kind === 'netkit') return ['is a netkit interface, which is not supported', vethFix];
  if (link.kind !== 'veth') {
    return [`is no veth (${link.kind === '' ? 'hardware' : link.kind})`, vethFix];
  }
  if (link.linkNetnsId === null) {
    return ['has its other end on the node itself, so it is no pod’s', ownVethFix];
  }
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
