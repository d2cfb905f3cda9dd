// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Classes: for every prefix that matters, the set of peer selectors in use that match its addresses. The kernel looks
 * an address up once, longest prefix first. Kept from one compilation to the next: an address is looked at again when
 * its owner, a selector that matches this owner, or the range around it is another one.
 */
import { addressKey, hostPrefix, type Prefix } from '../net/ip.ts';
import type { Ownership } from './address-owners.ts';
import { type ClassContent, ClassContents } from './class-contents.ts';
import { ClassEntries } from './class-entries.ts';
import {
  buildRanges,
  type CidrEdges,
  flagsIn,
  type Range,
  type RangeTree,
  rangeOf,
} from './class-ranges.ts';
import type { ClassEntry, ClassTable } from './desired.ts';
import type { IdSession } from './id-session.ts';
import { classNeverLearn, classNone } from './kernel-numbers.ts';
import type { OwnerTable } from './owner-table.ts';
import type { CidrPeer, Peer } from './peer.ts';
import { type CidrSet, CidrSets, isNarrowed, PeerMatcher } from './peer-matcher.ts';
import type { PeerTable } from './peer-table.ts';
import { SortedHosts } from './sorted-hosts.ts';

/** What is known about one address, or one prefix. */
export interface AddressClass {
  readonly prefix: Prefix;
  readonly owner: Ownership;
  readonly classId: number;
  /** `ClassFlag` bits, inherited ones included. */
  readonly flags: number;
}

/** Selectors of one owner, and the classes that it has where different CIDR peers hold. */
interface Look {
  readonly owner: Ownership;
  matched: readonly string[];
  users: number;
  readonly contents: Map<CidrSet, ClassContent>;
}

/** A class, so that all fields of the many are in one object. */
class Host {
  readonly key: string;
  readonly address: Uint8Array;
  /** Of the address itself; null: it is its range's, and a CIDR peer names it. */
  own: Ownership | null;
  place: RangeClass;
  look: Look;
  content: ClassContent;
  flags = 0;
  isGone = false;

  constructor(
    key: string,
    address: Uint8Array,
    own: Ownership | null,
    place: RangeClass,
    look: Look,
    content: ClassContent,
  ) {
    this.key = key;
    this.address = address;
    this.own = own;
    this.place = place;
    this.look = look;
    this.content = content;
  }
}

/** A range of the tree as it is now, and what it has there. Trees come and go, hosts stay in their range. */
interface RangeClass {
  range: Range;
  look: Look;
  content: ClassContent;
}

const noTree: RangeTree = { ranges: [], edges: new Map() };

export class AddressClasses {
  #matcher = new PeerMatcher([]);
  /** Keys of blocks that hold for pods with certain labels alone. */
  readonly #narrowed = new Set<string>();
  readonly #sets = new CidrSets((key) => key.startsWith('block '));
  readonly #contents = new ClassContents();
  readonly #looks = new Map<Ownership, Look>();
  readonly #hosts = new Map<string, Host>();
  readonly #sorted = new SortedHosts<Host>();
  /** Hosts that CIDR peers hold for. */
  readonly #external = new Set<Host>();
  /** Hosts of which nothing is learned, where that does not follow from their range. */
  readonly #neverLearn = new Set<Host>();
  #neverLearnList: readonly Prefix[] | null = null;
  #tree = noTree;
  readonly #ranges = new Map<string, RangeClass>();
  /** What is to be written anew once ids are known. */
  readonly #touchedHosts = new Map<string, Host>();
  readonly #touchedRanges = new Map<string, RangeClass | null>();
  readonly #watchedKeys = new Set<string>();
  #entries = ClassEntries.none;
  /** Counts whatever the answers to questions about watched addresses and selectors may depend on. */
  watchedVersion = 0;
  /** Counts the looks that came and went. */
  ownersVersion = 0;

  get table(): ClassTable {
    return this.#contents.table;
  }

  /** The entries that the kernel needs: a prefix that says what its enclosing one says is left out. */
  get entries(): ClassEntries {
    return this.#entries;
  }

  /** Evaluates `peers` over the owners' addresses. Takes class ids from `ids`. */
  update(owners: OwnerTable, peers: PeerTable, ids: IdSession): void {
    const changes = owners.takeChanges();
    const { areCidrs, looks } = this.#updatePeers(peers);
    if (areCidrs || changes.areRanges || this.#tree === noTree)
      this.#updateRanges(owners, peers.peers);
    else if (looks.size > 0) this.#updateRangeContents(looks);
    for (const [key, address] of changes.addresses)
      this.#setHost(key, address, owners.ownerOf(key));
    if (looks.size > 0) this.#updateLooks(looks);
    for (const [owner, look] of this.#looks) {
      if (look.users > 0) continue;
      this.#looks.delete(owner);
      this.ownersVersion++;
    }
    const renamed = this.#contents.assign(ids);
    this.#contents.settle();
    if (renamed.size > 0) this.#touchAll(renamed);
    this.#writeEntries();
  }

  /** The class of an address, as the kernel's lookup would give it. */
  at(address: Uint8Array): AddressClass {
    const key = addressKey(address);
    const host = this.#hosts.get(key);
    if (host !== undefined) return classOf(host);
    const { range, content } = this.#placeOf(key);
    return { prefix: range.prefix, owner: range.owner, classId: content.id, flags: range.flags };
  }

  /** As `at`, and from now on a change there counts in `watchedVersion`. */
  watch(address: Uint8Array): AddressClass {
    this.#watchedKeys.add(addressKey(address));
    return this.at(address);
  }

  forgetWatched(): void {
    this.#watchedKeys.clear();
  }

  /** Counts whatever `membersVersion` may depend on. */
  get membersClock(): number {
    return this.#contents.clock;
  }

  /** Says which addresses a selector matches, of those that an object or an interface names. */
  membersVersion(key: string): string {
    let text = '';
    for (const { id, version } of this.#contents.with(key)) text += `${id} ${version},`;
    return text;
  }

  /** Those addresses; null when they are more than `max`. */
  membersOf(key: string, max: number): readonly Uint8Array[] | null {
    const contents = new Set(this.#contents.with(key));
    let count = 0;
    for (const { named } of contents) count += named;
    if (count > max) return null;
    if (count === 0) return [];
    const found: Host[] = [];
    for (const host of this.#hosts.values()) {
      if (contents.has(host.content) && isNamed(host)) found.push(host);
    }
    found.sort((left, right) => (left.key < right.key ? -1 : 1));
    return found.map(({ address }) => address);
  }

  /** Owners of such addresses, each once. */
  *namedOwners(): Generator<Ownership, void, undefined> {
    for (const [owner, { users }] of this.#looks) {
      if (users > 0 && owner.isImplied !== true) yield owner;
    }
  }

  /** The outermost prefixes that carry a flag of `classNeverLearn`, by address. The same list while it is the same. */
  neverLearn(): readonly Prefix[] {
    if (this.#neverLearnList !== null) return this.#neverLearnList;
    const carries = (range: Range | null): boolean =>
      range !== null && (range.flags & classNeverLearn) !== 0;
    const found = this.#tree.ranges.filter((range) => carries(range) && !carries(range.parent));
    const keyed = found.map(({ key, prefix }): [string, Prefix] => [key, prefix]);
    for (const { key, address } of this.#neverLearn) keyed.push([key, hostPrefix(address)]);
    keyed.sort(([left], [right]) => (left < right ? -1 : 1));
    this.#neverLearnList = keyed.map(([, prefix]) => prefix);
    return this.#neverLearnList;
  }

  /** Gives the looks whose selectors are others than before, and whether CIDR peers are. */
  #updatePeers(peers: PeerTable): {
    readonly areCidrs: boolean;
    readonly looks: ReadonlySet<Look>;
  } {
    const { added, removed } = peers.takeChanges();
    for (const [key, peer] of removed) this.#matcher.delete(key, peer);
    for (const [key, peer] of added) this.#matcher.add(key, peer);
    const areCidrs = [...added, ...removed].some(([, { kind }]) => kind === 'cidr');
    if (added.length + removed.length > 0) this.watchedVersion++;
    const looks = new Set<Look>();
    const fresh = new PeerMatcher(added);
    for (const [key] of removed) this.#narrowed.delete(key);
    for (const [key, peer] of added) if (isNarrowed(peer)) this.#narrowed.add(key);
    const isMatched = (peer: Peer): boolean => peer.kind !== 'cidr' || isNarrowed(peer);
    const gone = new Set(removed.filter(([, peer]) => isMatched(peer)).map(([key]) => key));
    if (fresh.size === 0 && gone.size === 0) return { areCidrs, looks };
    for (const look of this.#looks.values()) {
      const kept = gone.size === 0 ? look.matched : look.matched.filter((key) => !gone.has(key));
      const more = fresh.size === 0 ? [] : fresh.matching(look.owner);
      if (kept.length === look.matched.length && more.length === 0) continue;
      look.matched = more.length === 0 ? kept : [...kept, ...more].sort();
      look.contents.clear();
      looks.add(look);
    }
    return { areCidrs, looks };
  }

  #updateRanges(owners: OwnerTable, peers: ReadonlyMap<string, Peer>): void {
    this.watchedVersion++;
    const cidrs = [...peers].filter((each): each is [string, CidrPeer] => each[1].kind === 'cidr');
    const former = this.#tree;
    this.#tree = buildRanges(owners.ranges(), cidrs, this.#sets);
    const { ranges, edges } = this.#tree;
    this.#neverLearnList = null;
    const dirty = new Set<RangeClass>();
    const kept = new Set<string>();
    for (const range of ranges) {
      kept.add(range.key);
      this.#setRange(range, dirty);
    }
    for (const [key, { range, look, content }] of this.#ranges) {
      if (kept.has(key)) continue;
      this.#ranges.delete(key);
      this.#contents.release(content, false);
      look.users--;
      this.#touchedRanges.set(key, null);
      // Its hosts are those of what is around it now.
      let outer: Range | null = rangeOf(ranges, range.first);
      while (outer !== null && outer.last < range.last) outer = outer.parent;
      if (outer !== null) dirty.add(this.#ranges.get(outer.key) as RangeClass);
    }
    this.#moveHosts(dirty);
    for (const [key, edge] of [...former.edges, ...edges]) {
      if (areSameEdges(former.edges.get(key), edges.get(key))) continue;
      this.#setHost(key, edge.address, owners.ownerOf(key));
    }
    // What CIDR peers hold for depends on all of them around it.
    for (const host of this.#external) this.#evaluate(host, host.place);
    this.#forgetSets(new Set(ranges.flatMap(({ cidrs: set }) => [set, set.blocks])));
  }

  #forgetSets(used: ReadonlySet<CidrSet>): void {
    this.#sets.keep(used);
    for (const { contents } of this.#looks.values()) {
      for (const set of contents.keys()) if (!used.has(set)) contents.delete(set);
    }
  }

  /** Adds it to `dirty` where hosts in it have to be looked at again. */
  #setRange(range: Range, dirty: Set<RangeClass>): void {
    const look = this.#lookOf(range.owner);
    const content = this.#contentOf(look, range.cidrs);
    const known = this.#ranges.get(range.key);
    if (known === undefined) {
      look.users++;
      this.#contents.use(content, false);
      const made = { range, look, content };
      this.#ranges.set(range.key, made);
      this.#touch(made);
      dirty.add(made);
      return;
    }
    const former = known.range;
    const isSame =
      known.content === content &&
      former.flags === range.flags &&
      former.owner === range.owner &&
      former.cidrs.blocks === range.cidrs.blocks;
    this.#replace(known, look, content, false);
    known.range = range;
    known.look = look;
    known.content = content;
    if (!isSame || former.parent?.key !== range.parent?.key) this.#touch(known);
    if (!isSame) dirty.add(known);
  }

  #updateRangeContents(looks: ReadonlySet<Look>): void {
    const dirty = new Set<RangeClass>();
    for (const known of this.#ranges.values()) {
      if (!looks.has(known.look)) continue;
      const content = this.#contentOf(known.look, known.range.cidrs);
      if (content === known.content) continue;
      this.#replace(known, known.look, content, false);
      known.content = content;
      this.#touch(known);
      dirty.add(known);
    }
    this.#moveHosts(dirty);
  }

  /** The range itself, and what is next in it: an entry is left out where it says what is around it. */
  #touch(known: RangeClass): void {
    this.#touchedRanges.set(known.range.key, known);
    for (const { key } of known.range.children) {
      const child = this.#ranges.get(key);
      if (child !== undefined) this.#touchedRanges.set(key, child);
    }
  }

  /** Looks again at hosts that are in these ranges and in no range inside of them. */
  #moveHosts(dirty: ReadonlySet<RangeClass>): void {
    if (dirty.size === 0) return;
    this.#sorted.settle();
    for (const place of dirty) {
      for (const host of this.#sorted.in(place.range)) {
        this.#evaluate(host, place);
        this.#touchedHosts.set(host.key, host);
      }
    }
  }

  #placeOf(key: string): RangeClass {
    return this.#ranges.get(rangeOf(this.#tree.ranges, key).key) as RangeClass;
  }

  #setHost(key: string, address: Uint8Array, own: Ownership | null): void {
    const known = this.#hosts.get(key);
    if (this.#watchedKeys.has(key) && known?.own !== own) this.watchedVersion++;
    if (own === null && !this.#tree.edges.has(key)) {
      if (known !== undefined) this.#removeHost(known);
      return;
    }
    if (known !== undefined) {
      if (known.own !== own && isNamed(known) !== (own?.isImplied !== true)) {
        this.#removeHost(known);
      } else {
        known.own = own;
        this.#evaluate(known, known.place);
        return;
      }
    }
    const place = this.#placeOf(key);
    const look = this.#lookOf(own ?? place.range.owner);
    const host = new Host(key, address, own, place, look, this.#contents.of([]));
    look.users++;
    this.#contents.use(host.content, isNamed(host));
    this.#hosts.set(key, host);
    this.#sorted.add(host);
    this.#evaluate(host, place);
    this.#touchedHosts.set(key, host);
  }

  #removeHost(host: Host): void {
    host.isGone = true;
    host.look.users--;
    this.#contents.release(host.content, isNamed(host));
    this.#hosts.delete(host.key);
    this.#external.delete(host);
    if (this.#neverLearn.delete(host)) this.#neverLearnList = null;
    this.#touchedHosts.set(host.key, host);
  }

  #updateLooks(looks: ReadonlySet<Look>): void {
    for (const host of this.#hosts.values()) {
      if (looks.has(host.look)) this.#evaluate(host, host.place);
    }
  }

  #evaluate(host: Host, place: RangeClass): void {
    const { range } = place;
    const edge = this.#tree.edges.get(host.key);
    const look = this.#lookOf(host.own ?? range.owner);
    const cidrs =
      edge === undefined ? range.cidrs : this.#sets.change(range.cidrs, edge.starts, edge.excepts);
    const content = this.#contentOf(look, cidrs);
    const flags = flagsIn(range.flags, host.own);
    const isChanged = content !== host.content || flags !== host.flags || place !== host.place;
    host.place = place;
    if (edge !== undefined || look.owner.isExternal) this.#external.add(host);
    else this.#external.delete(host);
    const isOutermost = (flags & classNeverLearn) !== 0 && (range.flags & classNeverLearn) === 0;
    if (isOutermost !== this.#neverLearn.has(host)) {
      this.#neverLearnList = null;
      if (isOutermost) this.#neverLearn.add(host);
      else this.#neverLearn.delete(host);
    }
    this.#replace(host, look, content, isNamed(host));
    host.look = look;
    host.content = content;
    host.flags = flags;
    if (isChanged) this.#touchedHosts.set(host.key, host);
  }

  #replace(
    former: { readonly look: Look; readonly content: ClassContent },
    look: Look,
    content: ClassContent,
    named: boolean,
  ): void {
    look.users++;
    former.look.users--;
    if (former.content === content) return;
    this.#contents.use(content, named);
    this.#contents.release(former.content, named);
  }

  #lookOf(owner: Ownership): Look {
    let look = this.#looks.get(owner);
    if (look === undefined) {
      look = { owner, matched: this.#matcher.matching(owner), users: 0, contents: new Map() };
      this.#looks.set(owner, look);
      this.ownersVersion++;
    }
    return look;
  }

  #contentOf(look: Look, cidrs: CidrSet): ClassContent {
    const applied = look.owner.isExternal ? cidrs : cidrs.blocks;
    const known = look.contents.get(applied);
    if (known !== undefined && !known.isGone) return known;
    const content = this.#contents.of(this.#keysOf(look.matched, applied.keys));
    look.contents.set(applied, content);
    return content;
  }

  #keysOf(matched: readonly string[], applied: readonly string[]): readonly string[] {
    if (this.#narrowed.size === 0 && applied.length === 0) return matched;
    const holding = new Set(applied);
    const whole = matched.filter((key) => !this.#narrowed.has(key) || holding.has(key));
    const blocks = applied.filter((key) => !this.#narrowed.has(key));
    return [...whole, ...blocks].sort();
  }

  /** Those of classes that got other ids. */
  #touchAll(renamed: ReadonlySet<ClassContent>): void {
    for (const known of this.#ranges.values()) if (renamed.has(known.content)) this.#touch(known);
    for (const host of this.#hosts.values()) {
      if (renamed.has(host.content) || renamed.has(host.place.content)) {
        this.#touchedHosts.set(host.key, host);
      }
    }
  }

  #writeEntries(): void {
    const changes = new Map<string, ClassEntry | null>();
    for (const [key, known] of this.#touchedRanges) {
      changes.set(key, known === null ? null : this.#entryOfRange(known));
    }
    for (const [key, host] of this.#touchedHosts) {
      changes.set(key + hostBits, host.isGone ? null : entryOfHost(host));
    }
    this.#touchedRanges.clear();
    this.#touchedHosts.clear();
    this.#entries = this.#entries.with(changes);
  }

  #entryOfRange({ range, content }: RangeClass): ClassEntry | null {
    const outer = range.parent === null ? null : this.#ranges.get(range.parent.key);
    const isSame =
      content.id === (outer?.content.id ?? classNone) && range.flags === (outer?.range.flags ?? 0);
    return isSame ? null : { prefix: range.prefix, classId: content.id, flags: range.flags };
  }
}

const hostBits = String.fromCharCode(128);

const isNamed = ({ own }: Host): boolean => own?.isImplied !== true;

function entryOfHost({ address, content, flags, place }: Host): ClassEntry | null {
  if (content.id === place.content.id && flags === place.range.flags) return null;
  return { prefix: hostPrefix(address), classId: content.id, flags };
}

function classOf({ address, own, place, content, flags }: Host): AddressClass {
  const owner = own ?? place.range.owner;
  return { prefix: hostPrefix(address), owner, classId: content.id, flags };
}

function areSameEdges(left: CidrEdges | undefined, right: CidrEdges | undefined): boolean {
  const text = (edge: CidrEdges | undefined): string =>
    edge === undefined ? '' : JSON.stringify([edge.starts.toSorted(), edge.excepts.toSorted()]);
  return text(left) === text(right);
}
