// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The branches for kernels without the newer fields (before 6.8, before 6.10), on this one: the object is built as if
 * the fields were not there. Kernels that are really older: ./run test --kernels.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BpfObject } from '@tandem/bpf-loader-node/object';

const directory = fileURLToPath(new URL('..', import.meta.url));

test('the verifier accepts the programs with the branches for older kernels', () => {
  execFileSync('make', ['-s', 'older-object'], { cwd: directory });
  using object = BpfObject.open(`${directory}build/test/older.bpf.o`);
  object.load();
  for (const { name } of object.programs()) {
    assert.ok(object.program(name).info().verifiedInstructions > 0, name);
  }
});
