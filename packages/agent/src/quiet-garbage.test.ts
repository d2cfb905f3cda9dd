// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { garbageGrowthBytesMin, garbageQuietLooks } from './limits.ts';
import { QuietGarbage } from './quiet-garbage.ts';

test('memory is given back once after changes, when it is quiet and enough has grown', () => {
  let rss = 100 << 20;
  let collected = 0;
  const garbage = new QuietGarbage({
    rss: () => rss,
    collect: () => {
      collected += 1;
      rss = 100 << 20;
    },
  });
  let applied = 0;
  const changes = (grown: number): void => {
    for (let i = 0; i < 20; i++) garbage.look(++applied);
    rss += grown;
  };
  const quiet = (): void => {
    for (let i = 0; i < 3 * garbageQuietLooks; i++) garbage.look(applied);
  };
  changes(0);
  assert.equal(collected, 0, 'not while there are changes');
  quiet();
  assert.equal(collected, 1);
  changes(garbageGrowthBytesMin - 1);
  quiet();
  assert.equal(collected, 1, 'not for little');
  changes(1);
  quiet();
  assert.equal(collected, 2);
});
