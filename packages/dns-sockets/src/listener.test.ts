// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { describe, test } from 'node:test';
import { echoLoop } from '../test/echo.ts';
import { openSockets, until } from '../test/wait.ts';
import { closeFd, duplicateFd, localPort, releaseFd } from './fd.ts';
import { createListener, enlargeBuffers, guardListener, type ListenerOptions } from './listener.ts';
import { acceptTcp } from './tcp-accept.ts';

const options: ListenerOptions = {
  family: 4,
  protocol: 'udp',
  port: 0,
  mark: 0x2000,
  markMask: 0,
  redirectMark: 0,
};

/** The uid of the shipped proxy; no user needs to have it here. */
const memberUid = 65_532;

/** As `memberUid` with the two capabilities that the proxy has; prints what came of it. */
function runAsMember(program: string, ...args: readonly string[]): string {
  const result = spawnSync(
    'setpriv',
    [
      `--reuid=${memberUid}`,
      `--regid=${memberUid}`,
      '--clear-groups',
      '--inh-caps=+net_raw,+bpf',
      '--ambient-caps=+net_raw,+bpf',
      process.execPath,
      '--conditions=@tandem/source',
      new URL(`../test/${program}`, import.meta.url).pathname,
      ...args,
    ],
    { encoding: 'utf8', timeout: 20_000 },
  );
  assert.equal(result.status, 0, result.stderr);
  return result.stdout;
}

describe('createListener', () => {
  test('sockets of one uid share a port, in both families and transports', () => {
    for (const family of [4, 6] as const) {
      for (const protocol of ['udp', 'tcp'] as const) {
        const first = createListener({ ...options, family, protocol });
        const port = localPort(first);
        const second = createListener({ ...options, family, protocol, port });
        assert.equal(localPort(second), port);
        closeFd(first);
        closeFd(second);
      }
    }
  });

  test('another uid does not join, unless the socket was given to it before bind', () => {
    const own = createListener(options);
    assert.equal(runAsMember('join-group.ts', String(localPort(own))), 'EADDRINUSE');
    closeFd(own);
    const given = createListener({ ...options, ownerUid: memberUid });
    assert.equal(runAsMember('join-group.ts', String(localPort(given))), 'joined');
    assert.throws(() => createListener({ ...options, port: localPort(given) }), {
      code: 'TANDEM_SOCKET_SYSTEM',
      errnoName: 'EADDRINUSE',
      syscall: 'bind',
      message: /UDP listener on IPv4 port \d+: bind/,
    });
    closeFd(given);
  });

  test('a TCP connection that root has accepted keeps no member of another uid from the port', async () => {
    const given = { ...options, protocol: 'tcp', ownerUid: memberUid } as const;
    const listener = createListener(given);
    const port = localPort(listener);
    // As a member has it: with both families the kernel compares all sockets of the port.
    const other = createListener({ ...given, family: 6, port });
    const { promise, resolve } = Promise.withResolvers<number>();
    const stop = acceptTcp(listener, {
      onConnection: ({ fd }) => resolve(fd),
      onError: (errno) => assert.fail(`accept failed: ${errno}`),
    });
    const client = connect(port, '127.0.0.1');
    const connection = await promise;
    const next = createListener({ ...given, port });
    assert.equal(localPort(next), port);
    stop();
    client.destroy();
    for (const fd of [listener, other, connection, next]) closeFd(fd);
  });

  test('an IPv6 listener leaves IPv4 alone', () => {
    const v6 = createListener({ ...options, family: 6 });
    const v4 = createListener({ ...options, port: localPort(v6), ownerUid: memberUid });
    closeFd(v6);
    closeFd(v4);
  });

  test('node:net takes a released fd over and closes it', async () => {
    const before = openSockets();
    const fd = createListener({ ...options, protocol: 'tcp' });
    const port = localPort(fd);
    const server = createServer((connection) => connection.end('served'));
    server.listen({ fd: releaseFd(fd) });
    await once(server, 'listening');
    assert.throws(() => closeFd(fd), { errnoName: 'EBADF' });
    const client = connect(port, '127.0.0.1');
    const [data] = await once(client, 'data');
    assert.equal(String(data), 'served');
    await once(client, 'close');
    server.close();
    await once(server, 'close');
    assert.equal(openSockets(), before);
  });

  test('a guard is replaced in place: what the new one lets in is received', async () => {
    const fd = createListener({ ...options, mark: 0, markMask: 0x40, redirectMark: 0x40 });
    let received = 0;
    using loop = echoLoop({
      ...{ buffer: new Uint8Array(8 * 256), slots: 8, slotBytes: 256 },
      onBatch: (_handle, count) => {
        received += count;
      },
      onSocketError: () => {},
    });
    const port = localPort(fd);
    loop.add(fd, 'listener');
    const client = createSocket('udp4');
    const send = (): Promise<void> =>
      new Promise((resolve) => {
        client.send('x', port, '127.0.0.1', () => resolve());
      });
    await send();
    guardListener(fd, { markMask: 0x40, redirectMark: 0 });
    await send();
    await until(() => received > 0, 'the second datagram');
    client.close();
    assert.equal(received, 1);
    closeFd(fd);
    assert.throws(() => guardListener(fd, { markMask: 0, redirectMark: 0 }), {
      errnoName: 'EBADF',
    });
    assert.throws(() => guardListener(0, { markMask: 0, redirectMark: 0 }), { errnoName: 'EBADF' });
  });

  test('guards of TCP listeners need no capability that the proxy has not', () => {
    assert.equal(runAsMember('guard-tcp.ts'), 'true false true');
  });

  test('buffers that the owner was refused are enlarged by another process, and never made smaller', () => {
    const small = 4096;
    const fd = createListener({ ...options, receiveBufferBytes: small });
    const copy = duplicateFd(fd);
    const max = Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'));
    assert.equal(enlargeBuffers(copy, 2 * max), true, 'as root');
    assert.equal(enlargeBuffers(fd, 1), true);
    closeFd(fd);
    closeFd(copy);
    const file = openSync('/dev/null', 'r');
    assert.equal(enlargeBuffers(file, small), false, 'no socket');
    closeSync(file);
  });

  test('only our own fds are closed, and only once', () => {
    const fd = createListener(options);
    const copy = duplicateFd(fd);
    closeFd(fd);
    assert.throws(() => closeFd(fd), { errnoName: 'EBADF' });
    assert.ok(localPort(copy) > 0, 'the duplicate lives');
    closeFd(copy);
    assert.throws(() => closeFd(0), { errnoName: 'EBADF' });
    assert.throws(() => releaseFd(1), { errnoName: 'EBADF' });
    assert.throws(() => localPort(copy), { errnoName: 'EBADF' });
    assert.throws(() => duplicateFd(copy), { errnoName: 'EBADF' });
  });

  test('a guard that could never match is an error', () => {
    assert.throws(() => createListener({ ...options, markMask: 0x3000, redirectMark: 0x4000 }), {
      code: 'TANDEM_SOCKET_ARGUMENT',
    });
  });
});
