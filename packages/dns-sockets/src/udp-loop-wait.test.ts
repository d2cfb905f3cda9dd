// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A thread with UDP sockets waits in the addon: what else happens in that thread must not wait for them. */

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { appendEcho, echoLoop, echoPair, openListener } from '../test/echo.ts';
import { until } from '../test/wait.ts';
import { closeFd, localPort } from './fd.ts';
import * as layout from './layout.ts';

/** Far more than any of these takes, far less than for ever. */
const patienceMs = 5000;

describe('while UDP sockets are waited for', { timeout: 4 * patienceMs }, () => {
  test('a timer fires in time when no datagram comes', async () => {
    using loop = echoLoop();
    const fd = openListener();
    loop.add(fd, 'listener');
    closeFd(fd);
    const before = performance.now();
    await delay(30);
    const elapsed = performance.now() - before;
    assert.ok(elapsed >= 29 && elapsed < patienceMs, `${elapsed} ms`);
  });

  test('connections and messages of other threads are served when no datagram comes', async () => {
    using loop = echoLoop();
    const fd = openListener();
    loop.add(fd, 'listener');
    closeFd(fd);
    const server = createServer((socket) => void socket.pipe(socket)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as { port: number }).port, '127.0.0.1');
    const worker = new Worker(
      'const { parentPort } = require("node:worker_threads");' +
        'parentPort.on("message", (message) => parentPort.postMessage(message + 1));',
      { eval: true },
    );
    for (let turn = 0; turn < 20; turn++) {
      client.write('x');
      worker.postMessage(turn);
      // oxlint-disable-next-line no-await-in-loop -- one after the other is what is tested
      const [[echoed], [answer]] = await Promise.all([
        once(client, 'data'),
        once(worker, 'message'),
      ]);
      assert.equal(String(echoed), 'x');
      assert.equal(answer, turn + 1);
    }
    client.destroy();
    server.close();
    await worker.terminate();
  });

  test('an immediate of a batch runs, though nothing else happens', async () => {
    let onImmediate = (): void => undefined;
    const done = new Promise<void>((resolve) => {
      onImmediate = resolve;
    });
    using loop = echoLoop({ onBatch: () => void setImmediate(onImmediate) });
    const [, client] = await echoPair(loop);
    client.send('x');
    await done;
    client.close();
  });

  test('timers, immediates and connections have their turn in a flood', async () => {
    let batches = 0;
    using loop = echoLoop({
      onBatch(handle, count) {
        batches += 1;
        for (let slot = 0; slot < count; slot++) appendEcho(loop, handle, slot);
      },
    });
    // Two listeners that send the same datagrams to each other, without end.
    const fds = [openListener(), openListener()] as const;
    const handles = fds.map((fd) => loop.add(fd, 'listener'));
    const { tx, txBytes, header } = loop;
    for (let i = 0; i < 8; i++) {
      const at = i * layout.RECORD_WORDS;
      tx[at + layout.TX_HANDLE] = handles[0]!;
      tx[at + layout.TX_LENGTH] = 9;
      tx[at + layout.TX_PORT] = localPort(fds[1]);
      txBytes.set(
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1],
        at * 4 + layout.TX_DESTINATION * 4,
      );
    }
    header[layout.HEADER_TX_COUNT] = 8;
    assert.equal(loop.flush(), 8);
    const server = createServer((socket) => void socket.pipe(socket)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as { port: number }).port, '127.0.0.1');
    const before = performance.now();
    for (let turn = 0; turn < 10; turn++) {
      client.write('x');
      // oxlint-disable-next-line no-await-in-loop -- one after the other is what is tested
      await Promise.all([once(client, 'data'), delay(5), new Promise(setImmediate)]);
    }
    assert.ok(performance.now() - before < patienceMs);
    assert.ok(batches > 20, `the flood goes on: ${batches} batches`);
    client.destroy();
    server.close();
    for (const fd of fds) closeFd(fd);
  });

  test('a thread to which no datagram ever comes can be terminated', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-wait-'));
    const worker = new Worker(new URL('../test/echo-worker.ts', import.meta.url), {
      workerData: { end: 'terminate', directory },
    });
    await once(worker, 'message');
    assert.equal(await worker.terminate(), 1);
    rmSync(directory, { recursive: true });
  });

  test('a thread whose last loop is closed in a batch ends', async () => {
    const worker = new Worker(new URL('../test/last-loop-worker.ts', import.meta.url));
    const [code] = await once(worker, 'exit');
    assert.equal(code, 0);
  });
});

describe('a heavy listener', { timeout: 4 * patienceMs }, () => {
  test('gets one batch a wake, after all other sockets that are ready, and is never left out', async () => {
    const batches: { handle: number; count: number }[] = [];
    using loop = echoLoop({ onBatch: (handle, count) => void batches.push({ handle, count }) });
    const [light, heavy] = [openListener(), openListener()];
    const heavyHandle = loop.add(heavy, 'heavy');
    const lightHandle = loop.add(light, 'listener');
    const clients = [heavy, light].map((fd) => {
      const client = createSocket('udp4');
      client.connect(localPort(fd), '127.0.0.1');
      return client;
    });
    await Promise.all(clients.map((client) => once(client, 'connect')));
    // All before this thread waits again. The heavy one is ready first.
    const each = 192;
    for (const client of clients) for (let i = 0; i < each; i++) client.send('x');
    await until(() => batches.reduce((sum, { count }) => sum + count, 0) === 2 * each, 'all');
    const order = batches.map(({ handle }) => (handle === heavyHandle ? 'heavy' : 'light'));
    assert.deepEqual(order, ['light', 'light', 'heavy', 'light', 'heavy', 'heavy']);
    assert.ok(batches.every(({ count }) => count === loop.slots));
    assert.deepEqual(loop.memory(lightHandle), { queuedBytes: 0, drops: 0 });
    assert.ok(loop.remove(lightHandle));
    assert.equal(loop.memory(lightHandle), null);
    for (const client of clients) client.close();
    for (const fd of [light, heavy]) closeFd(fd);
  });
});
