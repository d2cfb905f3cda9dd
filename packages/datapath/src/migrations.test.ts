// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Verdict, verdictDecided } from '@tandem/core/policy/model/kernel-numbers';
import { TD_ABI_VERSION, tdPolicy } from './abi.gen.ts';
import { migrationBetween } from './migrations.ts';

const key = new Uint8Array([1, 2, 3]);

/** Verdict of an entry of `policy` after the way from one version to the other. */
function converted(from: number, to: number, verdict: number): number | undefined {
  const convert = migrationBetween(from, to)?.maps.policy;
  assert.ok(typeof convert === 'function');
  const value = new Uint8Array(tdPolicy.size).fill(7);
  value[tdPolicy.verdict] = verdict;
  const entry = convert({ key, value });
  assert.deepEqual(entry?.key, key);
  const other = [...(entry?.value ?? [])].filter((_, place) => place !== tdPolicy.verdict);
  assert.ok(other.length === tdPolicy.size - 1 && other.every((byte) => byte === 7));
  return entry?.value[tdPolicy.verdict];
}

test('this version has a way to the one before it, and back, of the same maps', () => {
  const down = migrationBetween(TD_ABI_VERSION, TD_ABI_VERSION - 1);
  const up = migrationBetween(TD_ABI_VERSION - 1, TD_ABI_VERSION);
  assert.deepEqual(Object.keys(down?.maps ?? {}), Object.keys(up?.maps ?? {}));
  assert.equal(migrationBetween(TD_ABI_VERSION, TD_ABI_VERSION + 1), null);
});

test('version 1: what is decided is not less strict there than here', () => {
  const { none, allow, deny, l7Dns } = Verdict;
  for (const verdict of [none, allow, deny, l7Dns]) {
    assert.equal(converted(1, 2, verdict), verdict);
    assert.equal(converted(2, 1, verdict), verdict);
  }
  assert.deepEqual(
    [none, allow, l7Dns].map((verdict) => converted(2, 1, verdict | verdictDecided)),
    [deny, allow, l7Dns],
  );
});
