// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isProcessAlive, run, startProcess, tryRun } from './process.ts';
import { waitFor } from './wait.ts';

test('run returns output, and fails with it', async () => {
  assert.equal((await run('cat', [], { input: 'in and out' })).stdout, 'in and out');
  await assert.rejects(run('sh', ['-c', 'echo why >&2; exit 3']), /status 3: why/);
  assert.equal((await tryRun('sh', ['-c', 'exit 3'])).status, 3);
});

test('run is bounded', async () => {
  await assert.rejects(run('sleep', ['60'], { timeoutMs: 50 }), /SIGKILL/);
});

test('a command that does not exist is an error', async () => {
  await assert.rejects(run('no-such-command', []), /no-such-command/);
});

test('stop ends what ignores SIGTERM', async () => {
  const script = 'trap "" TERM; echo ready; while :; do sleep 0.05; done';
  await using child = startProcess('sh', ['-c', script]);
  await waitFor(() => child.stdout().includes('ready'), { what: 'the child' });
  await child.stop();
  assert.equal(isProcessAlive(child.pid), false);
  await child.stop();
});

test('waitFor returns the value, or says what it waited for and why', async () => {
  let calls = 0;
  const value = await waitFor(() => (++calls === 3 ? 'third' : undefined), { what: 'three calls' });
  assert.equal(value, 'third');
  const failing = waitFor(() => Promise.reject(new Error('still not')), {
    what: 'it',
    timeoutMs: 20,
  });
  await assert.rejects(failing, (error: Error) => {
    assert.match(error.message, /waited \d+ ms for it/);
    assert.match(String(error.cause), /still not/);
    return true;
  });
});
