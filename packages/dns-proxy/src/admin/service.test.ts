// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Observers over gRPC: past and coming events, filters, slow readers, refusals. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { nameToText } from '@tandem/core/dns/name';
import { tdVerdict } from '@tandem/datapath/abi.gen';
import {
  EventType,
  EventVerdict,
  type ObserveRequestInit,
  type ObserveResponse,
} from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { GrpcClient } from '@tandem/runtime/grpc-client';
import { GrpcServer } from '@tandem/runtime/grpc-server';
import { silentLogger } from '@tandem/runtime/log';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { waitFor } from '@tandem/testing/wait';
import { adminContext, socketDirectory } from '../../test/admin-context.ts';
import { address, type DnsRecordSpec, dnsRecord, dropRecord } from '../../test/records.ts';
import { smallStore } from '../../test/small-store.ts';
import { dnsVerdict, flagLearned, flagTrusted } from '../records/dns-event.ts';
import type { NodeStore } from '../store/node-store.ts';
import { observersMax } from './limits.ts';
import { type Admin, createAdmin } from './service.ts';

interface Served extends AsyncDisposable {
  readonly store: NodeStore;
  readonly client: GrpcClient;
  readonly admin: Admin;
}

async function serve(eventsMax = 256): Promise<Served> {
  const directory = socketDirectory();
  const path = join(directory.path, 'admin.sock');
  const store = smallStore(eventsMax, 1 << 20);
  store.endpoints.update([
    {
      address: address('10.0.0.7'),
      endpointId: 7,
      namespace: 'shop',
      pod: 'web',
      policyId: 70,
      namespaceId: 3,
    },
    {
      address: address('10.0.0.8'),
      endpointId: 8,
      namespace: 'shop-2',
      pod: 'db',
      policyId: 70,
      namespaceId: 4,
    },
  ]);
  const admin = createAdmin(adminContext(store));
  const server = new GrpcServer({
    path,
    allowedUids: [process.getuid?.() ?? 0],
    log: silentLogger(),
  });
  server.addService(AdminService, admin.handlers);
  await server.start();
  const client = new GrpcClient({ path });
  const end = async (): Promise<void> => {
    client.close();
    await server.stop();
    directory[Symbol.dispose]();
  };
  return { store, client, admin, [Symbol.asyncDispose]: end };
}

function add(store: NodeStore, spec: DnsRecordSpec): void {
  const record = dnsRecord(spec);
  store.dnsRecord(record, 0, record.length);
}

const textOf = (event: ObserveResponse): string =>
  event.dns === null ? event.dropReason : nameToText(event.dns.name);

async function observe(client: GrpcClient, request: ObserveRequestInit): Promise<string[]> {
  const events: string[] = [];
  for await (const event of client.serverStream(AdminService.observe, request)) {
    events.push(textOf(event));
  }
  return events;
}

const nowUs = (): number => systemClock.boottimeSeconds() * 1e6;

test('past events by number, age, type, verdict, pod and name', async () => {
  await using served = await serve();
  const { store, client } = served;
  add(store, { name: 'a.example', timeUs: nowUs() });
  // Told late, by the other process.
  add(store, { name: 'old.example', timeUs: nowUs() - 100e6 });
  add(store, { name: 'b.test', timeUs: nowUs(), verdict: dnsVerdict.denied, endpointId: 8 });
  add(store, { name: 'c.test', timeUs: nowUs(), verdict: dnsVerdict.timeout });
  const timeNs = Math.round(nowUs() * 1000);
  store.dropRecord(dropRecord({ timeNs }), 0, 104);
  const audited = dropRecord({
    timeNs,
    endpointId: 8,
    verdict: tdVerdict.ALLOW,
    source: '10.0.0.8',
  });
  store.dropRecord(audited, 0, 104);
  const drop = 'drop_no_match';
  const dns = EventType.EVENT_TYPE_DNS;
  const rows: readonly (readonly [ObserveRequestInit, readonly string[]])[] = [
    [{}, []],
    [{ last: 100 }, ['old.example.', 'a.example.', 'b.test.', 'c.test.', drop, drop]],
    [{ last: 2 }, [drop, drop]],
    [{ last: 2, type: dns }, ['b.test.', 'c.test.']],
    [{ sinceS: 50, type: dns }, ['a.example.', 'b.test.', 'c.test.']],
    [{ last: 1, sinceS: 50, type: dns }, ['c.test.']],
    [{ last: 9, type: EventType.EVENT_TYPE_DROP }, [drop, drop]],
    [{ last: 9, verdict: EventVerdict.EVENT_VERDICT_ALLOWED }, ['old.example.', 'a.example.']],
    [{ last: 9, verdict: EventVerdict.EVENT_VERDICT_DENIED }, ['b.test.', drop]],
    [{ last: 9, verdict: EventVerdict.EVENT_VERDICT_ERROR }, ['c.test.']],
    [{ last: 9, verdict: EventVerdict.EVENT_VERDICT_AUDIT }, [drop]],
    [{ last: 9, pod: 'shop-2/db' }, ['b.test.', drop]],
    [{ last: 9, pod: 'shop/' }, ['old.example.', 'a.example.', 'c.test.', drop]],
    [{ last: 9, namePattern: '*.test' }, ['b.test.', 'c.test.']],
    [{ last: 9, namePattern: 'A.example' }, ['a.example.']],
    [{ last: 9, namePattern: '*' }, ['old.example.', 'a.example.', 'b.test.', 'c.test.']],
  ];
  for (const [request, want] of rows) {
    assert.deepEqual(await observe(client, request), want, JSON.stringify(request));
  }
});

test('events say who, and what the peer is called', async () => {
  await using served = await serve();
  const { store, client } = served;
  const flags = flagTrusted | flagLearned;
  const expires = Math.floor(nowUs() / 1e6) + 90;
  add(store, { name: 'www.example', flags, timeUs: nowUs(), addresses: [['192.0.2.1', expires]] });
  store.dropRecord(dropRecord({ timeNs: Math.round(nowUs() * 1000) }), 0, 104);
  const events: ObserveResponse[] = [];
  for await (const event of client.serverStream(AdminService.observe, { last: 9 })) {
    events.push(event);
  }
  const [dns, drop] = events;
  assert.equal(dns?.pod, 'shop/web');
  assert.ok(Math.abs(dns.timeUnixMs - Date.now()) < 5000);
  assert.ok(Math.abs((dns.dns?.lifetimeS ?? 0) - 90) <= 1);
  assert.equal(drop?.pod, 'shop/web');
  assert.deepEqual(
    drop.peerNames.map((name) => nameToText(name)),
    ['www.example.'],
  );
  assert.equal(drop.drop?.destinationPort, 443);
  assert.equal(drop.rule, '');
});

test('a drop names its rule and the tier of that, where the process knows rules', async () => {
  await using served = await serve();
  const { store, client } = served;
  const timeNs = Math.round(nowUs() * 1000);
  for (const ruleId of [8, 9, 0]) store.dropRecord(dropRecord({ timeNs, ruleId }), 0, 104);
  const rules: string[][] = [];
  for await (const event of client.serverStream(AdminService.observe, { last: 9 })) {
    rules.push([event.rule, event.ruleTier]);
  }
  const known = ['ClusterNetworkPolicy/a: spec.egress[0]', 'Admin tier'];
  assert.deepEqual(rules, [known, ['', ''], ['', '']]);
});

test('an observer that follows sees what comes, and ends when its client goes', async () => {
  await using served = await serve();
  const { store, client, admin } = served;
  add(store, { name: 'past.example', timeUs: nowUs() });
  const abort = new AbortController();
  const seen: string[] = [];
  const done = (async () => {
    const stream = client.serverStream(
      AdminService.observe,
      { last: 1, follow: true, namePattern: '*.example' },
      abort.signal,
    );
    for await (const event of stream) seen.push(textOf(event));
  })();
  await waitFor(() => seen.length === 1, { what: 'the past event' });
  add(store, { name: 'no.test', timeUs: nowUs() });
  add(store, { name: 'next.example', timeUs: nowUs() });
  await waitFor(() => seen.length === 2, { what: 'the next event' });
  assert.deepEqual(seen, ['past.example.', 'next.example.']);
  assert.equal(admin.observers, 1);
  abort.abort();
  await done;
  await waitFor(() => admin.observers === 0 && store.events.observers === 0, { what: 'its end' });
});

test('a slow observer is told what it missed, and holds no memory for it', async () => {
  await using served = await serve(64);
  const { store, client } = served;
  const abort = new AbortController();
  let got = 0;
  let lost = 0;
  const stream = client.serverStream(AdminService.observe, { follow: true }, abort.signal);
  let next = stream.next();
  await waitFor(() => store.events.observers === 1, { what: 'the observer' });
  const total = 50_000;
  // No client reads meanwhile: the loop is not given back.
  for (let i = 0; i < total; i++) add(store, { name: 'x.example', timeUs: i });
  while (got + lost < total) {
    const { value } = await next;
    assert.ok(value !== undefined);
    got += 1;
    lost += value.lost;
    next = stream.next();
  }
  assert.equal(got + lost, total);
  assert.ok(lost > total / 2);
  abort.abort();
  await next;
});

test('what cannot be asked is refused with a reason', async () => {
  await using served = await serve();
  const { client, admin, store } = served;
  const refusal = (status: string) => (error: unknown) => {
    assert.ok(error instanceof TandemError);
    assert.equal(error.facts['status'], status);
    return true;
  };
  await assert.rejects(observe(client, { pod: 'web' }), refusal('INVALID_ARGUMENT'));
  await assert.rejects(observe(client, { namePattern: 'a b' }), refusal('INVALID_ARGUMENT'));
  const abort = new AbortController();
  const streams = Array.from({ length: observersMax }, async () => {
    const request = { follow: true };
    for await (const _ of client.serverStream(AdminService.observe, request, abort.signal));
  });
  await waitFor(() => store.events.observers === observersMax, { what: 'all observers' });
  await assert.rejects(observe(client, { last: 1 }), refusal('RESOURCE_EXHAUSTED'));
  assert.equal(admin.counters.observersRefused, 1);
  abort.abort();
  await Promise.all(streams);
  // Without a kernel below status fails, and says so.
  await assert.rejects(client.unary(AdminService.status, {}), refusal('INTERNAL'));
});
