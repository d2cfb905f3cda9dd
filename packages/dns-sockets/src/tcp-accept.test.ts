// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, Socket } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { DnsSocketError } from './errors.ts';
import { releaseFd } from './fd.ts';
import { type AcceptedTcp, acceptTcp, resetOnClose, resetTcp } from './tcp-accept.ts';

interface WithFd {
  readonly _handle: { readonly fd: number };
}

describe('acceptTcp', () => {
  let server: Server;
  let port: number;
  let fd: number;
  const accepted: AcceptedTcp[] = [];
  let onAccepted: () => void;
  let stop: () => void;

  beforeEach(async () => {
    // Only listens: its accepted connections would go to the faster one.
    server = createServer({ pauseOnConnect: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
    fd = (server as unknown as WithFd)._handle.fd;
    accepted.length = 0;
    onAccepted = () => undefined;
  });

  afterEach(() => {
    stop();
    server.close();
  });

  const start = (): void => {
    // A duplicate that outlives the server, which stops accepting.
    stop = acceptTcp(fd, {
      onConnection: (connection) => {
        accepted.push(connection);
        onAccepted();
      },
      onError: (errno) => assert.fail(`accept failed: ${errno}`),
    });
    server.close();
  };

  const next = (): Promise<AcceptedTcp> =>
    new Promise((resolve) => {
      const look = (): void => {
        const connection = accepted.shift();
        if (connection !== undefined) resolve(connection);
      };
      onAccepted = look;
      look();
    });

  it('tells both addresses, and the descriptor becomes a socket', async () => {
    start();
    const client = connect(port, '127.0.0.1');
    const { fd: connection, addresses, peerPort } = await next();
    const loopback = [...Array<number>(10).fill(0), 255, 255, 127, 0, 0, 1];
    assert.deepEqual([...addresses], [...loopback, ...loopback]);
    assert.equal(peerPort, client.localPort);
    const buffer = new Uint8Array(64);
    const received: string[] = [];
    const socket = new Socket({
      fd: releaseFd(connection),
      readable: true,
      writable: true,
      onread: {
        buffer,
        callback: (count) => {
          received.push(Buffer.from(buffer.subarray(0, count)).toString());
          socket.end('pong');
          return true;
        },
      },
    });
    client.write('ping');
    const [data] = (await once(client, 'data')) as [Buffer];
    assert.deepEqual([received.join(''), data.toString()], ['ping', 'pong']);
    client.destroy();
    socket.destroy();
  });

  it('resets a connection that was not read', async () => {
    start();
    const client = connect(port, '127.0.0.1');
    await once(client, 'connect');
    client.write('unread');
    const { fd: connection } = await next();
    const error = once(client, 'error');
    resetTcp(connection);
    assert.equal(((await error)[0] as NodeJS.ErrnoException).code, 'ECONNRESET');
  });

  it('a socket whose descriptor someone else closes is reset then', async () => {
    start();
    const client = connect(port, '127.0.0.1');
    const { fd: connection } = await next();
    const socket = new Socket({ fd: releaseFd(connection) });
    resetOnClose(connection);
    const error = once(client, 'error');
    socket.destroy();
    assert.equal(((await error)[0] as NodeJS.ErrnoException).code, 'ECONNRESET');
    assert.throws(() => resetOnClose(0xffff), { errnoName: 'EBADF' });
  });

  // The other member's listener is one open file of both processes, and one socket.
  for (const { what, script, args, want } of [
    { what: 'clears O_NONBLOCK', script: 'blocking-listener', args: ['once'], want: '200' },
    {
      what: 'clears O_NONBLOCK again and again',
      script: 'blocking-listener',
      args: ['always'],
      want: '200',
    },
    { what: 'sets SO_LINGER', script: 'lingering-listener', args: [], want: 'closed' },
  ]) {
    it(`never makes the event loop wait when another process ${what}`, () => {
      stop = () => undefined;
      const path = new URL(`../test/${script}.ts`, import.meta.url).pathname;
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        ['--conditions=@tandem/source', path, ...args],
        { encoding: 'utf8', timeout: 30_000, killSignal: 'SIGKILL' },
      );
      assert.equal(status, 0, `the event loop waits: ${stderr}`);
      assert.equal(stdout, `${want}\n`);
    });
  }

  it('refuses what is no listening socket', () => {
    stop = () => undefined;
    assert.throws(
      () => acceptTcp(0, { onConnection: () => undefined, onError: () => undefined }),
      DnsSocketError,
    );
  });
});
