// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { PathLock } from './lock.ts';

test('one holder at a time; who asks for a holder is none', () => {
  const path = mkdtempSync(join(tmpdir(), 'tandem-lock-'));
  try {
    assert.equal(PathLock.isHeld(path), false);
    {
      using _held = PathLock.tryTake(path);
      assert.equal(PathLock.tryTake(path), null);
      assert.equal(PathLock.isHeld(path), true);
    }
    assert.equal(PathLock.isHeld(path), false, 'given back');
    // As when two processes ask at the same moment.
    using _asking = PathLock.tryTake(path, 'shared');
    assert.equal(PathLock.isHeld(path), false);
  } finally {
    rmSync(path, { recursive: true });
  }
});
