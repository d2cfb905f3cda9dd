// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Owner of the octets of a write, over the kernel's own TCP. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { fstatSync, openSync, readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { waitFor } from '@tandem/testing/wait';
import type { AcceptedConnection, TcpStream } from './stream.ts';
import { nodeTcpSystem, socketOfFd } from './stream-node.ts';

interface WithFd {
  readonly _handle: { readonly fd: number };
}

let server: Server;
let client: Socket;
let stream: TcpStream;
let stop: () => void;
let isClosed: boolean;

beforeEach(async () => {
  server = createServer({ pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const accepted = new Promise<AcceptedConnection>((resolve, reject) => {
    const { fd } = (server as unknown as WithFd)._handle;
    stop = nodeTcpSystem.listen(fd, resolve, () => reject(new Error('accept failed')));
  });
  // Only listens: the duplicate of its descriptor accepts.
  server.close();
  client = connect(port, '127.0.0.1');
  client.on('error', () => undefined);
  isClosed = false;
  const nothing = (): void => undefined;
  stream = (await accepted).open({
    onData: nothing,
    onTaken: nothing,
    onEnd: nothing,
    onClose: () => {
      isClosed = true;
    },
  });
});

afterEach(() => {
  stop();
  stream.destroy();
  client.destroy();
});

const length = 65_537;

/** Each is filled with its number; `done` counts how often it came back. */
function writeBlocks(count: number, done: number[]): void {
  for (let i = 0; i < count; i++) {
    const place = done.push(0) - 1;
    stream.write(new Uint8Array(length).fill(i), (bytes) => {
      done[place]! += 1;
      // As another message would.
      bytes.fill(255);
    });
  }
}

test('octets are the writer’s again when they are sent, and arrive as they were', async () => {
  const count = 100;
  const done: number[] = [];
  writeBlocks(count, done);
  let at = 0;
  for await (const chunk of client) {
    for (const octet of chunk as Buffer) {
      if (octet !== Math.floor(at / length)) assert.fail(`octet ${at} is ${octet}`);
      at += 1;
    }
    if (at === count * length) break;
  }
  await waitFor(() => done.every((times) => times === 1), { what: 'all to come back' });
});

for (const [title, end] of [
  ['we close', () => stream.destroy()],
  ['its client resets', () => client.resetAndDestroy()],
] as const) {
  test(`they come back once when ${title} a connection that takes nothing`, async () => {
    client.pause();
    const done: number[] = [];
    writeBlocks(1, done);
    await waitFor(() => done[0] === 1, { what: 'the first to be sent' });
    writeBlocks(200, done);
    end();
    await waitFor(() => done.every((times) => times === 1), { what: 'the others to come back' });
    await waitFor(() => isClosed || title === 'we close', { what: 'the end' });
    // What is written to a connection that is over comes back at once.
    stream.write(new Uint8Array(1), () => done.push(2));
    assert.equal(done.at(-1), 2);
  });
}

test('of a connection that we reset nothing more is sent', async () => {
  client.pause();
  const done: number[] = [];
  writeBlocks(1, done);
  await waitFor(() => done[0] === 1, { what: 'the first to be sent' });
  writeBlocks(200, done);
  stream.reset();
  await waitFor(() => done.every((times) => times === 1), { what: 'all to come back' });
  const ended = once(client, 'error') as Promise<[NodeJS.ErrnoException]>;
  let octets = 0;
  client.on('data', (chunk) => {
    octets += chunk.length;
  });
  client.resume();
  const [error] = await ended;
  assert.equal(error.code, 'ECONNRESET');
  assert.ok(octets < 200 * length);
});

/** Prints how the client of a connection ends that is reset when the process has no descriptor left. */
const resetWithoutDescriptors = `
  import { connect, createServer } from 'node:net';
  import { duplicateFd } from '@tandem/dns-sockets/fd';
  import { nodeTcpSystem } from './stream-node.ts';
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1', () => {
    const client = connect(server.address().port, '127.0.0.1').pause();
    client.on('error', ({ code }) => process.stdout.write(code, () => process.exit()));
    client.on('end', () => process.stdout.write('end', () => process.exit()));
    const nothing = () => undefined;
    const onAccepted = (accepted) => {
      const stream = accepted.open({ onData: nothing, onTaken: nothing, onEnd: nothing, onClose: nothing });
      stream.write(new Uint8Array(16 << 20));
      setImmediate(() => {
        try { for (;;) duplicateFd(0); } catch {}
        stream.reset();
        client.resume();
      });
    };
    nodeTcpSystem.listen(server._handle.fd, onAccepted, nothing);
    server.close();
  });`;

test('a connection is reset, also by a process that has no descriptor left', async () => {
  const command = ['-c', 'ulimit -n 64 && exec "$0" "$@"', process.execPath];
  const script = [
    '--conditions=@tandem/source',
    '--input-type=module',
    '-e',
    resetWithoutDescriptors,
  ];
  const { stdout } = await promisify(execFile)('sh', [...command, ...script], {
    cwd: import.meta.dirname,
  });
  assert.equal(stdout, 'ECONNRESET');
});

/** A loopback address that no other server has: the port is that of DNS. */
const serverAddress = new Uint8Array([...Array(10).fill(0), 0xff, 0xff, 127, 53, 53, 1]);

/** A connection of ours to a server, and that of the server to us. */
async function connectTo(onData: (octets: Uint8Array) => void): Promise<[TcpStream, Socket]> {
  const dns = createServer({ pauseOnConnect: true }).listen(53, '127.53.53.1');
  await once(dns, 'listening');
  const incoming = once(dns, 'connection') as Promise<[Socket]>;
  const nothing = (): void => undefined;
  const events = { onData, onTaken: nothing, onEnd: nothing, onClose: nothing };
  const upstream = nodeTcpSystem.connect(serverAddress, events);
  const [taken] = await incoming;
  dns.close();
  return [upstream, taken];
}

test('a connection to a server that takes nothing leaves nothing in the kernel', async () => {
  const [upstream, taken] = await connectTo(() => undefined);
  upstream.write(new Uint8Array(8 << 20));
  await delay(100);
  const port = (taken.remotePort as number).toString(16).toUpperCase().padStart(4, '0');
  const has = (): boolean =>
    readFileSync('/proc/net/tcp', 'utf8').includes(`:${port} 0135357F:0035`);
  assert.ok(has());
  upstream.destroy();
  await waitFor(() => !has(), { what: 'the kernel to forget it' });
  taken.destroy();
});

test('a server gets what is written, and its answer is read', async () => {
  let answer = '';
  const [upstream, taken] = await connectTo((octets) => {
    answer += Buffer.from(octets).toString();
  });
  taken.resume().on('data', (query: Buffer) => taken.write(`answer to ${query.toString()}`));
  upstream.write(Buffer.from('query'));
  await waitFor(() => answer === 'answer to query', { what: 'the answer' });
  const ended = once(taken, 'error') as Promise<[NodeJS.ErrnoException]>;
  upstream.destroy();
  assert.equal((await ended)[0].code, 'ECONNRESET');
});

test('a descriptor of which there can be no socket is closed', () => {
  const fd = openSync('/proc/self/status', 'r');
  assert.throws(() => socketOfFd(fd, {}));
  assert.throws(() => fstatSync(fd), { code: 'EBADF' });
});
