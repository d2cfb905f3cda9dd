// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cgroup2At, findCgroup2 } from './cgroup.ts';

const v1 = '30 24 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu';
const at = (point: string, root = '/'): string =>
  `42 24 0:39 ${root} ${point} rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate`;

for (const { what, lines, found } of [
  { what: 'cgroup v2 alone', lines: [at('/sys/fs/cgroup')], found: '/sys/fs/cgroup' },
  {
    what: 'cgroup v2 beside v1 (hybrid)',
    lines: [v1, at('/sys/fs/cgroup/unified')],
    found: '/sys/fs/cgroup/unified',
  },
  { what: 'a place of its own', lines: [v1, at('/run/cg\\0402')], found: '/run/cg 2' },
  {
    what: 'two mounts, of which one is of a part of the hierarchy',
    lines: [at('/sys/fs/cgroup', '/system.slice'), at('/run/cgroup2')],
    found: '/run/cgroup2',
  },
  {
    what: 'two mounts, the usual place last',
    lines: [at('/run/cgroup2'), at('/sys/fs/cgroup')],
    found: '/sys/fs/cgroup',
  },
  { what: 'cgroup v1 alone', lines: [v1], found: null },
  { what: 'nothing', lines: [''], found: null },
]) {
  test(`${what}: ${found ?? 'no cgroup v2'}`, () => {
    assert.equal(findCgroup2(lines.join('\n')), found);
  });
}

test('this machine: what is found is a cgroup v2', () => {
  const found = findCgroup2();
  assert.ok(found !== null);
  assert.notEqual(cgroup2At(found), null);
  assert.equal(cgroup2At('/tmp'), null);
  assert.equal(cgroup2At('/absent'), null);
});
