// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Octets that the kernel keeps of connections whose clients take nothing. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { localPort, releaseFd } from './fd.ts';
import { createListener } from './listener.ts';

const unackedMs = 1500;
/** The timer of the kernel may be late by as much as the last probe took. */
const overMs = 10 * unackedMs;

/** Octets that the kernel has for the client at `port`; -1: it has no such connection. */
function kept(port: number): number {
  const remote = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n')) {
    const [, , address, , queues = ''] = line.trim().split(/\s+/);
    if (address?.endsWith(remote) === true) return Number.parseInt(queues.split(':')[0]!, 16);
  }
  return -1;
}

test('connections whose clients take nothing keep little, and not for long, open or closed', async () => {
  const guard = { mark: 0, markMask: 0, redirectMark: 0 };
  const fd = createListener({ family: 4, protocol: 'tcp', port: 0, unackedMs, ...guard });
  const port = localPort(fd);
  const server = createServer().listen({ fd: releaseFd(fd) });
  const sockets: Socket[] = [];
  const clientPorts: number[] = [];
  for (const isClosed of [false, true]) {
    const client = connect(port, '127.0.0.1').pause();
    const [connection] = (await once(server, 'connection')) as [Socket];
    for (const socket of [client, connection]) socket.on('error', () => undefined);
    sockets.push(client, connection);
    clientPorts.push(connection.remotePort as number);
    connection.write(new Uint8Array(8 << 20));
    await delay(100);
    if (isClosed) connection.destroy();
  }
  server.close();
  for (const octets of clientPorts.map(kept)) {
    assert.ok(octets > 0 && octets <= 1 << 18, `${octets} octets`);
  }
  const deadline = performance.now() + overMs;
  while (clientPorts.some((clientPort) => kept(clientPort) !== -1)) {
    assert.ok(
      performance.now() < deadline,
      `${clientPorts.map(kept).join()} octets are still there`,
    );
    await delay(100);
  }
  for (const socket of sockets) socket.destroy();
});
