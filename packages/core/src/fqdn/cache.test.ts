// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameFromText, nameToText } from '../dns/name.ts';
import { fqdnAheadSecondsMax, fqdnPlacesPerUse } from '../limits.ts';
import { FqdnCache } from './cache.ts';
import {
  type FqdnCacheOptions,
  FqdnRecord,
  type FqdnStatus,
  fqdnAdded,
  fqdnExtended,
  fqdnRefused,
  fqdnUnchanged,
} from './mapping.ts';

const key = { low: 3, high: 4 };

function cacheOf(options: Partial<FqdnCacheOptions> = {}): FqdnCache {
  return new FqdnCache({ key, ...options });
}

function wire(text: string): Uint8Array {
  const name = nameFromText(text);
  assert.ok(name !== null);
  return name;
}

function address(last: number): Uint8Array {
  const octets = new Uint8Array(16);
  octets.set([0xff, 0xff, 192, 0, last >>> 8, last & 255], 10);
  return octets;
}

function learn(
  cache: FqdnCache,
  text: string,
  last: number,
  expires = 100,
  namespace = 1,
  scope = 0,
): FqdnStatus {
  const name = wire(text);
  return cache.learn(name, name.length, address(last), 0, expires, namespace, scope);
}

function lookup(cache: FqdnCache, text: string, last: number, namespace = 1, scope = 0): number {
  const name = wire(text);
  return cache.lookup(name, name.length, address(last), 0, namespace, scope);
}

test('a mapping is added, extended, never shortened', () => {
  const cache = cacheOf();
  assert.equal(learn(cache, 'a.test', 1, 100), fqdnAdded);
  assert.equal(learn(cache, 'a.test', 1, 100), fqdnUnchanged);
  assert.equal(learn(cache, 'a.test', 1, 150), fqdnExtended);
  assert.equal(learn(cache, 'a.test', 1, 50), fqdnUnchanged);
  assert.equal(lookup(cache, 'a.test', 1), 150);
  assert.equal(lookup(cache, 'a.test', 2), 0);
  assert.equal(lookup(cache, 'b.test', 1), 0);
  assert.equal(cache.size, 1);
});

test('namespaces and scopes share nothing', () => {
  const cache = cacheOf();
  learn(cache, 'a.test', 1, 100, 1, 0);
  learn(cache, 'a.test', 1, 200, 2, 0);
  learn(cache, 'a.test', 1, 300, 1, 77);
  assert.equal(lookup(cache, 'a.test', 1, 1, 0), 100);
  assert.equal(lookup(cache, 'a.test', 1, 2, 0), 200);
  assert.equal(lookup(cache, 'a.test', 1, 1, 77), 300);
  assert.equal(lookup(cache, 'a.test', 1, 2, 77), 0);
  assert.equal(lookup(cache, 'a.test', 1, 3, 0), 0);
  assert.deepEqual([cache.size, cache.nameCount, cache.sizeOfNamespace(1)], [3, 3, 2]);
});

test('names of all lengths are kept as they are', () => {
  const cache = cacheOf();
  const names = Array.from({ length: 62 }, (_, i) =>
    `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(i)}`.slice(-i * 4 - 1),
  );
  for (const [i, name] of names.entries())
    assert.equal(learn(cache, name.replace(/^\./, 'x.'), i), fqdnAdded);
  const record = new FqdnRecord();
  const seen: string[] = [];
  for (let entry = cache.nextEntry(1); entry !== 0; entry = cache.nextEntry(entry + 1)) {
    cache.read(entry, record);
    seen.push(nameToText(record.name.slice(0, record.nameLength)));
  }
  assert.deepEqual(
    seen,
    names.map((name) => `${name.replace(/^\./, 'x.')}.`.replace('..', '.')),
  );
});

test('a namespace over its quota evicts its own oldest', () => {
  const cache = cacheOf({ entriesPerNamespaceMax: 3 });
  learn(cache, 'victim.test', 1, 100, 2);
  for (const name of ['a', 'b', 'c']) learn(cache, `${name}.test`, 1);
  learn(cache, 'a.test', 1, 50);
  assert.equal(learn(cache, 'd.test', 1), fqdnAdded);
  assert.deepEqual(
    ['a', 'b', 'c', 'd'].map((name) => lookup(cache, `${name}.test`, 1)),
    [100, 0, 100, 100],
  );
  assert.equal(lookup(cache, 'victim.test', 1, 2), 100);
  assert.equal(cache.counters.evictedByNamespace, 1);
});

test('a quota of one mapping', () => {
  const cache = cacheOf({ entriesPerNamespaceMax: 1, namespacesMax: 1 });
  for (let i = 0; i < 5; i++) assert.equal(learn(cache, `n${i}.test`, i), fqdnAdded);
  for (let i = 0; i < 5; i++) assert.equal(learn(cache, 'n4.test', 10 + i), fqdnAdded);
  assert.equal(lookup(cache, 'n4.test', 14), 100);
  assert.deepEqual([cache.size, cache.nameCount, cache.nameBlocks], [1, 1, 1]);
});

test('a name over its limit evicts its own oldest address', () => {
  const cache = cacheOf({ addressesPerNameMax: 2 });
  learn(cache, 'other.test', 9);
  learn(cache, 'a.test', 1);
  learn(cache, 'a.test', 2);
  learn(cache, 'a.test', 1);
  learn(cache, 'a.test', 3);
  assert.deepEqual(
    [1, 2, 3].map((last) => lookup(cache, 'a.test', last)),
    [100, 0, 100],
  );
  assert.equal(lookup(cache, 'other.test', 9), 100);
  assert.equal(cache.counters.evictedByName, 1);
});

test('in a full cache nobody loses to one who would have as much', () => {
  for (const limits of [{ entriesMax: 2 }, { namesMax: 2, entriesMax: 10 }]) {
    const cache = cacheOf(limits);
    learn(cache, 'a.test', 1, 100, 1);
    learn(cache, 'b.test', 1, 100, 2);
    assert.equal(learn(cache, 'c.test', 1, 100, 3), fqdnRefused);
    assert.equal(cache.counters.refusedFull, 1);
    assert.equal(cache.sizeOfNamespace(3), 0);
    assert.equal(learn(cache, 'c.test', 1, 100, 2), fqdnAdded);
    assert.equal(cache.counters.evictedByFull, 1);
    assert.deepEqual([lookup(cache, 'a.test', 1, 1), lookup(cache, 'b.test', 1, 2)], [100, 0]);
  }
});

for (const [what, limits, name] of [
  ['mappings', { entriesMax: 12 }, (i: number) => `n${i}.test`],
  ['names', { namesMax: 12 }, (i: number) => `n${i}.test`],
  ['octets of names', { nameBlocksMax: 96 }, (i: number) => longName(i)],
] as const) {
  test(`namespaces that fill the ${what} keep nobody out: each comes to an equal share`, () => {
    const cache = cacheOf(limits);
    for (const namespace of [1, 2])
      for (let i = 0; i < 12; i++) learn(cache, name(i), i, 100, namespace);
    const sizes = (): number[] => [1, 2, 3].map((each) => cache.sizeOfNamespace(each));
    assert.deepEqual(sizes(), [6, 6, 0]);
    for (let i = 0; i < 12; i++) {
      assert.equal(learn(cache, name(i), i, 100, 3), fqdnAdded, `${i}`);
      assert.equal(lookup(cache, name(i), i, 3), 100);
    }
    assert.deepEqual(sizes(), [4, 4, 4]);
    assert.equal(cache.counters.evictedByShare, 6 + 4);
    for (const each of [1, 2]) {
      assert.equal(lookup(cache, name(6), 6, each), 0, 'the oldest went');
      assert.equal(lookup(cache, name(11), 11, each), 100, 'the newest stay');
    }
    // A namespace at its share takes its own place, however much it asks.
    for (let i = 20; i < 40; i++) learn(cache, name(i), i, 100, 1);
    assert.deepEqual(sizes(), [4, 4, 4]);
  });
}

/** A name of 8 blocks. */
function longName(number: number): string {
  const label = (letter: string): string => letter.repeat(62);
  return `${String(number).padStart(50, 'a')}.${label('b')}.${label('c')}.${label('d')}`;
}

test('a long name takes the blocks of several own names', () => {
  const cache = cacheOf({ nameBlocksMax: 9 });
  for (let i = 0; i < 9; i++) learn(cache, `n${i}.test`, i);
  assert.equal(
    learn(cache, `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`, 1),
    fqdnAdded,
  );
  assert.deepEqual([cache.size, cache.nameBlocks, cache.counters.evictedByFull], [2, 9, 8]);
  assert.equal(lookup(cache, 'n8.test', 8), 100);
});

test('more namespaces than there may be are refused', () => {
  const cache = cacheOf({ namespacesMax: 2 });
  learn(cache, 'a.test', 1, 100, 1);
  learn(cache, 'a.test', 1, 100, 2);
  assert.equal(learn(cache, 'a.test', 1, 100, 3), fqdnRefused);
  assert.equal(cache.counters.refusedNamespaces, 1);
  assert.equal(cache.expire(100, 10), 2);
  assert.equal(learn(cache, 'a.test', 1, 100, 3), fqdnAdded);
});

test('expiry looks at as many places as it may', () => {
  const cache = cacheOf();
  for (let i = 0; i < 10; i++) learn(cache, 'a.test', i, i < 5 ? 100 : 200);
  assert.equal(cache.expire(99, 100), 0);
  assert.equal(cache.expire(100, 3), 3);
  assert.equal(cache.expire(100, 3), 2);
  assert.equal(cache.expire(100, 100), 0);
  assert.deepEqual([cache.size, cache.counters.expired], [5, 5]);
  assert.equal(cache.expire(300, 1000), 5);
  assert.deepEqual(
    [cache.size, cache.nameCount, cache.nameBlocks, cache.sizeOfNamespace(1)],
    [0, 0, 0, 0],
  );
  assert.equal(cache.expire(300, 10), 0);
  assert.equal(cacheOf().expire(1, 10), 0);
});

test('no mapping lives longer than an answer can make it, whatever the other process says', () => {
  const cache = cacheOf();
  const forever = 0xffff_ffff;
  learn(cache, 'early.test', 1, forever);
  learn(cache, 'free.test', 1);
  assert.equal(cache.expire(1000, 1), 0);
  const most = 1000 + fqdnAheadSecondsMax;
  assert.equal(lookup(cache, 'early.test', 1), most, 'of before the time was known');
  assert.equal(learn(cache, 'late.test', 1, forever), fqdnAdded);
  assert.equal(lookup(cache, 'late.test', 1), most);
  assert.equal(learn(cache, 'late.test', 1, forever), fqdnUnchanged);
  learn(cache, 'free.test', 1, forever);
  assert.equal(lookup(cache, 'free.test', 1), most);
  cache.expire(1001, 1);
  assert.equal(learn(cache, 'late.test', 1, most + 1), fqdnExtended);
  assert.equal(cache.expire(most + 1, 1000), 3);
});

test('an expired mapping that is in use stays until the time that is given, and is asked again then', () => {
  const cache = cacheOf();
  for (const last of [1, 2]) learn(cache, 'a.test', last, 100);
  const asked: number[] = [];
  let used = 150;
  const inUse = (addresses: Uint8Array, at: number): number => {
    const last = addresses[at + 15]!;
    asked.push(last);
    return last === 1 ? used : 0;
  };
  assert.equal(cache.expire(99, 10, inUse), 0);
  assert.equal(cache.expire(100, 10, inUse), 1);
  for (const now of [101, 149]) assert.equal(cache.expire(now, 10, inUse), 0);
  assert.deepEqual(asked.toSorted(), [1, 2], 'once');
  used = 200;
  assert.equal(cache.expire(150, 10, inUse), 0);
  assert.equal(lookup(cache, 'a.test', 1), 100, 'it expired when it did');
  // Answered again and expired again.
  learn(cache, 'a.test', 1, 300);
  used = 0;
  assert.equal(cache.expire(299, 10, inUse), 0);
  assert.equal(cache.expire(300, 10, inUse), 1);
  assert.equal(asked.length, 4);
});

test('asking whether a mapping is in use counts against the budget of expiry', () => {
  const cache = cacheOf();
  for (let i = 0; i < 10; i++) learn(cache, 'a.test', i, 100);
  let asked = 0;
  const inUse = (): number => {
    asked += 1;
    return 200;
  };
  for (const budget of [1, fqdnPlacesPerUse, fqdnPlacesPerUse + 1])
    cache.expire(100, budget, inUse);
  assert.equal(asked, 4);
  for (let i = 0; i < 10; i++) cache.expire(100, 2 * fqdnPlacesPerUse, inUse);
  assert.equal(asked, 10, 'each once');
  assert.deepEqual([cache.size, cache.counters.expired], [10, 0]);
});

test('names are listed once, with all their addresses', () => {
  const cache = cacheOf();
  for (let i = 0; i < 6; i++) learn(cache, `n${i % 2}.test`, i);
  learn(cache, 'n0.test', 0);
  const record = new FqdnRecord();
  const found = new Map<string, number[]>();
  for (let entry = cache.nextName(1); entry !== 0; entry = cache.nextName(entry + 1)) {
    const addresses: number[] = [];
    for (let at = entry; at !== 0; at = cache.nextOfName(at)) {
      cache.read(at, record);
      addresses.push(record.address[15]!);
    }
    found.set(nameToText(record.name), addresses);
  }
  assert.deepEqual([...found.entries()].toSorted(), [
    ['n0.test.', [2, 4, 0]],
    ['n1.test.', [1, 3, 5]],
  ]);
});

test('a million names of one namespace leave the others alone (T7)', () => {
  const cache = cacheOf();
  for (let i = 0; i < 500; i++) learn(cache, `victim${i}.test`, i, 100, 2);
  const name = wire('n0000000.attacker.test');
  const octets = address(1);
  for (let i = 0; i < 1_000_000; i++) {
    for (let at = 8, rest = i; at > 1; at--, rest = Math.trunc(rest / 10))
      name[at] = 48 + (rest % 10);
    cache.learn(name, name.length, octets, 0, 1000, 1, 0);
  }
  assert.equal(cache.sizeOfNamespace(1), 8192);
  assert.equal(cache.sizeOfNamespace(2), 500);
  for (let i = 0; i < 500; i++) assert.equal(lookup(cache, `victim${i}.test`, i, 2), 100);
  assert.equal(cache.span, 8192 + 500, 'places are reused');
});

test('to refresh, and to replace, allocates nothing', () => {
  const cache = cacheOf({ entriesPerNamespaceMax: 64 });
  const name = wire('host-000.example.com');
  const octets = address(1);
  const round = (count: number, fresh: boolean): void => {
    for (let i = 0; i < count; i++) {
      name[7] = 48 + (i % 10);
      if (fresh) name[8] = 97 + (i % 26);
      cache.learn(name, name.length, octets, 0, i, 1, 0);
    }
  };
  round(20_000, false);
  round(20_000, true);
  const before = process.memoryUsage().heapUsed;
  round(200_000, false);
  round(200_000, true);
  // A single small object for each call would be more than 6 MB.
  assert.ok(process.memoryUsage().heapUsed - before < 1_000_000);
});
