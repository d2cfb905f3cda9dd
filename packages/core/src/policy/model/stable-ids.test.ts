// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { idsRetiredMax } from '../../limits.ts';
import { digest128 } from '../../sha256.ts';
import { type IdKind, idKinds } from './id-rows.ts';
import { StableIds, type StableIdsData } from './stable-ids.ts';

/** The table as it would come back from disk. */
function reload(ids: StableIds): StableIds {
  const decoded = StableIds.decode(JSON.parse(JSON.stringify(ids.encode())));
  assert(decoded.ok);
  return decoded.value;
}

/** The next table, in which these contents are in use and nothing else of the kind. */
function next(ids: StableIds, kind: IdKind, contents: readonly string[]): StableIds {
  const change = ids.change();
  const digests = new Set(contents.map(digest128));
  change.use(kind, digests);
  change.drop(
    kind,
    [...ids.inUse(kind)].filter((digest) => !digests.has(digest)),
  );
  return change.end();
}

const idOf = (ids: StableIds, kind: IdKind, content: string): number | undefined =>
  ids.idOf(kind, digest128(content));

test('ids are content-addressed: the same without a table', () => {
  const first = next(StableIds.empty(), 'policy', ['a', 'b']);
  const second = next(StableIds.empty(), 'policy', ['a']);
  assert.equal(idOf(first, 'policy', 'a'), idOf(second, 'policy', 'a'));
  assert.notEqual(idOf(first, 'policy', 'a'), idOf(first, 'policy', 'b'));
  assert.equal(idOf(second, 'policy', 'b'), undefined);
});

test('every id is in its range', () => {
  const contents = Array.from({ length: 500 }, (_, index) => `content ${index}`);
  for (const kind of idKinds) {
    const ids = next(StableIds.empty(), kind, contents);
    for (const content of contents) {
      const id = idOf(ids, kind, content) ?? 0;
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
    const number = Number.parseInt(digest128(content).slice(0, 8), 16) & 0x7fffffff;
    const other = seen.get(number);
    if (other !== undefined) return [other, content];
    seen.set(number, content);
  }
}

test('two contents with equal 31 bits get two ids, whatever their order, and keep them', () => {
  const [left, right] = collidingContents();
  const ids = next(StableIds.empty(), 'selector', [left, right]);
  const [leftId, rightId] = [idOf(ids, 'selector', left), idOf(ids, 'selector', right)];
  assert.notEqual(leftId, rightId);
  const other = next(StableIds.empty(), 'selector', [right, left]);
  assert.deepEqual(
    [idOf(other, 'selector', left), idOf(other, 'selector', right)],
    [leftId, rightId],
  );

  // The one that came second keeps its other number when the first one goes, also after a restart.
  const isLeftFirst =
    leftId === idOf(next(StableIds.empty(), 'selector', [left]), 'selector', left);
  const [winner, loser] = isLeftFirst ? [left, right] : [right, left];
  const loserId = isLeftFirst ? rightId : leftId;
  let table = ids;
  for (let generation = 0; generation < 3; generation++) {
    table = next(reload(table), 'selector', [loser]);
    assert.equal(idOf(table, 'selector', loser), loserId);
  }
  table = next(table, 'selector', [winner]);
  assert.equal(idOf(table, 'selector', winner), isLeftFirst ? leftId : rightId);
});

test('churn never gives a selector id to another pattern', () => {
  const owners = new Map<number | undefined, string>();
  let ids = StableIds.empty();
  for (let generation = 0; generation < 60; generation++) {
    if (generation % 7 === 0) ids = reload(ids);
    const contents = Array.from(
      { length: 200 },
      (_, index) => `p${generation * 120 + index}.example.`,
    );
    ids = next(ids, 'selector', contents);
    for (const content of contents) {
      const id = idOf(ids, 'selector', content);
      assert.equal(owners.get(id) ?? content, content);
      owners.set(id, content);
    }
  }
  assert.equal(ids.forgotten, 0);
});

test('a change does not change what it began with; one of nothing is no generation', () => {
  const ids = next(StableIds.empty(), 'class', ['a']);
  const before = JSON.stringify(ids.encode());
  const later = next(ids, 'class', ['a', 'b']);
  assert.equal(JSON.stringify(ids.encode()), before);
  assert.notEqual(JSON.stringify(later.encode()), before);
  assert.equal(next(ids, 'class', ['a']), ids);
});

test('the table is bounded: the longest unused are forgotten and counted, those in use never', () => {
  const contents = Array.from({ length: idsRetiredMax + 10 }, (_, index) => `old ${index}`);
  const full = next(StableIds.empty(), 'rule', contents);
  assert.equal(full.forgotten, 0);
  const ids = next(full, 'rule', ['old 3']);
  const kept = idsRetiredMax - (idsRetiredMax >> 3);
  assert.equal(ids.forgotten, idsRetiredMax + 9 - kept);
  assert.equal(ids.encode().kinds.rule.length, kept + 1);
  assert.equal(idOf(ids, 'rule', 'old 3'), idOf(full, 'rule', 'old 3'));
});

test('once ids of a kind were forgotten, no content can be made that gets one of them', () => {
  const ownId = (content: string): number | undefined =>
    idOf(next(StableIds.empty(), 'rule', [content]), 'rule', content);
  const contents = Array.from({ length: idsRetiredMax + 10 }, (_, index) => `old ${index}`);
  const full = next(StableIds.empty('secret'), 'rule', contents);
  assert.equal(idOf(full, 'rule', 'old 0'), ownId('old 0'), 'nothing is forgotten yet');
  const ids = next(full, 'rule', ['kept']);
  assert(ids.forgotten > 0);
  // The file remembers it, and a former process had another salt.
  const decoded = StableIds.decode(JSON.parse(JSON.stringify(ids.encode())), 'other');
  assert(decoded.ok);
  for (const table of [ids, decoded.value]) {
    const later = next(table, 'rule', ['kept', 'new']);
    assert.equal(idOf(later, 'rule', 'kept'), ownId('kept'), 'what has an id keeps it');
    assert.notEqual(idOf(later, 'rule', 'new'), ownId('new'));
    assert.equal(idOf(reload(later), 'rule', 'new'), idOf(later, 'rule', 'new'));
    const ofOthers = next(table, 'selector', ['new']);
    assert.equal(idOf(ofOthers, 'selector', 'new'), (Number(ownId('new')) | 0x80000000) >>> 0);
  }
  assert.notEqual(
    idOf(next(ids, 'rule', ['new']), 'rule', 'new'),
    idOf(next(decoded.value, 'rule', ['new']), 'rule', 'new'),
  );
});

test('what a table has more than an earlier one, as rows of a file, makes the later one again', () => {
  const [left, right] = collidingContents();
  const first = next(StableIds.empty(), 'rule', [left, 'a']);
  const second = next(next(first, 'rule', [right, 'a', 'b']), 'class', ['c']);
  const rows = JSON.parse(JSON.stringify([...second.newSince(first)])) as [unknown, unknown][];
  assert.equal(rows.length, 3);
  const damaged: [unknown, unknown][] = [
    ['rule', 'none'],
    ['nothing', rows[0]?.[1]],
    // Of an id that the table has for something else.
    ['rule', ['f'.repeat(32), idOf(first, 'rule', 'a'), 1]],
  ];
  const again = reload(first).withRows([...damaged, ...rows, ...rows]);
  for (const content of [left, right, 'a', 'b']) {
    assert.equal(idOf(again, 'rule', content), idOf(second, 'rule', content));
  }
  assert.equal(idOf(again, 'class', 'c'), idOf(second, 'class', 'c'));
});

test('decode refuses what encode did not write', () => {
  const good = next(next(StableIds.empty(), 'policy', ['a']), 'selector', ['a']);
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
    ['forgotten', { ...data, forgotten: 3 }],
    ['forgotten of a kind', { ...data, forgotten: { ...data.forgotten, policy: -1 } }],
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
  const ofEarlierVersion = { ...data, forgotten: undefined };
  assert.equal(StableIds.decode(ofEarlierVersion).ok, true);
});
