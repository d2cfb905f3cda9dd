// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { nameFromText, nameToText } from '../dns/name.ts';
import { FqdnCache } from './cache.ts';
import { HashIndex } from './hash-index.ts';
import {
  FqdnRecord,
  type FqdnStatus,
  fqdnAdded,
  fqdnExtended,
  fqdnRefused,
  fqdnUnchanged,
} from './mapping.ts';
import { NameStore } from './name-store.ts';

const seed = 20251121;

interface Limits {
  readonly entriesMax: number;
  readonly namesMax: number;
  readonly namespacesMax: number;
  readonly entriesPerNamespaceMax: number;
  readonly addressesPerNameMax: number;
}

interface Mapping {
  readonly name: string;
  readonly address: number;
  readonly namespace: number;
  readonly scope: number;
  expires: number;
}

/** The cache as a list, from the mapping that was learned least recently to the newest. */
class Model {
  list: Mapping[] = [];
  readonly #limits: Limits;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  learn(mapping: Mapping): FqdnStatus {
    const known = this.list.find(
      (m) => nameKey(m) === nameKey(mapping) && m.address === mapping.address,
    );
    if (known !== undefined) {
      const isLater = mapping.expires > known.expires;
      this.#touch(mapping);
      this.list = [
        ...this.list.filter((m) => m !== known),
        { ...known, expires: Math.max(known.expires, mapping.expires) },
      ];
      return isLater ? fqdnExtended : fqdnUnchanged;
    }
    const own = (): Mapping[] => this.list.filter((m) => m.namespace === mapping.namespace);
    const namespaces = new Set(this.list.map((m) => m.namespace));
    if (own().length === 0 && namespaces.size >= this.#limits.namespacesMax) return fqdnRefused;
    const isKnownName = own().some((m) => nameKey(m) === nameKey(mapping));
    if (isKnownName) this.#touch(mapping);
    const ofName = own().filter((m) => nameKey(m) === nameKey(mapping));
    if (ofName.length >= this.#limits.addressesPerNameMax) this.#remove(ofName[0]);
    if (own().length >= this.#limits.entriesPerNamespaceMax) this.#evict(own());
    const names = (): number => new Set(this.list.map(nameKey)).size;
    const isFull = (): boolean =>
      this.list.length >= this.#limits.entriesMax ||
      (!isKnownName && names() >= this.#limits.namesMax);
    while (isFull()) {
      const giver = this.#giverFor(mapping.namespace);
      if (giver === undefined) return fqdnRefused;
      this.#evict(this.list.filter((m) => m.namespace === giver));
    }
    this.#touch(mapping);
    this.list.push(mapping);
    return fqdnAdded;
  }

  /** The namespace that uses most of the exhausted resource evicts, if it uses two more than the one that learns; else that one evicts. */
  #giverFor(taker: number): number | undefined {
    const isShort = this.list.length >= this.#limits.entriesMax;
    const used = (namespace: number): number => {
      const own = this.list.filter((m) => m.namespace === namespace);
      return isShort ? own.length : new Set(own.map(nameKey)).size;
    };
    const namespaces = [...new Set(this.list.map((m) => m.namespace))].toSorted((a, b) => a - b);
    const most = Math.max(...namespaces.map(used));
    if (most > used(taker) + 1) return namespaces.find((each) => used(each) === most);
    return namespaces.find((each) => each === taker);
  }

  expire(now: number): void {
    this.list = this.list.filter((m) => m.expires > now);
  }

  /** When a name was last learned: names age as a whole. */
  #ages = new Map<string, number>();
  #clock = 0;

  #touch(mapping: Mapping): void {
    this.#ages.set(nameKey(mapping), ++this.#clock);
  }

  #evict(own: readonly Mapping[]): void {
    const age = (m: Mapping): number => this.#ages.get(nameKey(m)) ?? 0;
    this.#remove(own.toSorted((a, b) => age(a) - age(b))[0]);
  }

  #remove(mapping: Mapping | undefined): void {
    this.list = this.list.filter((m) => m !== mapping);
  }
}

function nameKey(m: Mapping): string {
  return `${m.name} ${m.namespace} ${m.scope}`;
}

function describe(m: Mapping): string {
  return `${nameKey(m)} ${m.address} ${m.expires}`;
}

function contents(cache: FqdnCache): string[] {
  const record = new FqdnRecord();
  const found: string[] = [];
  for (let entry = cache.nextEntry(1); entry !== 0; entry = cache.nextEntry(entry + 1)) {
    cache.read(entry, record);
    found.push(
      describe({
        name: nameToText(record.name.slice(0, record.nameLength)),
        address: record.address[15]!,
        namespace: record.namespaceId,
        scope: record.scope,
        expires: record.expires,
      }),
    );
  }
  return found.sort();
}

/** Checks that a namespace that lost something to `taker` has no less than it now, of mappings or of names. */
function assertFair(before: readonly string[], after: readonly string[], taker: string): void {
  const namespaceOf = (line: string): string => line.split(' ')[1] ?? '';
  const ownOf = (namespace: string): string[] =>
    after.filter((line) => namespaceOf(line) === namespace);
  const namesOf = (namespace: string): number =>
    new Set(ownOf(namespace).map((line) => line.split(' ').slice(0, 3).join(' '))).size;
  const losers = before.filter((line) => !after.includes(line)).map(namespaceOf);
  for (const loser of new Set(losers)) {
    if (loser === taker) continue;
    const isFair = ownOf(loser).length >= ownOf(taker).length || namesOf(loser) >= namesOf(taker);
    assert.ok(isFair, `${loser} has less than ${taker}`);
  }
}

const mapping = fc.record({
  name: fc.constantFrom(
    'a.',
    'b.',
    'c.test.',
    'd.test.',
    `${'long-'.repeat(12)}.${'long-'.repeat(12)}.test.`,
    '.',
  ),
  address: fc.nat(5),
  namespace: fc.integer({ min: 1, max: 4 }),
  scope: fc.nat(1),
  expires: fc.integer({ min: 1, max: 60 }),
});
const limits = fc.record({
  entriesMax: fc.integer({ min: 6, max: 20 }),
  namesMax: fc.integer({ min: 2, max: 12 }),
  namespacesMax: fc.integer({ min: 1, max: 4 }),
  entriesPerNamespaceMax: fc.integer({ min: 1, max: 8 }),
  addressesPerNameMax: fc.integer({ min: 1, max: 4 }),
});
const commands = fc.array(
  fc.oneof(
    { weight: 12, arbitrary: mapping },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 60 }) },
  ),
  { maxLength: 120, size: 'max' },
);

test('the cache equals a naive model, quotas and evictions included', () => {
  const check = (bounds: Limits, steps: readonly (Mapping | number)[]): void => {
    // A constant key of 0 makes more collisions than a random one, which is what is wanted here.
    const cache = new FqdnCache({ key: { low: 0, high: 0 }, ...bounds });
    const model = new Model(bounds);
    for (const step of steps) {
      if (typeof step === 'number') {
        cache.expire(step, cache.span);
        model.expire(step);
      } else {
        const name = nameFromText(step.name) as Uint8Array;
        const address = new Uint8Array(20);
        address[18] = step.address;
        const before = contents(cache);
        const status = cache.learn(
          name,
          name.length,
          address,
          3,
          step.expires,
          step.namespace,
          step.scope,
        );
        assert.equal(status, model.learn({ ...step }));
        assertFair(before, contents(cache), String(step.namespace));
      }
      assert.deepEqual(contents(cache), model.list.map(describe).sort());
      assert.equal(cache.size, model.list.length);
    }
    cache.expire(1000, cache.span);
    assert.deepEqual([cache.size, cache.nameCount, cache.nameBlocks], [0, 0, 0], 'nothing leaks');
  };
  fc.assert(fc.property(limits, commands, check), { seed, numRuns: 300 });
});

test('the hash index equals a map, whatever collides', () => {
  const step = fc.tuple(fc.integer({ min: 1, max: 12 }), fc.constantFrom(0, 1, 2, 7, -1, 8, 16));
  const check = (steps: readonly [number, number][]): void => {
    const index = new HashIndex(12);
    const model = new Map<number, number>();
    for (const [id, hash] of steps) {
      if (model.delete(id)) index.remove(id);
      else {
        model.set(id, hash);
        index.insert(hash, id);
      }
      for (const wanted of [0, 1, 2, 7, -1, 8, 16, 5]) {
        const found: number[] = [];
        for (let at = index.first(wanted); at !== 0; at = index.next(wanted)) found.push(at);
        const want = [...model].filter(([, h]) => h === wanted).map(([i]) => i);
        assert.deepEqual(
          found.sort((a, b) => a - b),
          want.sort((a, b) => a - b),
        );
      }
    }
  };
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), check), { seed, numRuns: 500 });
});

test('stored names come back', () => {
  const check = (names: readonly Uint8Array[]): void => {
    const store = new NameStore(64);
    const kept: [number, Uint8Array][] = [];
    const out = new Uint8Array(256);
    for (const name of names) {
      while (!store.hasRoom(name.length)) store.remove((kept.shift() as [number, Uint8Array])[0]);
      kept.push([store.add(name, name.length), name]);
      for (const [first, stored] of kept) {
        assert.equal(store.equals(first, stored, stored.length), true);
        const changed = stored.slice();
        changed[changed.length - 1] = (changed.at(-1) as number) ^ 1;
        assert.equal(store.equals(first, changed, changed.length), false);
        store.read(first, stored.length, out);
        assert.deepEqual(out.slice(0, stored.length), stored);
      }
    }
    for (const [first] of kept) store.remove(first);
    assert.equal(store.used, 0);
  };
  const names = fc.array(fc.uint8Array({ minLength: 1, maxLength: 255 }), { maxLength: 30 });
  fc.assert(fc.property(names, check), { seed, numRuns: 200 });
});
