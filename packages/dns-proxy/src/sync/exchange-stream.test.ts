// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Two stores that meet over gRPC on a unix socket, and end and begin again. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SyncService } from '@tandem/proto/gen/services';
import { GrpcServer } from '@tandem/runtime/grpc-server';
import { silentLogger } from '@tandem/runtime/log';
import { patience, waitFor } from '@tandem/testing/wait';
import { socketDirectory } from '../../test/admin-context.ts';
import { dnsRecord, dropRecord } from '../../test/records.ts';
import { mappingsOf, smallStore } from '../../test/small-store.ts';
import { flagLearned, flagTrusted } from '../records/dns-event.ts';
import type { NodeStore } from '../store/node-store.ts';
import { Exchange } from './exchange.ts';
import { createExchangeClient, exchangeHandler } from './exchange-stream.ts';
import { exchangeEndMs } from './limits.ts';

const log = silentLogger();
let lives = 0;

interface Process extends AsyncDisposable {
  readonly store: NodeStore;
  readonly exchange: Exchange;
}

/** A run of one process; its exchange ticks faster than in production. */
async function begin(role: 'agent' | 'proxy', path: string): Promise<Process> {
  const store = smallStore(16_384, 4 << 20);
  const exchange = new Exchange({
    member: role === 'agent' ? 0 : 1,
    epoch: ++lives,
    version: `life ${lives}`,
    cache: store.cache,
    sink: store,
  });
  const timer = setInterval(() => exchange.tick(performance.now(), 0), 5);
  let stop: () => Promise<void>;
  if (role === 'agent') {
    const server = new GrpcServer({ path, allowedUids: [process.getuid?.() ?? 0], log });
    server.addService(SyncService, {
      policy: (call) => call.end(),
      exchange: exchangeHandler(exchange),
    });
    await server.start();
    stop = () => server.stop();
  } else {
    const client = createExchangeClient(exchange, path, log);
    client.start();
    stop = async () => client.stop();
  }
  const end = async (): Promise<void> => {
    clearInterval(timer);
    await stop();
  };
  return { store, exchange, [Symbol.asyncDispose]: end };
}

let names = 0;

/** A name that the process's own worker learned. */
function learn({ store, exchange }: Process): void {
  names += 1;
  const flags = flagTrusted | flagLearned;
  const addresses = [[`192.0.2.${names % 250}`, 1000 + names] as const];
  const record = dnsRecord({ name: `n${names % 200}.example`, flags, addresses });
  const isNews = store.dnsRecord(record, 0, record.length);
  exchange.offerDns(record, 0, record.length, isNews);
}

async function agree(a: Process, b: Process): Promise<void> {
  await waitFor(
    () => {
      const [left, right] = [mappingsOf(a.store, 0), mappingsOf(b.store, 0)];
      assert.deepEqual(left, right);
      return left.length > 0;
    },
    { what: 'equal caches' },
  );
}

test('names and events go both ways; each life that is new gets the whole cache', async () => {
  using directory = socketDirectory();
  const path = join(directory.path, 'sync.sock');
  await using proxy = await begin('proxy', path);
  for (let i = 0; i < 20; i++) learn(proxy);
  {
    await using agent = await begin('agent', path);
    for (let i = 0; i < 20; i++) learn(agent);
    const drop = dropRecord();
    agent.exchange.offerDrop(drop, 0, drop.length);
    await agree(proxy, agent);
    assert.equal(mappingsOf(agent.store, 0).length, 40);
    await waitFor(() => proxy.store.events.next === 41, { what: 'events of both' });
    assert.equal(proxy.exchange.peerVersion, `life ${lives}`);
    // What it has not acknowledged is sent to its next run, too.
    await waitFor(() => proxy.exchange.outbox.isIdle, { what: 'all to be acknowledged' });
  }
  await waitFor(() => !proxy.exchange.isConnected, { what: 'the end of the stream' });
  for (let i = 0; i < 20; i++) learn(proxy);
  {
    await using agent = await begin('agent', path);
    await agree(proxy, agent);
    assert.equal(mappingsOf(agent.store, 0).length, 60);
    // Events that it missed, once; events that its former run received count for that run.
    await waitFor(() => agent.store.events.next >= 20, { what: 'the events missed' });
    assert.equal(agent.store.events.next, 20);
    assert.ok(agent.exchange.counters.cachesReceived >= 1);
    await using second = await begin('proxy', path);
    await agree(agent, second);
  }
});

test('more than a batch and more than the window hold', async () => {
  using directory = socketDirectory();
  const path = join(directory.path, 'sync.sock');
  await using proxy = await begin('proxy', path);
  await using agent = await begin('agent', path);
  await waitFor(() => agent.exchange.isConnected && proxy.exchange.isConnected, {
    what: 'the exchange',
  });
  const count = 12_000;
  const record = dnsRecord({ name: 'burst.example' });
  // As mappings, which no rate bounds.
  for (let i = 0; i < count; i++) proxy.exchange.offerDns(record, 0, record.length, true);
  await waitFor(() => agent.store.events.next === count, { what: 'all events' });
  assert.equal(proxy.exchange.outbox.eventsLost, 0);
  assert.deepEqual(
    [agent.exchange.counters.recordsRefused, agent.exchange.counters.protocolErrors],
    [0, 0],
  );
});

test('what a process learns last is more than a message', async () => {
  using directory = socketDirectory();
  const path = join(directory.path, 'sync.sock');
  await using staying = await begin('proxy', path);
  const count = 3000;
  {
    await using ending = await begin('agent', path);
    await waitFor(() => staying.exchange.isConnected && ending.exchange.isConnected, {
      what: 'the exchange',
    });
    await waitFor(() => ending.exchange.outbox.isIdle, { what: 'nothing to send' });
    const record = dnsRecord({ name: 'last.example' });
    for (let i = 0; i < count; i++) ending.exchange.offerDns(record, 0, record.length, true);
    ending.exchange.tick(performance.now(), 0);
    ending.exchange.end();
    // Nothing is sent after the end, however long it is waited for.
    await waitFor(() => staying.store.events.next === count, {
      what: 'all records',
      state: () => `${staying.store.events.next} of ${count}`,
    });
  }
});

for (const role of ['agent', 'proxy'] as const) {
  test(`what the ${role} learned last reaches the other process, also if it ends at once`, async () => {
    using directory = socketDirectory();
    const path = join(directory.path, 'sync.sock');
    const other = role === 'agent' ? 'proxy' : 'agent';
    await using staying = await begin(other, path);
    {
      await using ending = await begin(role, path);
      await waitFor(() => staying.exchange.isConnected && ending.exchange.isConnected, {
        what: 'the exchange',
      });
      for (let i = 0; i < 20; i++) learn(ending);
      ending.exchange.tick(performance.now(), 0);
      ending.exchange.end();
      await delay(exchangeEndMs * patience);
    }
    assert.equal(mappingsOf(staying.store, 0).length, 20);
  });
}
