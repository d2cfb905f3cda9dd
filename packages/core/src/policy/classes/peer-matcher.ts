// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which label and entity peers match an owner; which CIDR peers hold in a range. Both as values that can be compared. */

import { digest128 } from '../../sha256.ts';
import type { Peer } from '../model/peer.ts';
import type { LabelSelector } from '../model/selector.ts';
import type { Ownership } from './address-owners.ts';
import { ClassOverflow } from './class-overflow.ts';
import { SelectorIndex } from './selector-index.ts';

/** Keys of CIDR peers that hold somewhere, sorted. Equal sets are one object. */
export interface CidrSet {
  readonly keys: readonly string[];
  /** Keys that hold for pods and nodes too. */
  readonly blocks: CidrSet;
}

export class CidrSets {
  readonly none: CidrSet;
  /** By digests of their keys. */
  readonly #sets = new Map<string, CidrSet>();
  /** Keys of all sets together, and their limit. */
  #size = 0;
  readonly #max: number;
  readonly #isBlock: (key: string) => boolean;

  constructor(isBlock: (key: string) => boolean, max: number) {
    this.#isBlock = isBlock;
    this.#max = max;
    const none: { keys: readonly string[]; blocks: CidrSet } = {
      keys: [],
      blocks: null as unknown as CidrSet,
    };
    none.blocks = none;
    this.none = none;
    this.#sets.set('', none);
  }

  /** `set` with some more, then without some. @throws ClassOverflow: there are too many keys in all sets */
  change(set: CidrSet, starts: readonly string[], excepts: readonly string[]): CidrSet {
    if (starts.length === 0 && excepts.length === 0) return set;
    const keys = new Set([...set.keys, ...starts]);
    for (const key of excepts) keys.delete(key);
    return this.#intern([...keys].sort());
  }

  /** Forgets all but these. */
  keep(used: ReadonlySet<CidrSet>): void {
    for (const [digest, set] of this.#sets) {
      if (set === this.none || used.has(set)) continue;
      this.#size -= set.keys.length;
      this.#sets.delete(digest);
    }
  }

  #intern(keys: readonly string[]): CidrSet {
    if (keys.length === 0) return this.none;
    const digest = digest128(keys.join('\n'));
    const known = this.#sets.get(digest);
    if (known !== undefined) return known;
    this.#size += keys.length;
    if (this.#size > this.#max) throw new ClassOverflow(this.#max, this.#sets.values());
    const blockKeys = keys.filter(this.#isBlock);
    const isAll = blockKeys.length === keys.length;
    const set: { keys: readonly string[]; blocks: CidrSet } = {
      keys,
      blocks: isAll ? (null as unknown as CidrSet) : this.#intern(blockKeys),
    };
    if (isAll) set.blocks = set;
    this.#sets.set(digest, set);
    return set;
  }
}

/** By which a peer asks for labels; undefined: it does not. */
function selectorOf(peer: Peer): LabelSelector | undefined {
  if (peer.kind === 'labels') return peer.selector;
  return peer.kind === 'cidr' ? peer.pods : undefined;
}

/** A block that is narrowed to pods holds where its prefix does, for whom it matches here. */
export function isNarrowed(peer: Peer): boolean {
  return peer.kind === 'cidr' && peer.pods !== undefined;
}

const noKeys: readonly string[] = [];

/** Label and entity peers by key, and what blocks ask of labels. */
export class PeerMatcher {
  readonly #labels = new SelectorIndex<string>();
  readonly #entities = new Map<string, string>();

  constructor(peers: Iterable<readonly [string, Peer]>) {
    for (const [key, peer] of peers) this.add(key, peer);
  }

  get size(): number {
    return this.#labels.size + this.#entities.size;
  }

  add(key: string, peer: Peer): void {
    const selector = selectorOf(peer);
    if (selector !== undefined) this.#labels.add(selector, key);
    if (peer.kind === 'entity') this.#entities.set(peer.entity, key);
  }

  delete(key: string, peer: Peer): void {
    if (selectorOf(peer) !== undefined) this.#labels.delete(key);
    if (peer.kind === 'entity') this.#entities.delete(peer.entity);
  }

  /** Keys of the matching ones, sorted. */
  matching(owner: Ownership): readonly string[] {
    const found: string[] = [];
    if (this.#entities.size > 0) {
      for (const entity of owner.entities) {
        const key = this.#entities.get(entity);
        if (key !== undefined) found.push(key);
      }
    }
    for (const identity of owner.identities) this.#labels.match(identity, found);
    if (found.length === 0) return noKeys;
    return (owner.identities.length > 1 ? [...new Set(found)] : found).sort();
  }
}
