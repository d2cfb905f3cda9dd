// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The part of scripts/setup.sh that is for images. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { architectures, inputsOf, lockPath, parseLock } from './lock.ts';
import { inputCache, machineArchitecture } from './machine.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const lock = parseLock(readFileSync(join(root, lockPath), 'utf8'));
const machine = machineArchitecture();
const other = architectures.find((each) => each !== machine) ?? machine;

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'tandem-setup-test-'));
});
afterEach(() => rmSync(base, { recursive: true }));

/** Whether a command makes sure of npm, where the Node.js of one architecture is in the cache. */
function needsNpm(command: readonly string[], cached = machine): boolean {
  const cache = inputCache(base);
  mkdirSync(cache, { recursive: true });
  for (const { sha256 } of inputsOf(lock, 'node', cached)) writeFileSync(join(cache, sha256), '');
  const script =
    'set -euo pipefail; source scripts/setup.sh; need_npm() { echo needed; }; need_npm_for_images "$@"';
  return (
    execFileSync('bash', ['-c', script, 'setup', ...command], {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, XDG_CACHE_HOME: base },
    }) !== ''
  );
}

test('npm is not needed where Node.js of the images is in the cache: a machine may be offline', () => {
  assert.equal(needsNpm(['test', '--full']), false);
  assert.equal(needsNpm(['images', '--output', 'x']), false);
  assert.equal(needsNpm(['images', '--arch', machine]), false);
});

test('npm is needed for Node.js of another architecture, and for a new lock', () => {
  assert.equal(needsNpm(['images', '--arch', other]), true);
  assert.equal(needsNpm(['images', `--arch=${other}`]), true);
  assert.equal(needsNpm(['images', '--update-lock']), true);
});

test('npm is needed where only Node.js of another architecture is in the cache', () => {
  assert.equal(needsNpm(['images'], other), true);
  assert.equal(needsNpm(['images', `--arch=${other}`], other), false);
});
