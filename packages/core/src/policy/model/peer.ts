// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Peer selectors: what one item of toEndpoints, toCIDR, toCIDRSet or toEntities names. Each has a key,
 * its canonical text: equal keys select alike. Entity `all` is no selector but peers 'any'; entities
 * that no peer here can have (init, health, ingress, unmanaged, none) are dropped by the parser.
 */

import { comparePrefixes, formatPrefix, type Prefix, prefixCovers } from '../../net/ip.ts';
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
/** Pods that a rule which denies may mean, because labels that it asks for are not known of them. No policy names these. */
export const unknownEntities = ['unknown-namespace', 'unknown-labels'] as const;
export type PeerEntity = (typeof peerEntities)[number] | (typeof unknownEntities)[number];

export interface CidrPeer {
  readonly kind: 'cidr';
  readonly cidr: Prefix;
  /** Inside `cidr`; sorted, none inside another. */
  readonly except: readonly Prefix[];
  /** Set for Kubernetes' ipBlock, which also matches pods and nodes by their addresses. In Cilium CIDRs do not. */
  readonly isIpBlock?: true;
  /** Selector beside an ipBlock with a named port: among the addresses of the block it matches those of these pods. */
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
