// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import { connectTimeoutMs } from './limits.ts';
import { KubeSession, NotConnected } from './session.ts';

test('a caller that is stopped does not wait for a server that takes connections and says nothing', async () => {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const endpoint = {
    ...{ url: `https://127.0.0.1:${port}`, ca: () => null, authorization: () => null },
  };
  const session = new KubeSession({ endpoint });
  const request = { path: '/version', accept: 'application/json' };
  const beganMs = performance.now();
  for (const signal of [AbortSignal.timeout(100), AbortSignal.abort()]) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await assert.rejects(session.request({ ...request, signal }), NotConnected);
  }
  assert.ok(performance.now() - beganMs < connectTimeoutMs / 2);
  session.close();
  server.close();
});
