// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sandboxesMax } from './limits.ts';
import { type Sandbox, Sandboxes } from './sandboxes.ts';

const sandbox = (uid: string, containerId: string, podKey = 'shop/web-0'): Sandbox => ({
  ...{ podKey, uid, containerId, addresses: [], interfaceName: null },
});
const idOf = (sandboxes: Sandboxes, uid: string): string | undefined =>
  sandboxes.of('shop/web-0', uid)?.containerId;

test('a pod has its sandbox while that of a former pod of its name ends, in whatever order they are read', () => {
  // The files of the result cache, which an agent reads when it starts, have no order of time.
  for (const order of [['old', 'new'] as const, ['new', 'old'] as const]) {
    const sandboxes = new Sandboxes(() => undefined);
    for (const uid of order) sandboxes.add(sandbox(uid, `of-${uid}`));
    assert.equal(idOf(sandboxes, 'new'), 'of-new', order.join());
    sandboxes.remove('shop/web-0', 'of-old');
    assert.deepEqual([idOf(sandboxes, 'new'), idOf(sandboxes, 'old')], ['of-new', undefined]);
    assert.equal(sandboxes.size, 1);
  }
});

test('a pod has one sandbox at a time, the last', () => {
  let changes = 0;
  const sandboxes = new Sandboxes(() => (changes += 1));
  for (const id of ['one', 'two']) sandboxes.add(sandbox('a', id));
  assert.deepEqual([idOf(sandboxes, 'a'), idOf(sandboxes, ''), sandboxes.size], ['two', 'two', 1]);
  sandboxes.remove('shop/web-0', 'one');
  assert.deepEqual([sandboxes.size, changes], [1, 2], 'a late DEL changes nothing');
  // A runtime that gives no uid.
  sandboxes.add(sandbox('', 'three'));
  assert.deepEqual([idOf(sandboxes, 'a'), idOf(sandboxes, 'b')], ['three', 'three']);
  sandboxes.podGone('shop/web-0', ['a']);
  assert.equal(sandboxes.size, 1);
  sandboxes.remove('shop/web-0', 'three');
  assert.deepEqual(sandboxes.counters, { added: 3, removed: 1, refused: 0 });
  assert.equal(sandboxes.size, 0);
});

test('with the last room taken a sandbox takes the place of its pod’s alone', () => {
  const sandboxes = new Sandboxes(() => undefined);
  for (let i = 0; i < sandboxesMax; i++) sandboxes.add(sandbox('a', 'one', `shop/web-${i}`));
  assert.equal(sandboxes.add(sandbox('a', 'two')), true);
  assert.equal(sandboxes.add(sandbox('b', 'three')), false);
  assert.equal(sandboxes.add(sandbox('a', 'one', 'shop/other')), false);
  assert.deepEqual([sandboxes.size, sandboxes.counters.refused], [sandboxesMax, 2]);
});
