// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Classes: for every prefix that matters, the set of peer selectors in use that match its addresses. The kernel looks
 * an address up once, longest prefix first. Kept from one compilation to the next: an address is looked at again when
 * its owner, a selector that matches this owner, or the range around it is another one.
 */

import { flatText } from '../../flat-text.ts';
import { addressKey, hostPrefix, type Prefix } from '../../net/ip.ts';
import { ClassEntries, type ClassEntry } from '../model/class-entries.ts';
import type { ClassTable } from '../model/desired.ts';
import type { IdSession } from '../model/id-session.ts';
import { classNeverLearn, classNone } from '../model/kernel-numbers.ts';
import type { CidrPeer, Peer } from '../model/peer.ts';
import type { Ownership } from './address-owners.ts';
import { type ClassContent, ClassContents } from './class-contents.ts';
import {
  type AddressClass,
  classOf,
  entryOfHost,
  Host,
  isNamed,
  type RangeClass,
} from './class-hosts.ts';
import {
  buildRanges,
  type CidrEdges,
  flagsIn,
  type Range,
  type RangeTree,
  rangeOf,
} from './class-ranges.ts';
import { type Look, OwnerLooks } from './owner-looks.ts';
import type { OwnerTable } from './owner-table.ts';
import type { PeerTable } from './peer-table.ts';
import { SortedHosts } from './sorted-hosts.ts';

const noTree: RangeTree = { ranges: [], edges: new Map() };

export class AddressClasses {
  readonly #contents: ClassContents;
  readonly #looks: OwnerLooks;
  readonly #hosts = new Map<string, Host>();
  readonly #sorted = new SortedHosts<Host>();
  /** Hosts that CIDR peers hold for. */
  readonly #external = new Set<Host>();
  /** Hosts of which nothing is learned, where that does not follow from their range. */
  readonly #neverLearn = new Set<Host>();
  #neverLearnList: readonly Prefix[] | null = null;
  #tree = noTree;
  readonly #ranges = new Map<string, RangeClass>();
  /** Hosts to write again once ids are known. */
  readonly #touchedHosts = new Map<string, Host>();
  readonly #touchedRanges = new Map<string, RangeClass | null>();
  readonly #watchedKeys = new Set<string>();
  #entries = ClassEntries.none;
  /** Counts changes of everything that the answers to questions about watched addresses and selectors may depend on. */
  watchedVersion = 0;

  /** `selectorsMax`: of all classes together. */
  constructor(selectorsMax: number) {
    this.#contents = new ClassContents(selectorsMax);
    this.#looks = new OwnerLooks(this.#contents, selectorsMax);
  }

  /** Counts the owners that came and went. */
  get ownersVersion(): number {
    return this.#looks.version;
  }

  get table(): ClassTable {
    return this.#contents.table;
  }

  /** The entries that the kernel needs: a prefix that says what its enclosing one says is left out. */
  get entries(): ClassEntries {
    return this.#entries;
  }

  /** Evaluates `peers` over the owners' addresses. Takes class ids from `ids`. @throws ClassOverflow */
  update(owners: OwnerTable, peers: PeerTable, ids: IdSession): void {
    const changes = owners.takeChanges();
    const { isAny, areCidrs, looks } = this.#looks.update(peers);
    if (isAny) this.watchedVersion++;
    if (areCidrs || changes.areRanges || this.#tree === noTree)
      this.#updateRanges(owners, peers.peers);
    else if (looks.size > 0) this.#updateRangeContents(looks);
    for (const [key, address] of changes.addresses)
      this.#setHost(key, address, owners.ownerOf(key));
    if (looks.size > 0) this.#updateLooks(looks);
    this.#looks.forgetUnused();
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

  /** Counts changes of everything that `membersVersion` may depend on. */
  get membersClock(): number {
    return this.#contents.clock;
  }

  /** Says which addresses a selector matches, of those that an object or an interface names. */
  membersVersion(key: string): string {
    let text = '';
    for (const { id, version } of this.#contents.with(key)) text += `${id} ${version},`;
    return text;
  }

  /** Addresses that the selector matches; null if there are more than `max`. */
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
  namedOwners(): Generator<Ownership, void, undefined> {
    return this.#looks.named();
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

  #updateRanges(owners: OwnerTable, peers: ReadonlyMap<string, Peer>): void {
    this.watchedVersion++;
    const cidrs = [...peers].filter((each): each is [string, CidrPeer] => each[1].kind === 'cidr');
    const former = this.#tree;
    this.#tree = buildRanges(owners.ranges(), cidrs, this.#looks.sets);
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
    this.#looks.keepSets(new Set(ranges.flatMap(({ cidrs: set }) => [set, set.blocks])));
  }

  /** Adds it to `dirty` where hosts in it have to be looked at again. */
  #setRange(range: Range, dirty: Set<RangeClass>): void {
    const look = this.#looks.of(range.owner);
    const content = this.#looks.contentOf(look, range.cidrs);
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
      const content = this.#looks.contentOf(known.look, known.range.cidrs);
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
    const look = this.#looks.of(own ?? place.range.owner);
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
    const look = this.#looks.of(host.own ?? range.owner);
    const cidrs =
      edge === undefined
        ? range.cidrs
        : this.#looks.sets.change(range.cidrs, edge.starts, edge.excepts);
    const content = this.#looks.contentOf(look, cidrs);
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

  /** Marks the addresses of classes that got other ids. */
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
      changes.set(flatText(key + hostBits), host.isGone ? null : entryOfHost(host));
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

function areSameEdges(left: CidrEdges | undefined, right: CidrEdges | undefined): boolean {
  const text = (edge: CidrEdges | undefined): string =>
    edge === undefined ? '' : JSON.stringify([edge.starts.toSorted(), edge.excepts.toSorted()]);
  return text(left) === text(right);
}
