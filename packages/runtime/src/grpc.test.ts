// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { chmodSync, chownSync, rmSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { AdminService, SyncService } from '@tandem/proto/gen/services';
import { grpcMessageBytesMax } from '@tandem/proto/limits';
import { runScript } from '../test/child-process.ts';
import { temporaryDirectory } from '../test/temporary-directory.ts';
import { waitUntil } from '../test/wait-until.ts';
import { GrpcClient } from './grpc-client.ts';
import { GrpcServer, type GrpcServerOptions } from './grpc-server.ts';
import { silentLogger } from './log.ts';
import { StreamLink } from './stream-link.ts';
import { TandemError } from './tandem-error.ts';

const ownUid = process.getuid?.() ?? 0;
const otherUser = { uid: 65_532, gid: 65_532 };

/** An Admin server; Observe sends until it is cancelled. */
async function adminServer(
  options: Partial<GrpcServerOptions> & { path: string },
): Promise<GrpcServer & AsyncDisposable> {
  const server = new GrpcServer({ allowedUids: [ownUid], log: silentLogger(), ...options });
  server.addService(AdminService, {
    status: (_call, callback) => callback(null, { nodeName: 'n1', uptimeS: 7 }),
    listEndpoints: (call) => {
      call.write({ endpoints: [{ pod: call.request.pod }] });
      call.end();
    },
    // The way of grpc-js to fail a stream; `destroy` would leave the client waiting.
    listFqdn: (call) => call.emit('error', { code: status.NOT_FOUND, details: 'not here' }),
    observe: (call) => {
      const link = new StreamLink(call);
      while (link.send({ pod: 'shop/web'.repeat(1000) }));
    },
    getMetrics: (call, callback) => {
      if (call.request === null) return;
      callback(null, { text: 'x'.repeat(grpcMessageBytesMax + 1) });
    },
  });
  await server.start();
  return Object.assign(server, { [Symbol.asyncDispose]: () => server.stop() });
}

function rpcStatus(expected: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof TandemError);
    assert.equal(error.code, 'TANDEM_RPC');
    assert.equal(error.facts['status'], expected);
    return true;
  };
}

test('unary call and server stream', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'run', 'admin.sock');
  await using server = await adminServer({ path });
  using client = new GrpcClient({ path });
  const answer = await client.unary(AdminService.status, {});
  assert.deepEqual([answer.nodeName, answer.uptimeS, answer.degraded], ['n1', 7, []]);
  const pods: string[] = [];
  for await (const page of client.serverStream(AdminService.listEndpoints, { pod: 'a/b' })) {
    pods.push(...page.endpoints.map((endpoint) => endpoint.pod));
  }
  assert.deepEqual(pods, ['a/b']);
  assert.deepEqual(server.stats, {
    accepted: 1,
    refusedPeers: 0,
    refusedConnections: 0,
    connections: 1,
  });
});

test('errors carry the gRPC status', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'admin.sock');
  await using _server = await adminServer({ path });
  using client = new GrpcClient({ path });
  await assert.rejects(async () => {
    for await (const _page of client.serverStream(AdminService.listFqdn, {}));
  }, rpcStatus('NOT_FOUND'));
  const large = client.unary(AdminService.getMetrics, {});
  await assert.rejects(large, rpcStatus('RESOURCE_EXHAUSTED'));
  using nobody = new GrpcClient({ path: join(directory.path, 'none.sock') });
  await assert.rejects(nobody.unary(AdminService.status, {}), rpcStatus('UNAVAILABLE'));
});

test('a request over the message limit is refused', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'admin.sock');
  await using _server = await adminServer({ path });
  using client = new GrpcClient({ path });
  const pod = 'x'.repeat(grpcMessageBytesMax + 1);
  await assert.rejects(async () => {
    for await (const _page of client.serverStream(AdminService.listEndpoints, { pod }));
  }, rpcStatus('RESOURCE_EXHAUSTED'));
});

test('leaving the loop cancels an endless stream; so does a signal, without an error', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'admin.sock');
  await using _server = await adminServer({ path });
  using client = new GrpcClient({ path });
  let count = 0;
  for await (const _event of client.serverStream(AdminService.observe, {}))
    if (++count === 5) break;
  const abort = new AbortController();
  for await (const _event of client.serverStream(AdminService.observe, {}, abort.signal)) {
    if (++count === 10) abort.abort();
  }
  assert.ok(count >= 10);
});

test('a link stops taking messages when the reader does not read', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'sync.sock');
  const server = new GrpcServer({ path, allowedUids: [ownUid], log: silentLogger() });
  let reading = false;
  server.addService(SyncService, {
    policy: (call) => {
      call.pause();
      const timer = setInterval(() => {
        if (reading) call.resume();
      }, 2);
      call.on('data', () => {});
      if (!reading) call.pause();
      call.on('close', () => clearInterval(timer));
      call.on('cancelled', () => clearInterval(timer));
    },
    exchange: (call) => call.end(),
  });
  await server.start();
  using client = new GrpcClient({ path });
  const call = client.bidirectional(SyncService.policy);
  call.on('error', () => {});
  const link = new StreamLink(call);
  const error = 'x'.repeat(100_000);
  let isFull = false;
  const fill = (): void => {
    while (link.send({ member: 1, error }));
    isFull = link.sent > 100;
  };
  link.onDrain = fill;
  fill();
  assert.equal(link.isWritable, false);
  const sentBefore = link.sent;
  assert.ok(sentBefore < 100, `${sentBefore} messages taken before the link said no`);
  assert.equal(link.send({ member: 1 }), false);
  reading = true;
  await waitUntil('the link drains', () => isFull);
  call.cancel();
  await server.stop();
});

/** A client in a child process; prints the node name or the error. */
function clientScript(path: string): string {
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  return `
    const { GrpcClient } = await import(${url('./grpc-client.ts')});
    const { AdminService } = await import(${url('../../proto/src/gen/services.ts')});
    const client = new GrpcClient({ path: ${JSON.stringify(path)} });
    try {
      console.log('node', (await client.unary(AdminService.status, {})).nodeName);
    } catch (error) {
      console.log('failed', error.code, JSON.stringify(error.facts), error.message);
    }
    client.close();`;
}

test('another uid: refused by the socket, by its uid, or served when allowed', {
  skip: ownUid !== 0 && 'needs root to become another user',
}, async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'run', 'admin.sock');
  {
    await using server = await adminServer({ path });
    // The modes alone keep it out.
    const outside = runScript(clientScript(path), otherUser);
    await outside.exited;
    assert.match(outside.output(), /failed TANDEM_SOCKET_PATH|EACCES|UNAVAILABLE/);
    assert.equal(server.stats.accepted + server.stats.refusedPeers, 0);
    // Modes opened wide: the kernel's word on its uid still keeps it out.
    chmodSync(join(directory.path, 'run'), 0o755);
    chmodSync(path, 0o666);
    const inside = runScript(clientScript(path), otherUser);
    await inside.exited;
    assert.match(inside.output(), /failed TANDEM_RPC .*UNAVAILABLE/);
    assert.ok(server.stats.refusedPeers >= 1);
    assert.equal(server.stats.accepted, 0);
  }
  // Its group and uid allowed, modes as made.
  chmodSync(join(directory.path, 'run'), 0o750);
  chownSync(join(directory.path, 'run'), 0, otherUser.gid);
  await using server = await adminServer({
    path,
    groupId: otherUser.gid,
    allowedUids: [ownUid, otherUser.uid],
  });
  const allowed = runScript(clientScript(path), otherUser);
  await allowed.exited;
  assert.match(allowed.output(), /node n1/);
  assert.equal(server.stats.refusedPeers, 0);
});

test('connections over the limit are closed and counted', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'admin.sock');
  await using server = await adminServer({ path, connectionsMax: 2 });
  const sockets = Array.from({ length: 5 }, () => {
    const socket = net.connect({ path });
    socket.on('error', () => {});
    return socket;
  });
  await waitUntil('three refused', () => server.stats.refusedConnections === 3);
  assert.equal(server.stats.connections, 2);
  for (const socket of sockets) socket.destroy();
  await waitUntil('connections are gone', () => server.stats.connections === 0);
});

test('bytes that are no HTTP/2 close the connection and nothing else', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'admin.sock');
  await using server = await adminServer({ path });
  const socket = net.connect({ path });
  socket.on('error', () => {});
  socket.resume();
  socket.write(Buffer.alloc(100_000, 0xff));
  await waitUntil('closed', () => socket.closed);
  socket.destroy();
  using client = new GrpcClient({ path });
  assert.equal((await client.unary(AdminService.status, {})).nodeName, 'n1');
  assert.equal(server.stats.accepted, 2);
});

test('a socket that was removed with its directory is made anew; calls over the former one go on', async () => {
  using directory = temporaryDirectory();
  const run = join(directory.path, 'run');
  const path = join(run, 'admin.sock');
  await using server = await adminServer({ path });
  using client = new GrpcClient({ path });
  await client.unary(AdminService.status, {});
  assert.equal(server.isReachable, true);
  rmSync(run, { recursive: true });
  assert.equal(server.isReachable, false);
  await server.start();
  assert.equal(server.isReachable, true);
  await client.unary(AdminService.status, {});
  using late = new GrpcClient({ path });
  await late.unary(AdminService.status, {});
});

test('stop cuts endless streams after its grace and removes the socket', async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'admin.sock');
  const server = await adminServer({ path, stopGraceMs: 20 });
  using client = new GrpcClient({ path });
  const events = client.serverStream(AdminService.observe, {});
  assert.equal((await events.next()).done, false);
  await server.stop();
  await assert.rejects(async () => {
    for (;;) if ((await events.next()).done === true) break;
  }, rpcStatus('UNAVAILABLE'));
  assert.equal(server.stats.connections, 0);
});
