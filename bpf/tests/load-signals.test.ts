// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A signal that is pending makes the kernel's verifier give up: a profiler sends one every moment. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const directory = fileURLToPath(new URL('..', import.meta.url));
const script = fileURLToPath(new URL('./load-process.ts', import.meta.url));

test('the programs load in a process that is being profiled', (t) => {
  execFileSync('make', ['-s', 'all'], { cwd: directory });
  const profiles = mkdtempSync(join(tmpdir(), 'tandem-profile-'));
  t.after(() => rmSync(profiles, { recursive: true }));
  const profiler = ['--cpu-prof', '--cpu-prof-interval=1000', `--cpu-prof-dir=${profiles}`];
  const args = [...process.execArgv, ...profiler, script, `${directory}build/tandem.bpf.o`];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.equal(stdout, 'loaded\n');
  assert.equal(readdirSync(profiles).length, 1, 'it was profiled');
});
