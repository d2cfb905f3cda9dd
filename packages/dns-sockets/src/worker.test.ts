// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { echoLoop } from '../test/echo.ts';
import { openSockets, until } from '../test/wait.ts';

const workerUrl = new URL('../test/echo-worker.ts', import.meta.url);

describe('worker threads', () => {
  let directory = '';
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'tandem-worker-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  async function start(end: string): Promise<[Worker, port: number]> {
    const worker = new Worker(workerUrl, { workerData: { end, directory } });
    const [port] = await once(worker, 'message');
    return [worker, port as number];
  }

  const ends = ['return', 'exit', 'throw', 'terminate'];
  for (const end of [...ends, ...ends.slice(1).map((name) => `${name} in a batch`)]) {
    test(`a worker under load that ends by ${end} leaves no descriptor`, async () => {
      using main = echoLoop(); // the main thread's instance lives through it
      assert.equal(main.stats().sockets, 0);
      const socketsBefore = openSockets();
      for (let round = 0; round < 2; round++) {
        const workers = await Promise.all([start(end), start(end)]);
        const client = createSocket('udp4');
        let answers = 0;
        client.on('message', () => void (answers += 1));
        const feed = (): void => {
          for (const [, port] of workers) client.send('x', port, '127.0.0.1');
        };
        feed();
        await until(() => answers >= 2, 'both workers answer');
        const load = setInterval(feed, 0);
        const exits = workers.map(([worker]) => {
          const exit = new Promise((resolve) => worker.once('exit', resolve));
          worker.on('error', (error: Error) => assert.equal(error.message, 'worker threw'));
          worker.on('message', (message) => {
            if (message === 'busy') void worker.terminate();
          });
          if (end === 'terminate') void worker.terminate();
          else worker.postMessage('end');
          return exit;
        });
        await Promise.all(exits);
        clearInterval(load);
        client.close();
        await once(client, 'close');
      }
      await until(() => openSockets() === socketsBefore, 'every socket is closed');
      const left = readdirSync(directory).flatMap((name) => readdirSync(join(directory, name)));
      assert.deepEqual(left, [], 'no path of a unix listener is left');
    });
  }
});

/** Each ends a process at another stage of the addon's life; none may crash or hang. */
const endings: readonly string[] = [
  '',
  'loop.add(fd, "listener");',
  'loop.add(fd, "listener"); loop.close(); closeFd(fd); process.exit(7);',
  'loop.add(fd, "listener"); process.exit(7);',
  'loop.remove(loop.add(fd, "listener")); process.exit(7);',
  'closeFd(fd); process.exit(7);',
  'loop.add(fd, "listener"); process.on("exit", () => { loop.close(); closeFd(fd); }); process.exit(7);',
  'loop.add(fd, "listener"); process.kill(process.pid, "SIGTERM");',
  'loop.add(fd, "listener"); setImmediate(() => { throw new Error("end"); });',
  'loop.add(fd, "listener"); setImmediate(() => { loop.close(); gc(); gc(); });',
];

test('a process may end at any stage', () => {
  const loopUrl = new URL('../test/echo.ts', import.meta.url).href;
  const fdUrl = new URL('./fd.ts', import.meta.url).href;
  const listenerUrl = new URL('./listener.ts', import.meta.url).href;
  for (const ending of endings) {
    const script = `
      import { echoLoop } from '${loopUrl}';
      import { closeFd } from '${fdUrl}';
      import { createListener } from '${listenerUrl}';
      const loop = echoLoop();
      const fd = createListener({ family: 4, protocol: 'udp', port: 0, mark: 0, markMask: 0, redirectMark: 0 });
      setTimeout(() => process.exit(7), 50);
      ${ending}`;
    const result = spawnSync(
      process.execPath,
      ['--conditions=@tandem/source', '--expose-gc', '--input-type=module', '-e', script],
      { encoding: 'utf8', timeout: 20_000 },
    );
    const expected = ending.includes('SIGTERM') ? 'SIGTERM' : ending.includes('throw') ? 1 : 7;
    assert.equal(result.status ?? result.signal, expected, `${ending}\n${result.stderr}`);
  }
});
