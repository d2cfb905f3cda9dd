// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { idsRetiredMax } from '../limits.ts';
import { type IdKind, idKinds, StableIds, type StableIdsData } from './stable-ids.ts';

/** The table as it would come back from disk. */
function reload(ids: StableIds): StableIds {
  const decoded = StableIds.decode(JSON.parse(JSON.stringify(ids.encode())));
  assert(decoded.ok);
  return decoded.value;
}

test('ids are content-addressed: the same without a table', () => {
  const [first, second] = [StableIds.empty(), StableIds.empty()];
  assert.equal(first.id('policy', 'a'), second.id('policy', 'a'));
  assert.notEqual(first.id('policy', 'a'), first.id('policy', 'b'));
});

test('every id is in its range', () => {
  const ids = StableIds.empty();
  for (const kind of idKinds) {
    for (let index = 0; index < 500; index++) {
      const id = ids.id(kind, `content ${index}`);
      const low = kind === 'selector' ? 0x80000002 : 2;
      assert(id >= low && id <= low - 2 + 0x7fffffff && Number.isInteger(id), `${kind} ${id}`);
    }
  }
});

/** Two contents whose digests begin with the same 31 bits, found by a birthday search. */
function collidingContents(): readonly [string, string] {
  const seen = new Map<number, string>();
  for (let index = 0; ; index++) {
    const content = `collision ${index}`;
    const id = StableIds.empty().id('rule', content);
    const other = seen.get(id);
    if (other !== undefined) return [other, content];
    seen.set(id, content);
  }
}

test('two contents with equal 31 bits get two ids, whatever their order, and keep them', () => {
  const [left, right] = collidingContents();
  const ids = StableIds.empty();
  ids.begin();
  const both = ids.assign('selector', [left, right]);
  assert.notEqual(both.get(left), both.get(right));
  assert.deepEqual(
    new Map([...StableIds.empty().assign('selector', [right, left])].sort()),
    new Map([...both].sort()),
  );

  // The one that came second keeps its other number when the first one goes, also after a restart.
  const [winner, loser] =
    both.get(left) === StableIds.empty().id('selector', left) ? [left, right] : [right, left];
  let table = ids;
  for (let generation = 0; generation < 3; generation++) {
    table = reload(table);
    table.begin();
    assert.equal(table.id('selector', loser), both.get(loser));
    table.retire();
  }
  assert.equal(table.id('selector', winner), both.get(winner));
});

test('churn never gives a selector id to another pattern', () => {
  const owners = new Map<number, string>();
  let ids = StableIds.empty();
  for (let generation = 0; generation < 60; generation++) {
    ids = generation % 7 === 0 ? reload(ids) : ids.clone();
    ids.begin();
    const contents = Array.from(
      { length: 200 },
      (_, index) => `p${generation * 120 + index}.example.`,
    );
    for (const [content, id] of ids.assign('selector', contents)) {
      assert.equal(owners.get(id) ?? content, content);
      owners.set(id, content);
    }
    ids.retire();
  }
  assert.equal(ids.forgotten, 0);
});

test('a clone does not change its original', () => {
  const ids = StableIds.empty();
  ids.id('class', 'a');
  const before = JSON.stringify(ids.encode());
  const clone = ids.clone();
  clone.begin();
  clone.id('class', 'a');
  clone.id('class', 'b');
  assert.equal(JSON.stringify(ids.encode()), before);
});

test('the table is bounded: the longest unused are forgotten and counted, those in use never', () => {
  const ids = StableIds.empty();
  ids.begin();
  ids.assign(
    'rule',
    Array.from({ length: idsRetiredMax + 10 }, (_, index) => `old ${index}`),
  );
  ids.retire();
  assert.equal(ids.forgotten, 0);
  ids.begin();
  const kept = ids.id('rule', 'old 3');
  ids.retire();
  assert.equal(ids.forgotten, 9);
  assert.equal(ids.encode().kinds.rule.length, idsRetiredMax + 1);
  assert.equal(ids.id('rule', 'old 3'), kept);
});

test('decode refuses what encode did not write', () => {
  const good = StableIds.empty();
  good.begin();
  good.id('policy', 'a');
  good.id('selector', 'a');
  const data = good.encode();
  const withRows = (kind: IdKind, rows: unknown): unknown => ({
    ...data,
    kinds: { ...data.kinds, [kind]: rows },
  });
  const digest = data.kinds.policy[0]?.[0] ?? '';
  const other = 'f'.repeat(32);
  const rows: [name: string, data: unknown][] = [
    ['null', null],
    ['list', []],
    ['version', { ...data, version: 2 }],
    ['generation', { ...data, generation: -1 }],
    ['kinds', { ...data, kinds: 3 }],
    ['missing kind', { ...data, kinds: {} }],
    ['row shape', withRows('policy', [[digest, 5]])],
    ['digest', withRows('policy', [['x', 5, 1]])],
    ['reserved id', withRows('policy', [[digest, 1, 1]])],
    ['id range', withRows('policy', [[digest, 0x80000000, 1]])],
    ['selector bit', withRows('selector', [[digest, 5, 1]])],
    [
      'repeated id',
      withRows('policy', [
        [digest, 5, 1],
        [other, 5, 1],
      ]),
    ],
    [
      'repeated digest',
      withRows('policy', [
        [digest, 5, 1],
        [digest, 6, 1],
      ]),
    ],
    ['newer than the table', withRows('policy', [[digest, 5, 9]])],
  ];
  for (const [name, value] of rows) assert.equal(StableIds.decode(value).ok, false, name);
  const reloaded: StableIdsData = reload(good).encode();
  assert.deepEqual(reloaded, data);
});
