// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { appendEcho, echoLoop, echoPair, openListener } from '../test/echo.ts';
import { until } from '../test/wait.ts';
import { closeFd, localPort } from './fd.ts';
import * as layout from './layout.ts';
import type { UdpLoop } from './udp-loop.ts';
import { createUpstreamUdp } from './upstream.ts';

const { RECORD_WORDS, HEADER_TX_COUNT } = layout;
const { ECONNREFUSED } = constants.errno;
const loopback4 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1);

test('ECONNREFUSED is reported from receiving and from sending, once per wake', async () => {
  const dead = openListener();
  const port = localPort(dead);
  closeFd(dead);
  const errors: [handle: number, errno: number][] = [];
  using loop = echoLoop({
    onSocketError: (handle, errno) => void errors.push([handle, errno]),
  });
  const fd = createUpstreamUdp({ address: loopback4, port });
  const handle = loop.add(fd, 'connected');
  closeFd(fd);
  const send = (count: number): number => {
    for (let i = 0; i < count; i++) {
      loop.tx[i * RECORD_WORDS + layout.TX_HANDLE] = handle;
      loop.tx[i * RECORD_WORDS + layout.TX_LENGTH] = 5;
    }
    loop.header[HEADER_TX_COUNT] = count;
    return loop.flush();
  };
  assert.equal(send(1), 1);
  await until(() => errors.length === 1, 'the wake reported it');
  // Loopback answers within the send: the next datagram of the socket meets the error, and the
  // datagram itself still goes out.
  assert.equal(send(1), 1);
  assert.equal(send(1), 1);
  assert.equal(errors.length, 2);
  for (const error of errors) assert.deepEqual(error, [handle, ECONNREFUSED]);
  // The poll that libuv stopped on the error is back.
  const reported = errors.length;
  await until(() => errors.length > reported, 'the last error woke the loop');
  assert.equal(loop.stats().sendFailed, 0);
});

test('onSocketError may send, remove and close', async () => {
  const dead = openListener();
  const port = localPort(dead);
  closeFd(dead);
  let calls = 0;
  const loop: UdpLoop = echoLoop({
    onSocketError(handle) {
      calls += 1;
      if (calls === 1) {
        loop.tx[layout.TX_HANDLE] = handle;
        loop.header[HEADER_TX_COUNT] = 1;
        loop.flush();
        loop.header[HEADER_TX_COUNT] = 1;
        return;
      }
      assert.equal(loop.remove(handle), true);
      loop.close();
    },
  });
  const fd = createUpstreamUdp({ address: loopback4, port });
  loop.tx[layout.TX_HANDLE] = loop.add(fd, 'connected');
  closeFd(fd);
  loop.header[HEADER_TX_COUNT] = 1;
  assert.equal(loop.flush(), 1);
  await until(() => calls === 2, 'the second error is reported');
});

test('remove and close within onBatch', async () => {
  for (const act of ['remove', 'close'] as const) {
    let batches = 0;
    const loop: UdpLoop = echoLoop({
      slots: 1,
      onBatch(handle) {
        batches += 1;
        appendEcho(loop, handle, 0);
        if (act === 'remove') assert.equal(loop.remove(handle), true);
        else loop.close();
      },
    });
    const [, client] = await echoPair(loop);
    client.on('error', () => {}); // ECONNREFUSED: the listener is gone
    for (let i = 0; i < 8; i++) client.send('x');
    await until(() => batches === 1, 'the first batch came');
    if (act === 'remove') {
      assert.equal(loop.stats().sockets, 0);
      assert.equal(loop.stats().sendRejected, 1);
      loop.close();
    }
    assert.throws(() => loop.flush(), { errnoName: 'EBADF' });
    assert.throws(() => loop.stats(), { errnoName: 'EBADF' });
    client.close();
  }
});

test('a detached buffer stops the loop with an error, not with a write', async () => {
  const buffer = new ArrayBuffer(64 * 512);
  using loop = echoLoop({ buffer: new Uint8Array(buffer) });
  const [, client] = await echoPair(loop);
  structuredClone(buffer, { transfer: [buffer] });
  assert.throws(() => loop.flush(), { code: 'TANDEM_SOCKET_DETACHED' });
  const failure = once(process, 'uncaughtException');
  // node:test listens too, and would fail the test.
  const others = process.listeners('uncaughtException');
  for (const other of others.slice(0, -1)) process.removeListener('uncaughtException', other);
  client.send('x');
  const [error] = await failure;
  for (const other of others.slice(0, -1)) process.on('uncaughtException', other);
  assert.equal(error.code, 'TANDEM_SOCKET_DETACHED');
  client.close();
});

test('loops that were closed give their memory back', async () => {
  const open = (count: number): void => {
    for (let i = 0; i < count; i++) {
      const loop = echoLoop();
      const fd = openListener();
      loop.add(fd, 'listener');
      closeFd(fd);
      loop.close();
    }
  };
  for (let i = 0; i < 10; i++, await setImmediate()) open(20);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 40; i++, await setImmediate()) open(20);
  // 800 loops of about 190 KiB each, were they kept.
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  assert.ok(grown < 60, `${grown} MiB more`);
});

test('an exception in onBatch is an uncaught exception, and a handler keeps the process', () => {
  const run = (handled: boolean): ReturnType<typeof spawnSync> =>
    spawnSync(
      process.execPath,
      [
        '--conditions=@tandem/source',
        new URL('../test/throwing-batch.ts', import.meta.url).pathname,
        handled ? 'handled' : 'unhandled',
      ],
      { encoding: 'utf8', timeout: 20_000 },
    );
  const unhandled = run(false);
  assert.equal(unhandled.status, 1, `${unhandled.stderr}`);
  assert.match(String(unhandled.stderr), /batch refused/);
  const handled = run(true);
  assert.equal(handled.status, 0, `${handled.stderr}`);
  assert.equal(
    String(handled.stdout),
    'caught batch refused; answered 0\ncaught batch refused; answered 0\n',
  );
});
