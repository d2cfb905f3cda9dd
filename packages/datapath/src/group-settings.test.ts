// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdGroup } from './abi.gen.ts';
import { NodeGroup } from './group.ts';

const settings = { mark: 0x40, port: 10_053, ownerUid: 65_532 };

test('settings are read as they were announced, and each time members are told to look', () => {
  const group = new NodeGroup(new ArrayBuffer(tdGroup.size));
  assert.equal(group.settings, null, 'before the first load');
  group.announceLoad(1, settings);
  assert.deepEqual(group.settings, settings);
  group.announceLoad(1, { ...settings, mark: 0x20 });
  assert.deepEqual(group.settings, { ...settings, mark: 0x20 });
  assert.equal(group.loads, 2);
});

test('an agent of a version that does not announce them makes those of its predecessor void', () => {
  const memory = new ArrayBuffer(tdGroup.size);
  const group = new NodeGroup(memory);
  group.announceLoad(1, settings);
  Atomics.add(new Uint32Array(memory), tdGroup.loads / 4, 1);
  assert.equal(group.settings, null);
});
