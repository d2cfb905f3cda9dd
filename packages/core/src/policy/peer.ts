// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Peer selectors: what one item of toEndpoints, toCIDR, toCIDRSet or toEntities names. Each has a key,
 * its canonical text: equal keys select alike. Entity `all` is no selector but peers 'any'; entities
 * that no peer here can have (init, health, ingress, unmanaged, none) are dropped by the parser.
 */
import { comparePrefixes, formatPrefix, type Prefix, prefixCovers } from '../net/ip.ts';
import { type LabelSelector, selectorKey } from './selector.ts';

export const peerEntities = [
  'host',
  'remote-node',
  'kube-apiserver',
  'cluster',
  'world',
  'world-ipv4',
  'world-ipv6',
] as const;
export type PeerEntity = (typeof peerEntities)[number];

export interface CidrPeer {
  readonly kind: 'cidr';
  readonly cidr: Prefix;
  /** Inside `cidr`; sorted, none inside another. */
  readonly except: readonly Prefix[];
  /** Of Kubernetes' ipBlock: pods and nodes count by their addresses too. In Cilium they do not. */
  readonly isIpBlock?: true;
  /** Of an ipBlock beside a named port: of its addresses those of pods that this selects. */
  readonly pods?: LabelSelector;
}

export type Peer =
  | { readonly kind: 'labels'; readonly selector: LabelSelector }
  | { readonly kind: 'entity'; readonly entity: PeerEntity }
  | CidrPeer;

/** Canonical text; `Compiled` and its class table name peers by it. */
export function peerKey(peer: Peer): string {
  switch (peer.kind) {
    case 'labels':
      return `labels ${selectorKey(peer.selector)}`;
    case 'entity':
      return `entity ${peer.entity}`;
    case 'cidr': {
      const except = peer.except.map((prefix) => ` !${formatPrefix(prefix)}`).join('');
      const pods = peer.pods === undefined ? '' : ` ${selectorKey(peer.pods)}`;
      return `${peer.isIpBlock === true ? 'block' : 'cidr'} ${formatPrefix(peer.cidr)}${except}${pods}`;
    }
  }
}

/** A CIDR peer in its one canonical form. */
export function cidrPeer(cidr: Prefix, except: readonly Prefix[]): CidrPeer {
  const kept: Prefix[] = [];
  for (const prefix of except.toSorted(comparePrefixes)) {
    // Sorted, an enclosing prefix is the last one kept.
    const last = kept.at(-1);
    if (last === undefined || !prefixCovers(last, prefix)) kept.push(prefix);
  }
  return { kind: 'cidr', cidr, except: kept };
}
