// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { generate } from '../scripts/generate.ts';

const committedDirectory = fileURLToPath(new URL('./gen/', import.meta.url));

test('the committed code is what the .proto files generate', () => {
  const directory = mkdtempSync(join(tmpdir(), `tandem-proto-test-${process.pid}-`));
  try {
    generate(directory);
    assert.deepEqual(readdirSync(directory).toSorted(), readdirSync(committedDirectory).toSorted());
    for (const file of readdirSync(directory)) {
      const isFresh =
        readFileSync(join(directory, file), 'utf8') ===
        readFileSync(join(committedDirectory, file), 'utf8');
      assert.ok(isFresh, `${file} is stale: run pnpm --filter @tandem/proto generate`);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('the types are there, with the comments of the .proto files', () => {
  const types = readFileSync(join(committedDirectory, 'tandem.d.ts'), 'utf8');
  assert.match(types, /export namespace tandem/);
  assert.match(types, /CLOCK_BOOTTIME, seconds; the same clock for both processes of a node\./);
  assert.doesNotMatch(types, /\bLong\b/);
});
