// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The server of probes, asked by the program that kubelet starts. Needs a built checkout. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Logger } from './log.ts';
import { type ProbeAnswer, ProbeServer } from './probe-server.ts';

const probe = fileURLToPath(new URL('../../pod-programs/build/tandem-probe', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'tandem-probe-'));
/** In a directory that the server makes: in an emptyDir everybody may write. */
const path = join(directory, 'own', 'probe.sock');
const log = { error: () => undefined } as unknown as Logger;

const answers: Record<string, ProbeAnswer> = {
  livez: { isOk: true, text: 'serving' },
  readyz: { isOk: false, text: 'starting: no policy is in force' },
};
const server = new ProbeServer(path, (question) => answers[question] as ProbeAnswer, log);
before(() => server.start());
after(async () => {
  await server.stop();
  rmSync(directory, { recursive: true });
});

async function ask(
  ...args: readonly string[]
): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = spawn(probe, args);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (bytes: Buffer) => {
    stdout += bytes.toString();
  });
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  const [status] = (await once(child, 'close')) as [number];
  return { status, stdout, stderr };
}

test('the probe prints the answer, and its exit code is the answer', async () => {
  assert.deepEqual(await ask(path, 'livez'), { status: 0, stdout: 'ok serving\n', stderr: '' });
  assert.deepEqual(await ask(path, 'readyz'), {
    status: 1,
    stdout: 'no starting: no policy is in force\n',
    stderr: '',
  });
});

test('a long answer is cut', async () => {
  answers['livez'] = { isOk: true, text: 'x'.repeat(5000) };
  const { status, stdout } = await ask(path, 'livez');
  assert.equal(status, 0);
  assert.equal(stdout.length, 1001);
});

test('only its own user reaches the socket', () => {
  assert.equal(statSync(path).mode & 0o007, 0);
  assert.equal(statSync(join(directory, 'own')).mode & 0o007, 0);
});

test('nobody there, nobody who answers, and a wrong question are failures', async () => {
  const absent = await ask(join(directory, 'absent'), 'livez');
  assert.equal(absent.status, 1);
  assert.match(absent.stderr, /No such file/);
  const silent = net.createServer(() => undefined);
  const silentPath = join(directory, 'silent');
  silent.listen(silentPath);
  await once(silent, 'listening');
  const started = performance.now();
  assert.equal((await ask(silentPath, 'livez')).status, 1);
  assert.ok(performance.now() - started >= 900, 'it waits a second');
  silent.close();
  assert.equal((await ask(path, 'other')).status, 2);
  assert.equal((await ask(path)).status, 2);
});

test('a client that asks for what it likes is answered and left', async () => {
  for (const text of ['metrics\n', 'y'.repeat(1000)]) {
    const socket = net.connect(path);
    socket.write(text);
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    assert.match(bytes.toString(), /^no ask livez or readyz/);
    await once(socket, 'close');
  }
});
