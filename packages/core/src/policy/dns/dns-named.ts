// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Identity of a DNS server in the rules of one policy. For most servers it is the class. An address of a node that a DNS rule
 * names by itself is more: CIDR rules select no nodes, so the class knows nothing of that rule
 * (docs/adr/0009-dns-servers-on-nodes.md).
 */

import { formatAddress, prefixContains } from '../../net/ip.ts';
import type { AddressClass } from '../classes/class-hosts.ts';
import { ClassFlag, Direction, Verdict } from '../model/kernel-numbers.ts';
import type { CidrPeer, Peer } from '../model/peer.ts';
import type { Statement } from '../model/policy-set.ts';
import type { DnsView } from './dns-view.ts';
import type { Who } from './statement-index.ts';

const addressBits = 128;

export class DnsServerNames {
  readonly #classes: DnsView;
  /** Keys of CIDR peers of one address in DNS rules, by the address. */
  readonly #named = new Map<string, readonly string[]>();
  readonly #denied: readonly (readonly [key: string, peer: CidrPeer])[];

  constructor(
    statements: readonly Statement[],
    classes: DnsView,
    peers: ReadonlyMap<string, Peer>,
  ) {
    this.#classes = classes;
    for (const [key, { cidr, except }] of cidrsOf(statements, Verdict.l7Dns, peers)) {
      if (cidr.bits !== addressBits || except.length > 0) continue;
      const address = formatAddress(cidr.address);
      this.#named.set(address, [...(this.#named.get(address) ?? []), key]);
    }
    this.#denied = cidrsOf(statements, Verdict.deny, peers);
  }

  /**
   * The selectors of the address. Once a DNS rule names the address of a node by itself, that rule selects
   * it, and so does each deny for a CIDR around it, as for an address outside the cluster.
   */
  who(address: Uint8Array, place: AddressClass): Exclude<Who, 'other'> {
    const ofClass = this.#classes.selectorsOf(place.classId);
    const text = formatAddress(address);
    const named = this.#named.get(text);
    if (named === undefined || (place.owner.flags & ClassFlag.node) === 0) {
      return { id: place.classId, selectors: new Set(ofClass) };
    }
    const denied = this.#denied.filter(
      ([, { cidr, except }]) =>
        prefixContains(cidr, address) && !except.some((hole) => prefixContains(hole, address)),
    );
    const keys = denied.map(([key]) => key);
    return { id: text, selectors: new Set([...ofClass, ...named, ...keys]) };
  }
}

function cidrsOf(
  statements: readonly Statement[],
  verdict: Verdict,
  peers: ReadonlyMap<string, Peer>,
): readonly (readonly [key: string, peer: CidrPeer])[] {
  const keys = statements
    .filter((each) => each.direction === Direction.egress && each.verdict === verdict)
    .flatMap((each) => (each.peers === 'any' ? [] : each.peers));
  return [...new Set(keys)].flatMap((key) => {
    const peer = peers.get(key);
    return peer?.kind === 'cidr' ? [[key, peer] as const] : [];
  });
}
