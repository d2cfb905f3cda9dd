// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The policies that people copy: `tandem policy validate` finds nothing to say about them, and their page names each. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readFiles } from './read-files.ts';
import { validateObjects } from './validate-objects.ts';

const directory = fileURLToPath(new URL('../../../../examples', import.meta.url));
const files = readdirSync(directory).filter((name) => name.endsWith('.yaml'));

for (const name of files) {
  test(name, () => {
    const { findings, policies } = validateObjects(readFiles(join(directory, name)));
    assert.deepEqual(findings, []);
    assert.ok(policies > 0);
    assert.match(readFileSync(join(directory, 'README.md'), 'utf8'), new RegExp(`\\(${name}\\)`));
  });
}

test('all together, as in one cluster', () => {
  assert.ok(files.length >= 8);
  assert.deepEqual(validateObjects(readFiles(directory)).findings, []);
});
