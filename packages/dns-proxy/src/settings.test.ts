// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type MemberSettings, markOf, settingsDegradations, settingsProblem } from './settings.ts';

const inForce = { port: 10_053, mark: 0x40, ownerUid: 65_532 };
const own: MemberSettings = { ...inForce, mark: 'auto' };

const rows: readonly (readonly [string, MemberSettings, string])[] = [
  ['auto follows', own, ''],
  ['the same mark', inForce, ''],
  ['another mark', { ...own, mark: 0x1000 }, 'mark is 0x1000 here and 0x40 in the loaded programs'],
  ['another port', { ...own, port: 53 }, 'port is 53 here and 10053 in the loaded programs'],
  [
    'another uid and mark',
    { ...own, mark: 0x20, ownerUid: 1 },
    'mark is 0x20 here and 0x40 in the loaded programs; proxyUid is 1 here and 65532 in the loaded programs',
  ],
];

for (const [what, wanted, problem] of rows) {
  test(`settings beside those in force: ${what}`, () => {
    assert.equal(settingsProblem(wanted, inForce), problem);
    const degradations = settingsDegradations(wanted, inForce);
    assert.equal(degradations.length, problem === '' ? 0 : 1);
  });
}

test('programs that do not say what they were loaded with differ from nothing', () => {
  assert.equal(settingsProblem({ ...own, mark: 0x20 }, null), '');
  assert.deepEqual([markOf(own, null), markOf(own, inForce)], [0x1000, 0x40]);
  assert.equal(markOf({ ...own, mark: 0x20 }, inForce), 0x20);
});
