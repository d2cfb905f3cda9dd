// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Policy over gRPC on a unix socket: to a member that reads, and to one that answers pings and reads nothing. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PolicyUpdate } from '@tandem/proto/gen/messages';
import { SyncService } from '@tandem/proto/gen/services';
import { policyChunkBytes } from '@tandem/proto/limits';
import { SnapshotAssembler } from '@tandem/proto/policy-chunks';
import { GrpcClient } from '@tandem/runtime/grpc-client';
import { GrpcServer, grpcStopGraceMs } from '@tandem/runtime/grpc-server';
import { silentLogger } from '@tandem/runtime/log';
import { PersistentStream } from '@tandem/runtime/persistent-stream';
import { ownPrefix } from '@tandem/testing/namespace';
import { patience, waitFor } from '@tandem/testing/wait';
import { PolicyServer } from './policy-server.ts';

const log = silentLogger();

interface Served extends AsyncDisposable {
  readonly path: string;
  readonly policies: PolicyServer;
}

async function serve(): Promise<Served> {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}policy-`));
  const path = join(directory, 'sync.sock');
  const policies = new PolicyServer(log);
  const server = new GrpcServer({ path, allowedUids: [process.getuid?.() ?? 0], log });
  server.addService(SyncService, { policy: policies.handle, exchange: (call) => call.end() });
  await server.start();
  const end = async (): Promise<void> => {
    await server.stop();
    rmSync(directory, { recursive: true });
  };
  return { path, policies, [Symbol.asyncDispose]: end };
}

test('a snapshot of more pieces than a stream takes at once arrives whole, and so does what follows it', async () => {
  await using served = await serve();
  const { path, policies } = served;
  using client = new GrpcClient({ path });
  const call = client.bidirectional(SyncService.policy);
  const assembler = new SnapshotAssembler();
  const installed: Uint8Array[] = [];
  call.on('error', () => undefined);
  call.on('data', (update: PolicyUpdate) => {
    const result = assembler.accept(update);
    if (result.kind === 'incomplete') return;
    assert.ok(result.kind === 'complete');
    installed.push(result.snapshot);
    call.write({ member: 1, revision: result.revision });
  });
  call.write({ member: 1, revision: 0 });
  await waitFor(() => policies.members.length === 1, { what: 'the member' });
  for (const number of [1, 2, 3]) {
    const snapshot = new Uint8Array(24 * policyChunkBytes + number).fill(number);
    policies.publish(number, snapshot);
    // oxlint-disable-next-line no-await-in-loop -- one after the other, as the controller publishes
    await waitFor(() => policies.isAcknowledged(number), { what: `revision ${number}` });
    assert.equal(Buffer.compare(installed.at(-1) as Uint8Array, snapshot), 0);
  }
  call.cancel();
});

test('a member that does not read costs the agent a bounded amount of memory', async () => {
  await using served = await serve();
  const { path, policies } = served;
  using client = new GrpcClient({ path });
  const call = client.bidirectional(SyncService.policy);
  call.on('error', () => undefined);
  // Without a listener for data nothing is read, and the window of the stream closes.
  call.write({ member: 1, revision: 1 });
  await waitFor(() => policies.members.length === 1, { what: 'the member' });
  const octets = (): number => process.memoryUsage().arrayBuffers + process.memoryUsage().external;
  const before = octets();
  const revisions = 200;
  for (let revision = 2; revision < revisions; revision++) {
    policies.publish(revision, new Uint8Array(policyChunkBytes));
    // oxlint-disable-next-line no-await-in-loop -- what can be sent is sent in between
    await new Promise(setImmediate);
  }
  assert.ok(octets() - before < 100 * policyChunkBytes, `${octets() - before} octets more`);
  call.cancel();
});

test('streams that the server ends do not hold up its stop', async () => {
  const served = await serve();
  const { path, policies } = served;
  const stream = new PersistentStream({
    ...{ path, log, method: SyncService.policy },
    handler: {
      onConnect: (link) => void link.send({ member: 1, revision: 1 }),
      onMessage: () => undefined,
      onDisconnect: () => undefined,
    },
  });
  stream.start();
  await waitFor(() => policies.members.length === 1, { what: 'the member' });
  policies.close();
  const startMs = performance.now();
  await served[Symbol.asyncDispose]();
  assert.ok(performance.now() - startMs < grpcStopGraceMs * patience, 'it waited for its grace');
  stream.stop();
});
