// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { after, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { closeFd } from './fd.ts';
import { armFence, fireFence } from './fence.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-fence-'));
after(() => rmSync(directory, { recursive: true }));

const program = new URL('../test/fenced-process.ts', import.meta.url).pathname;
const nodeArguments = ['--conditions=@tandem/source', program];
let pipes = 0;
const newPath = (): string => join(directory, `pipe-${++pipes}`);

type Fenced = ChildProcessByStdio<null, Readable, null>;

async function startFenced(
  path: string,
  way: string,
  wrap: readonly string[] = [],
): Promise<Fenced> {
  const [command = '', ...args] = [...wrap, process.execPath, ...nodeArguments, path, way];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

for (const way of ['stopped', 'busy', 'idle']) {
  test(`a process that is ${way} is killed`, async () => {
    const path = newPath();
    const child = await startFenced(path, way);
    const exited = once(child, 'exit');
    assert.equal(fireFence(path), true);
    assert.deepEqual(await exited, [null, 'SIGKILL']);
    assert.equal(fireFence(path), false, 'nobody is there any more');
  });
}

test('only writing kills: a process that opens the pipe, reads it in vain and closes it does not', async () => {
  const path = newPath();
  const child = await startFenced(path, 'idle');
  const exited = once(child, 'exit');
  for (const way of [constants.O_RDONLY, constants.O_WRONLY, constants.O_RDWR]) {
    const fd = openSync(path, way | constants.O_NONBLOCK);
    if (way !== constants.O_WRONLY) {
      assert.throws(() => readSync(fd, Buffer.alloc(1)), { code: 'EAGAIN' });
    }
    closeSync(fd);
  }
  const stillThere = Promise.race([exited, delay(300, 'alive')]);
  assert.equal(await stillThere, 'alive');
  assert.equal(fireFence(path), true);
  assert.deepEqual(await exited, [null, 'SIGKILL']);
});

test('a process that has armed a pipe ends with the code that it wants, whatever it has closed before', async () => {
  for (const way of ['exit', 'exit-after-others']) {
    // oxlint-disable-next-line no-await-in-loop -- two processes
    const child = await startFenced(newPath(), way);
    // oxlint-disable-next-line no-await-in-loop -- as above
    assert.deepEqual(await once(child, 'exit'), [7, null], way);
  }
});

test('the writer may be in another PID namespace, the killed one in a third', async () => {
  const path = newPath();
  // Not process 1 of its own: that one is the shell.
  const command = `"$@" & wait $!; test $? = 137`;
  const child = await startFenced(path, 'stopped', [
    ...['unshare', '--pid', '--fork', '--kill-child', 'sh', '-c', command, 'sh'],
  ]);
  const exited = once(child, 'exit');
  const source = `import { fireFence } from '${new URL('./fence.ts', import.meta.url).href}'; process.exit(fireFence(${JSON.stringify(path)}) ? 0 : 1);`;
  const fired = spawnSync('unshare', [
    ...['--pid', '--fork', process.execPath, '--conditions=@tandem/source'],
    ...['--input-type=module-typescript', '-e', source],
  ]);
  assert.equal(fired.status, 0, String(fired.stderr));
  assert.deepEqual(await exited, [0, null]);
});

test('the pipe is for its owner alone, and is not taken over from others', () => {
  const path = newPath();
  const fd = armFence(path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.throws(() => armFence(path), { errnoName: 'EEXIST' });
  closeFd(fd);
  assert.equal(fireFence(path), false, 'not armed any more');
});

test('nothing is written into what is no pipe', () => {
  assert.equal(fireFence(newPath()), false);
  const file = newPath();
  writeFileSync(file, '');
  assert.equal(fireFence(file), false);
  assert.equal(statSync(file).size, 0);
});
