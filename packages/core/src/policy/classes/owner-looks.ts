// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which peer selectors match each owner of addresses, and so which class it has where certain CIDR peers hold. Kept from one
 * compilation to the next: an owner is matched again with the selectors that came and went alone.
 */

import type { Peer } from '../model/peer.ts';
import type { Ownership } from './address-owners.ts';
import type { ClassContent, ClassContents } from './class-contents.ts';
import { ClassOverflow } from './class-overflow.ts';
import { type CidrSet, CidrSets, isNarrowed, PeerMatcher } from './peer-matcher.ts';
import type { PeerTable } from './peer-table.ts';

/** Selectors of one owner, and the classes that it has where different CIDR peers hold. */
export interface Look {
  readonly owner: Ownership;
  matched: readonly string[];
  users: number;
  readonly contents: Map<CidrSet, ClassContent>;
}

export interface PeerChange {
  readonly isAny: boolean;
  /** Prefixes, or blocks, are others than before. */
  readonly areCidrs: boolean;
  /** Their selectors are others than before. */
  readonly looks: ReadonlySet<Look>;
}

export class OwnerLooks {
  readonly sets: CidrSets;
  /** Counts the looks that came and went. */
  version = 0;
  readonly #classes: ClassContents;
  readonly #matcher = new PeerMatcher([]);
  /** Keys of blocks that hold for pods with certain labels alone. */
  readonly #narrowed = new Set<string>();
  readonly #looks = new Map<Ownership, Look>();
  /** Selectors that all looks match together, and their limit. */
  #matches = 0;
  readonly #matchesMax: number;

  constructor(classes: ClassContents, selectorsMax: number) {
    this.#matchesMax = selectorsMax;
    this.sets = new CidrSets((key) => key.startsWith('block '), selectorsMax);
    this.#classes = classes;
  }

  /** @throws ClassOverflow: there are too many selectors in all looks */
  update(peers: PeerTable): PeerChange {
    const { added, removed } = peers.takeChanges();
    for (const [key, peer] of removed) this.#matcher.delete(key, peer);
    for (const [key, peer] of added) this.#matcher.add(key, peer);
    const areCidrs = [...added, ...removed].some(([, { kind }]) => kind === 'cidr');
    const isAny = added.length + removed.length > 0;
    const looks = new Set<Look>();
    const fresh = new PeerMatcher(added);
    for (const [key] of removed) this.#narrowed.delete(key);
    for (const [key, peer] of added) if (isNarrowed(peer)) this.#narrowed.add(key);
    const isMatched = (peer: Peer): boolean => peer.kind !== 'cidr' || isNarrowed(peer);
    const gone = new Set(removed.filter(([, peer]) => isMatched(peer)).map(([key]) => key));
    if (fresh.size === 0 && gone.size === 0) return { isAny, areCidrs, looks };
    for (const look of this.#looks.values()) {
      const isLess = gone.size > 0 && look.matched.some((key) => gone.has(key));
      const kept = isLess ? look.matched.filter((key) => !gone.has(key)) : look.matched;
      const more = fresh.size === 0 ? [] : fresh.matching(look.owner);
      if (!isLess && more.length === 0) continue;
      this.#count(kept.length - look.matched.length + more.length);
      look.matched = more.length === 0 ? kept : [...kept, ...more].sort();
      look.contents.clear();
      looks.add(look);
    }
    return { isAny, areCidrs, looks };
  }

  of(owner: Ownership): Look {
    let look = this.#looks.get(owner);
    if (look === undefined) {
      look = { owner, matched: this.#matcher.matching(owner), users: 0, contents: new Map() };
      this.#count(look.matched.length);
      this.#looks.set(owner, look);
      this.version++;
    }
    return look;
  }

  /** The class of the owner where these CIDR peers hold. @throws ClassOverflow */
  contentOf(look: Look, cidrs: CidrSet): ClassContent {
    const applied = look.owner.isExternal ? cidrs : cidrs.blocks;
    const known = look.contents.get(applied);
    if (known !== undefined && !known.isGone) return known;
    const content = this.#classes.of(this.#keysOf(look.matched, applied.keys));
    look.contents.set(applied, content);
    return content;
  }

  /** Owners of addresses that an object or an interface names, each once. */
  *named(): Generator<Ownership, void, undefined> {
    for (const [owner, { users }] of this.#looks) {
      if (users > 0 && owner.isImplied !== true) yield owner;
    }
  }

  forgetUnused(): void {
    for (const look of this.#looks.values()) {
      if (look.users > 0) continue;
      this.#looks.delete(look.owner);
      this.#count(-look.matched.length);
      this.version++;
    }
  }

  /** Forgets what holds nowhere any more. */
  keepSets(used: ReadonlySet<CidrSet>): void {
    this.sets.keep(used);
    for (const { contents } of this.#looks.values()) {
      for (const set of contents.keys()) if (!used.has(set)) contents.delete(set);
    }
  }

  #count(more: number): void {
    this.#matches += more;
    if (more <= 0 || this.#matches <= this.#matchesMax) return;
    const made = this.#looks.values().map(({ matched }) => ({ keys: matched }));
    throw new ClassOverflow(this.#matchesMax, made);
  }

  #keysOf(matched: readonly string[], applied: readonly string[]): readonly string[] {
    if (this.#narrowed.size === 0 && applied.length === 0) return matched;
    const holding = new Set(applied);
    const whole = matched.filter((key) => !this.#narrowed.has(key) || holding.has(key));
    const blocks = applied.filter((key) => !this.#narrowed.has(key));
    return [...whole, ...blocks].sort();
  }
}
