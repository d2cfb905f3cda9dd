// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { tryRun } from '@tandem/testing/process';

test('abi.gen.ts is what abi.h says', async () => {
  const script = fileURLToPath(new URL('../scripts/generate-abi.ts', import.meta.url));
  const args = ['--conditions=@tandem/source', script, '--check'];
  const { status, stderr } = await tryRun(process.execPath, args, { timeoutMs: 60_000 });
  assert.equal(status, 0, stderr);
});
