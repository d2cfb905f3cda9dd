// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SyncMessage, SyncMessageInit } from '@tandem/proto/gen/messages';
import { SyncService } from '@tandem/proto/gen/services';
import { runScript, type ScriptChild } from '../test/child-process.ts';
import { temporaryDirectory } from '../test/temporary-directory.ts';
import { waitUntil } from '../test/wait-until.ts';
import { GrpcServer } from './grpc-server.ts';
import { silentLogger } from './log.ts';
import {
  PersistentStream,
  reconnectDelayMaxMs,
  reconnectDelayMinMs,
  reconnectDelayMs,
} from './persistent-stream.ts';

/** A Sync server in a child process: answers each hello with one, whose epoch is `life`. */
function serverChild(path: string, life: number): ScriptChild {
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  return runScript(`
    const { GrpcServer } = await import(${url('./grpc-server.ts')});
    const { silentLogger } = await import(${url('./log.ts')});
    const { SyncService } = await import(${url('../../proto/src/gen/services.ts')});
    const server = new GrpcServer({
      path: ${JSON.stringify(path)}, allowedUids: [process.getuid()], log: silentLogger() });
    server.addService(SyncService, {
      policy: (call) => call.end(),
      exchange: (call) => call.on('data', (message) => {
        if (message.kind === 'hello') call.write({ hello: { epoch: ${life} } });
        else call.end();
      }),
    });
    await server.start();
    console.log('listening');`);
}

interface Recorded {
  /** gRPC streams that were begun. */
  readonly begun: () => number;
  readonly stream: PersistentStream<SyncMessageInit, SyncMessage>;
  readonly epochs: number[];
  readonly ends: string[];
}

function record(path: string, keepaliveMs: number = 5000): Recorded {
  const epochs: number[] = [];
  const ends: string[] = [];
  let begun = 0;
  const stream = new PersistentStream<SyncMessageInit, SyncMessage>({
    path,
    keepaliveMs,
    method: SyncService.exchange,
    log: silentLogger(),
    random: () => 0.999,
    handler: {
      onConnect: (link) => {
        begun += 1;
        link.send({ hello: { member: 1 } });
      },
      onMessage: (message) => {
        epochs.push(message.hello?.epoch ?? -1);
      },
      onDisconnect: (error) => ends.push(error?.code ?? 'end'),
    },
  });
  return { stream, epochs, ends, begun: () => begun };
}

test('the wait doubles up to its bound, minus the jitter', () => {
  assert.equal(reconnectDelayMs(1, 0), reconnectDelayMinMs);
  assert.equal(reconnectDelayMs(2, 0), 2 * reconnectDelayMinMs);
  assert.equal(reconnectDelayMs(1000, 0), reconnectDelayMaxMs);
  assert.ok(reconnectDelayMs(1000, 0.999) >= 0.75 * reconnectDelayMaxMs);
});

test('waits for a server that comes later, and opens again after it was killed', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'sync.sock');
  const { stream, epochs, ends } = record(path);
  stream.start();
  await waitUntil('a failed attempt', () => ends.length > 0);
  assert.equal(stream.link, null);

  const first = serverChild(path, 1);
  await waitUntil('first life', () => epochs.includes(1));
  assert.equal(stream.state, 'open');
  assert.equal(stream.lastError, null);
  first.process.kill('SIGKILL');
  await waitUntil('it is noticed', () => stream.state !== 'open');
  assert.equal(ends.at(-1), 'TANDEM_RPC');
  await first.exited;

  const second = serverChild(path, 2);
  const begin = performance.now();
  await waitUntil('second life', () => epochs.includes(2));
  assert.ok(performance.now() - begin < 5000);
  stream.stop();
  assert.equal(stream.state, 'stopped');
  second.process.kill('SIGKILL');
  await second.exited;
});

test('while nobody listens no more than the first attempt makes a gRPC client', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'sync.sock');
  const { stream, epochs, ends, begun } = record(path);
  stream.start();
  await waitUntil('four attempts', () => ends.length === 4);
  assert.equal(begun(), 1);
  assert.equal(stream.attempts, 4);
  assert.match(stream.lastError?.message ?? '', /ENOENT/);
  const child = serverChild(path, 5);
  await waitUntil('open', () => epochs.includes(5));
  child.process.kill('SIGKILL');
  await child.exited;
  // The path of a killed server stays.
  const before = ends.length;
  await waitUntil('two more attempts', () => ends.length >= before + 2);
  stream.stop();
  assert.ok(begun() <= 3, `${begun()} of ${stream.attempts}`);
});

test('a stop while it looks whether anybody listens is the end', async () => {
  using directory = temporaryDirectory();
  const { stream, ends } = record(join(directory.path, 'sync.sock'));
  stream.start();
  await waitUntil('the second attempt begins', () => stream.attempts === 2);
  stream.stop();
  const before = ends.length;
  await new Promise(setImmediate);
  assert.deepEqual([stream.state, ends.length, stream.attempts], ['stopped', before, 2]);
});

test('an orderly end is no error, and the stream comes back', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'sync.sock');
  const child = serverChild(path, 3);
  const { stream, epochs, ends } = record(path);
  await waitUntil('server', () => child.output().includes('listening'));
  stream.start();
  await waitUntil('open', () => stream.link !== null);
  stream.link?.send({ ack: {} });
  await waitUntil('ended', () => ends.length === 1);
  assert.deepEqual(ends, ['end']);
  await waitUntil('open again', () => epochs.length === 2);
  stream.stop();
  child.process.kill('SIGKILL');
  await child.exited;
});

test('a server that says hello and ends the stream at once is not asked without a pause', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'sync.sock');
  const server = new GrpcServer({
    path,
    allowedUids: [process.getuid?.() ?? 0],
    log: silentLogger(),
  });
  server.addService(SyncService, {
    policy: (call) => call.end(),
    exchange: (call) =>
      call.on('data', () => {
        call.write({ hello: { epoch: 1 } });
        call.end();
      }),
  });
  await server.start();
  const { stream, ends } = record(path);
  stream.start();
  const begun = performance.now();
  await waitUntil('five ends', () => ends.length >= 5);
  // 100, 200, 400 and 800 ms, each up to a quarter shorter.
  assert.ok(performance.now() - begun > 0.75 * 1500, `${performance.now() - begun} ms`);
  await stream.stop();
  await server.stop();
});

test('a hung server is noticed by its silence', { timeout: 30_000 }, async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'sync.sock');
  const child = serverChild(path, 4);
  const { stream } = record(path, 500);
  stream.start();
  await waitUntil('open', () => stream.state === 'open');
  child.process.kill('SIGSTOP');
  await waitUntil('noticed', () => stream.state !== 'open');
  stream.stop();
  child.process.kill('SIGKILL');
  await child.exited;
});

test('a socket in a directory that others can write to is not connected to', async () => {
  const { stream, ends } = record('/tmp/tandem-nobody.sock');
  stream.start();
  await waitUntil('refused', () => ends.length > 0);
  stream.stop();
  assert.equal(ends[0], 'TANDEM_SOCKET_PATH');
});
