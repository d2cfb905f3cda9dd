// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** MirroredMap against maps of the kernel that another writer changes. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BpfError } from '@tandem/bpf-loader-node/errors';
import { BpfMap, mapFlag, mapType } from '@tandem/bpf-loader-node/map';
import type { Entry } from './encode.ts';
import { keyText } from './known-entries.ts';
import { MirroredMap } from './mirrored-map.ts';

const kinds = [
  { name: 'hash', type: mapType.hash, flags: 0 },
  { name: 'trie', type: mapType.lpmTrie, flags: mapFlag.noPrealloc },
] as const;
type Kind = (typeof kinds)[number];

const create = ({ name, type, flags }: Kind, maxEntries: number): BpfMap =>
  BpfMap.create({ type, name, keySize: 8, valueSize: 8, maxEntries, flags });

function entry(n: number, value: number): Entry {
  const key = new Uint8Array(8);
  const view = new DataView(key.buffer);
  view.setUint32(0, 32, true);
  view.setUint32(4, Math.imul(n, 2_654_435_761), false);
  return { key, value: new Uint8Array(8).fill(value) };
}

const some = (count: number): Entry[] => Array.from({ length: count }, (_, i) => entry(i, i & 255));

function contentOf(entries: Iterable<[Uint8Array, Uint8Array]>): Map<string, string> {
  return new Map([...entries].map(([key, value]) => [keyText(key), keyText(value)]));
}

/** Slices until a whole pass, and the rest of the one before it, has found nothing. */
function isChanged(mirror: MirroredMap, slice: number, entries: number): boolean {
  let isFound = false;
  for (let i = 0; i < 2 * Math.ceil((entries + 1) / slice) + 1; i++) {
    if (mirror.compare(slice)) isFound = true;
  }
  return isFound;
}

for (const kind of kinds) {
  describe(`a ${kind.name}`, () => {
    const foreign: readonly (readonly [string, (map: BpfMap) => void])[] = [
      ['an entry that was removed', (map) => map.delete(entry(7, 0).key)],
      ['an entry with another value', (map) => map.update(entry(8, 0).key, entry(8, 99).value)],
      ['an entry that was added', (map) => map.update(entry(5000, 0).key, entry(0, 1).value)],
      [
        'all of them removed',
        (map) => {
          for (const [key] of [...map.entries()]) map.delete(key);
        },
      ],
    ];
    for (const [what, change] of foreign) {
      for (const slice of [64, 4096]) {
        test(`${what}, slices of ${slice}: found, and mended by the next writes`, () => {
          using map = create(kind, 8192);
          const mirror = new MirroredMap(map);
          const desired = some(1000);
          mirror.add(desired);
          mirror.compare(slice);
          assert.ok(!isChanged(mirror, slice, 1000), 'nobody else has written');
          mirror.compare(Math.min(slice, 300));
          change(map);
          assert.ok(isChanged(mirror, slice, 1000));
          mirror.add(desired);
          mirror.prune(desired);
          assert.deepEqual(contentOf(map.entries()), contentOf(asPairs(desired)));
          assert.ok(!isChanged(mirror, slice, 1000));
        });
      }
    }

    test('own writes between slices are no change of others', () => {
      using map = create(kind, 8192);
      const mirror = new MirroredMap(map);
      let desired = some(1000);
      mirror.add(desired);
      for (let i = 0; i < 200; i++) {
        assert.ok(!mirror.compare(64), `slice ${i}`);
        desired = [...desired.slice(13), ...some(13).map((_, k) => entry(1000 + i * 13 + k, i))];
        mirror.add(desired);
        mirror.prune(desired);
        assert.ok(!mirror.differs(desired));
      }
      assert.deepEqual(contentOf(map.entries()), contentOf(asPairs(desired)));
    });

    test('what a full map took before it refused is known', () => {
      using map = create(kind, 100);
      const mirror = new MirroredMap(map);
      assert.throws(() => mirror.add(some(150)), BpfError);
      assert.ok(!mirror.fits([entry(149, 0)], 100));
      assert.deepEqual(contentOf(mirror.entries()), contentOf(map.entries()));
      mirror.prune([]);
      assert.equal([...map.entries()].length, 0);
    });
  });
}

function asPairs(entries: readonly Entry[]): [Uint8Array, Uint8Array][] {
  return entries.map(({ key, value }) => [key, value]);
}
