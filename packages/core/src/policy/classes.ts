// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { assert } from '../assert.ts';
/**
 * Classes: for every prefix that matters, the set of peer selectors in use that match its addresses.
 * The kernel looks an address up once, longest prefix first, so an inner prefix carries what the outer
 * ones give it, and an `except` hole is a prefix of its own. The walk visits prefixes outer before
 * inner with a stack of the enclosing ones:
 *
 *   ::/0 world ── ::ffff:0:0/96 world ─┬─ 10.0.0.0/8 +cidr A ── 10.1.0.0/16 −cidr A (except)
 *                                      └─ 10.244.0.0/24 pods: cidr selectors end here ── pod
 */
import {
  comparePrefixes,
  formatPrefix,
  hostPrefix,
  isIpv4Prefix,
  type Prefix,
  trieCovers,
} from '../net/ip.ts';
import type { AddressOwner } from './address-owners.ts';
import { ipv4World, ipv6World } from './address-owners.ts';
import type { ClassEntry, ClassTable } from './desired.ts';
import { ClassFlag, classNone } from './kernel-numbers.ts';
import { identityKey } from './labels.ts';
import type { Peer } from './peer.ts';
import { type LabelSelector, selectorMatches } from './selector.ts';
import type { StableIds } from './stable-ids.ts';

/** What is known about one address, or one prefix. */
export interface AddressClass {
  readonly prefix: Prefix;
  readonly owner: AddressOwner;
  readonly classId: number;
  /** `ClassFlag` bits, inherited ones included. */
  readonly flags: number;
}

/** A prefix of the walk, before ids are given out. */
interface Step {
  readonly prefix: Prefix;
  readonly parent: Step | null;
  readonly owner: AddressOwner;
  /** Keys of the CIDR peers that hold here; shared between steps that agree. */
  readonly cidrs: ReadonlySet<string>;
  readonly flags: number;
  readonly content: string;
  classId: number;
}

interface PrefixChange {
  readonly prefix: Prefix;
  owner: AddressOwner | null;
  readonly starts: string[];
  readonly excepts: string[];
}

export class AddressClasses {
  readonly #steps: readonly Step[];
  readonly table: ClassTable;

  private constructor(steps: readonly Step[], table: ClassTable) {
    this.#steps = steps;
    this.table = table;
  }

  /** Evaluates `peers` (by key) over the address space. Takes class ids from `ids`. */
  static build(
    owners: readonly AddressOwner[],
    peers: ReadonlyMap<string, Peer>,
    ids: StableIds,
  ): AddressClasses {
    const steps = walk(collectChanges(owners, peers), new SelectorMatcher(peers));
    const contents = new Set(steps.map(({ content }) => content));
    contents.delete('');
    const classIds = ids.assign('class', contents);
    for (const step of steps) step.classId = classIds.get(step.content) ?? classNone;
    return new AddressClasses(steps, makeTable(classIds));
  }

  /** The class of an address, as the kernel's lookup would give it. */
  at(address: Uint8Array): AddressClass {
    const target = hostPrefix(address);
    let low = 0;
    let high = this.#steps.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (comparePrefixes((this.#steps[middle] as Step).prefix, target) <= 0) low = middle;
      else high = middle - 1;
    }
    let step = this.#steps[low] ?? null;
    while (step !== null && !trieCovers(step.prefix, target)) step = step.parent;
    assert(step !== null, '::/0 covers every address');
    return step;
  }

  /** Owners of single addresses, with their classes: those that an object or an interface names. */
  *hosts(): Generator<AddressClass> {
    for (const step of this.#steps) {
      const { prefix, isImplied } = step.owner;
      if (prefix.bits === 128 && isImplied !== true) yield step;
    }
  }

  /** The entries that the kernel needs: a prefix that says what its enclosing one says is left out. */
  entries(): ClassEntry[] {
    const entries: ClassEntry[] = [];
    const effective = new Map<Step | null, { readonly classId: number; readonly flags: number }>();
    effective.set(null, { classId: classNone, flags: 0 });
    for (const step of this.#steps) {
      const { prefix, classId, flags } = step;
      const outer = effective.get(step.parent);
      if (outer?.classId === classId && outer.flags === flags) effective.set(step, outer);
      else {
        effective.set(step, step);
        entries.push({ prefix, classId, flags });
      }
    }
    return entries;
  }

  /** The outermost prefixes that carry one of `flags`. */
  prefixesWith(flags: number): Prefix[] {
    const found = this.#steps.filter(
      (step) =>
        (step.flags & flags) !== 0 && (step.parent === null || (step.parent.flags & flags) === 0),
    );
    return found.map(({ prefix }) => prefix);
  }
}

function collectChanges(
  owners: readonly AddressOwner[],
  peers: ReadonlyMap<string, Peer>,
): readonly PrefixChange[] {
  const changes = new Map<string, PrefixChange>();
  const changeAt = (prefix: Prefix): PrefixChange => {
    const key = formatPrefix(prefix);
    let change = changes.get(key);
    if (change === undefined) {
      change = { prefix, owner: null, starts: [], excepts: [] };
      changes.set(key, change);
    }
    return change;
  };
  for (const owner of owners) changeAt(owner.prefix).owner = owner;
  for (const [key, peer] of peers) {
    if (peer.kind !== 'cidr') continue;
    changeAt(peer.cidr).starts.push(key);
    for (const prefix of peer.except) changeAt(prefix).excepts.push(key);
  }
  return [...changes.values()].sort((left, right) => comparePrefixes(left.prefix, right.prefix));
}

function walk(changes: readonly PrefixChange[], matcher: SelectorMatcher): Step[] {
  const steps: Step[] = [];
  let parent: Step | null = null;
  for (const change of changes) {
    while (parent !== null && !trieCovers(parent.prefix, change.prefix)) parent = parent.parent;
    // Families do not inherit from each other, though one trie holds both.
    const isRoot = isSame(change.prefix, ipv6World) || isSame(change.prefix, ipv4World);
    const owner: AddressOwner | undefined = change.owner ?? parent?.owner;
    assert(owner !== undefined, 'both worlds have an owner');
    const inherited: ReadonlySet<string> = isRoot || parent === null ? new Set() : parent.cidrs;
    const cidrs = applyChange(inherited, change);
    const inheritedFlags: number = isRoot || parent === null ? 0 : parent.flags;
    const ownFlags = change.owner?.flags ?? 0;
    // In the node's pod CIDR there may be what is no pod of it: a bridge's gateway, a pod of another node.
    const isElsewhere = change.owner?.isElsewhere === true;
    const flags = (isElsewhere ? inheritedFlags & ~ClassFlag.localPods : inheritedFlags) | ownFlags;
    const content = matcher.contentOf(owner, cidrs);
    const step: Step = { prefix: change.prefix, parent, owner, cidrs, flags, content, classId: 0 };
    steps.push(step);
    parent = step;
  }
  return steps;
}

function isSame(left: Prefix, right: Prefix): boolean {
  return isIpv4Prefix(left) === isIpv4Prefix(right) && comparePrefixes(left, right) === 0;
}

function applyChange(inherited: ReadonlySet<string>, change: PrefixChange): ReadonlySet<string> {
  if (change.starts.length === 0 && change.excepts.length === 0) return inherited;
  const cidrs = new Set(inherited);
  for (const key of change.starts) cidrs.add(key);
  for (const key of change.excepts) cidrs.delete(key);
  return cidrs;
}

/**
 * Which selectors match an owner. Owners that look alike to selectors are asked once. A block that is narrowed to pods
 * holds where its prefix and its selector do.
 */
class SelectorMatcher {
  readonly #peers: ReadonlyMap<string, Peer>;
  readonly #byLook = new Map<string, readonly string[]>();
  readonly #byOwner = new Map<AddressOwner, readonly string[]>();
  readonly #contents = new Map<readonly string[], Map<ReadonlySet<string>, string>>();
  readonly #blocks = new Map<ReadonlySet<string>, ReadonlySet<string>>();
  static readonly #none: ReadonlySet<string> = new Set();

  constructor(peers: ReadonlyMap<string, Peer>) {
    this.#peers = peers;
  }

  /** Canonical text of the set of selectors; '' for the empty set. */
  contentOf(owner: AddressOwner, cidrs: ReadonlySet<string>): string {
    const matched = this.#matched(owner);
    const applied = owner.isExternal ? cidrs : this.#blocksOf(cidrs);
    let byCidrs = this.#contents.get(matched);
    if (byCidrs === undefined) this.#contents.set(matched, (byCidrs = new Map()));
    let content = byCidrs.get(applied);
    if (content === undefined) {
      const isNarrowed = (key: string): boolean => podsOf(this.#peers.get(key)) !== undefined;
      const whole = matched.filter((key) => !isNarrowed(key) || applied.has(key));
      const blocks = [...applied].filter((key) => !isNarrowed(key));
      content = [...whole, ...blocks].sort().join('\n');
      byCidrs.set(applied, content);
    }
    return content;
  }

  /** Those that hold for pods and nodes. */
  #blocksOf(cidrs: ReadonlySet<string>): ReadonlySet<string> {
    let blocks = this.#blocks.get(cidrs);
    if (blocks !== undefined) return blocks;
    const isBlock = (key: string): boolean => {
      const peer = this.#peers.get(key);
      return peer?.kind === 'cidr' && peer.isIpBlock === true;
    };
    const found = [...cidrs].filter(isBlock);
    blocks = found.length === 0 ? SelectorMatcher.#none : new Set(found);
    this.#blocks.set(cidrs, blocks);
    return blocks;
  }

  #matched(owner: AddressOwner): readonly string[] {
    let matched = this.#byOwner.get(owner);
    if (matched !== undefined) return matched;
    const look = JSON.stringify([
      [...owner.entities].sort(),
      owner.identities.map(identityKey).sort(),
    ]);
    matched = this.#byLook.get(look);
    if (matched === undefined) {
      matched = [...this.#peers]
        .filter(([, peer]) => ownerMatches(owner, peer))
        .map(([key]) => key);
      this.#byLook.set(look, matched);
    }
    this.#byOwner.set(owner, matched);
    return matched;
  }
}

function ownerMatches(owner: AddressOwner, peer: Peer): boolean {
  switch (peer.kind) {
    case 'cidr':
      return peer.pods !== undefined && identifies(owner, peer.pods);
    case 'entity':
      return owner.entities.has(peer.entity);
    case 'labels':
      return identifies(owner, peer.selector);
  }
}

function identifies({ identities }: AddressOwner, selector: LabelSelector): boolean {
  return identities.some((identity) => selectorMatches(selector, identity));
}

function podsOf(peer: Peer | undefined): LabelSelector | undefined {
  return peer?.kind === 'cidr' ? peer.pods : undefined;
}

function makeTable(classIds: ReadonlyMap<string, number>): ClassTable {
  const selectorsOf = new Map<number, readonly string[]>();
  const classesOf = new Map<string, number[]>();
  for (const [content, classId] of classIds) {
    const selectors = content.split('\n');
    selectorsOf.set(classId, selectors);
    for (const key of selectors) {
      const classes = classesOf.get(key);
      if (classes === undefined) classesOf.set(key, [classId]);
      else classes.push(classId);
    }
  }
  for (const classes of classesOf.values()) classes.sort((left, right) => left - right);
  return { classesOf, selectorsOf };
}
