// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { exitCode } from './exit-codes.ts';

const main = fileURLToPath(new URL('main.ts', import.meta.url));
const full = openSync('/dev/full', 'w');
after(() => closeSync(full));

const run = (words: readonly string[], stdout: number | 'pipe', stderr: number | 'pipe') =>
  spawnSync(process.execPath, ['--conditions=@tandem/source', main, ...words], {
    stdio: ['ignore', stdout, stderr],
    encoding: 'utf8',
  });

test('output that a full disk does not take is a failure, said in one line', () => {
  for (const words of [['explain'], ['explain', 'agent-away'], ['--help']]) {
    const { status, stderr } = run(words, full, 'pipe');
    assert.equal(status, exitCode.problem, stderr);
    assert.match(stderr, /^the output cannot be written: ENOSPC[^\n]*\n$/);
  }
});

test('an error that cannot be written keeps its exit code', () => {
  assert.equal(run(['explain', 'nosuch'], 'pipe', full).status, exitCode.usage);
});

test('what stderr does not take ends no output; a full disk under both is a failure', () => {
  const world = fileURLToPath(new URL('process.ts', import.meta.url));
  const program = `
    const { runAsProcess } = await import(${JSON.stringify(world)});
    await runAsProcess(async ({ stdout, stderr, signal }) => {
      stderr.write('a warning\\n');
      await new Promise(setImmediate);
      if (!signal.aborted) stdout.write('an event\\n');
      await new Promise(setImmediate);
      return 0;
    });`;
  const both = (out: number | 'pipe') =>
    spawnSync(
      process.execPath,
      ['--conditions=@tandem/source', '--input-type=module', '-e', program],
      {
        stdio: ['ignore', out, full],
        encoding: 'utf8',
      },
    );
  const { status, stdout } = both('pipe');
  assert.deepEqual([status, stdout], [exitCode.ok, 'an event\n']);
  assert.equal(both(full).status, exitCode.problem);
});
