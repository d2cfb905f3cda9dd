// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A mutation names a line by its text, and files by their paths: moved code is found here, not by a run of hours. */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mutations } from './mutations.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('the text of each mutation is once in its file, is changed, and its tests are there', () => {
  assert.ok(mutations.length > 50, `${mutations.length}`);
  const astray = mutations.flatMap(({ what, file, find, replace, tests }) => {
    const count = readFileSync(`${root}${file}`, 'utf8').split(find).length - 1;
    const absent = tests.filter((each) => !existsSync(`${root}${each}`));
    if (count === 1 && find !== replace && tests.length > 0 && absent.length === 0) return [];
    return [`${what}: ${count} times in ${file}, ${tests.length} tests, absent: ${absent.join()}`];
  });
  assert.deepEqual(astray, []);
});
