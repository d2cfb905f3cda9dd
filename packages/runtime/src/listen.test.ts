// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import { listening } from './listen.ts';

test('attempts at an address that is taken leave no listener of events behind', async () => {
  const other = net.createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as net.AddressInfo;
  const server = net.createServer();
  const attempt = (): Promise<void> =>
    listening(server, () => server.listen({ host: '127.0.0.1', port }));
  const counts = (): readonly number[] =>
    ['listening', 'error'].map((event) => server.listenerCount(event));
  for (let tries = 0; tries < 3; tries++) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await assert.rejects(attempt(), /EADDRINUSE/);
    assert.deepEqual(counts(), [0, 0]);
  }
  other.close();
  await once(other, 'close');
  await attempt();
  assert.deepEqual([server.listening, ...counts()], [true, 0, 0]);
  server.close();
  const thrown = (): never => {
    throw new Error('no path');
  };
  await assert.rejects(listening(net.createServer(), thrown), /no path/);
});
