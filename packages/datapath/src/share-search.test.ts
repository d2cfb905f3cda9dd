// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { shareSearch, unshareSearch } from './pins.ts';

const gid = 65_532;
// As tests of the loader name what they make in bpffs: ./run test looks for what is left of them.
const directory = `/sys/fs/bpf/tandem-loader-test-${process.pid}`;
const root = join(directory, 'inner', 'node');
const states = (): readonly string[] =>
  [directory, dirname(root)].map((path) => {
    const { mode, gid: group } = statSync(path);
    return `${(mode & 0o7777).toString(8)} ${group}`;
  });

beforeEach(() => mkdirSync(root, { recursive: true }));
afterEach(() => rmSync(directory, { recursive: true }));

test('the right to search directories that only root may enter is given, and taken back', () => {
  for (const path of [directory, dirname(root)]) chmodSync(path, 0o700);
  shareSearch(root, gid);
  assert.deepEqual(states(), [`710 ${gid}`, `710 ${gid}`]);
  rmSync(root, { recursive: true });
  unshareSearch(root, gid);
  assert.deepEqual(states(), ['700 0', '700 0']);
});

test('directories that all may enter, and those that another group may, are left as they are', () => {
  chmodSync(directory, 0o755);
  chmodSync(dirname(root), 0o750);
  chownSync(dirname(root), 0, 7);
  const before = states();
  shareSearch(root, gid);
  assert.deepEqual(states(), before);
  unshareSearch(root, gid);
  assert.deepEqual(states(), before);
});
