// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A mutation names a line by its text: moved code is found here in a second, not by the simulator in minutes. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mutations } from './mutations.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('the text of each mutation is once in its file', () => {
  const astray = mutations.flatMap(({ name, file, find }) => {
    const count = readFileSync(`${root}${file}`, 'utf8').split(find).length - 1;
    return count === 1 ? [] : [`${name}: ${count} times in ${file}`];
  });
  assert.deepEqual(astray, []);
});
