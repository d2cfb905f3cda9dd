// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadName, QueryView } from '@tandem/core/dns/query';
import { ReplyView } from '@tandem/core/dns/reply';
import { createSharedRing, SharedRingReader, SharedRingWriter } from '@tandem/runtime/shared-ring';
import { address, dnsRecord, wireName } from '../../test/records.ts';
import { mappingsOf, smallStore } from '../../test/small-store.ts';
import { createSharedCounters } from '../counters.ts';
import { FedRevision } from '../store/fed-revision.ts';
import {
  DnsEventFields,
  DnsEventWriter,
  decodeDnsEvent,
  dnsVerdict,
  flagLearned,
  flagTrusted,
  flagUnselected,
} from './dns-event.ts';
import { dnsRecordLength } from './dns-records.ts';

const learned = { name: 'www.example', addresses: [['192.0.2.1', 100]] } as const;

test('the worker writes what is read here', () => {
  const ring = createSharedRing(4096);
  const key = { low: 1, high: 2 };
  const query = new QueryView(key);
  const name = wireName('WWW.example');
  assert.ok(loadName(query, name, 0, name.length));
  query.questionEnd = 12 + name.length + 4;
  query.qtype = 1;
  const reply = new ReplyView(key);
  reply.addressCount = 2;
  reply.addresses.set(address('192.0.2.1'), 0);
  reply.addresses.set(address('2001:db8::1'), 16);
  reply.ttls[0] = 30;
  reply.ttls[1] = 0xffff_ffff;
  const fields = new DnsEventFields();
  fields.verdict = dnsVerdict.allowed;
  fields.flags = flagTrusted | flagLearned;
  fields.timeUs = 1_234_567.5;
  fields.endpointId = 7;
  fields.policyId = 70;
  fields.namespaceId = 3;
  fields.expiresBase = 1000;
  fields.ttlSecondsMin = 60;
  new DnsEventWriter(new SharedRingWriter(ring), createSharedCounters(), 1).write(
    fields,
    query,
    reply,
  );
  const store = smallStore();
  const count = new SharedRingReader(ring).drain((_kind, bytes, at, length) => {
    assert.equal(dnsRecordLength(bytes, at), length);
    const event = decodeDnsEvent(bytes, at);
    assert.equal(event?.timeUs, 1_234_567.5);
    assert.deepEqual(
      event.addresses.map(({ expires }) => expires),
      [1060, 1000 + 604_800],
    );
    assert.equal(store.dnsRecord(bytes, at, length), true);
  }, 10);
  assert.equal(count, 1);
  assert.deepEqual(
    mappingsOf(store, 0).map(({ expires, scope, namespaceId }) => [expires, scope, namespaceId]),
    [
      [1060, 0, 3],
      [605_800, 0, 3],
    ],
  );
});

test('all addresses of an answer that taught something are known, and it is one event', () => {
  const ring = createSharedRing(1 << 14);
  const query = new QueryView({ low: 1, high: 2 });
  const name = wireName('many.example');
  assert.ok(loadName(query, name, 0, name.length));
  query.questionEnd = 12 + name.length + 4;
  const reply = new ReplyView({ low: 1, high: 2 });
  reply.addressCount = 40;
  for (let i = 0; i < 40; i++) reply.addresses.set(address(`192.0.2.${i}`), i * 16);
  const fields = new DnsEventFields();
  Object.assign(fields, { flags: flagUnselected | flagTrusted, namespaceId: 3, expiresBase: 1000 });
  const writer = new DnsEventWriter(new SharedRingWriter(ring), createSharedCounters(), 1);
  assert.ok(writer.write(fields, query, reply));
  const store = smallStore();
  new SharedRingReader(ring).drain((_kind, bytes, at, length) => {
    assert.equal(dnsRecordLength(bytes, at), length);
    assert.ok(store.dnsRecord(bytes, at, length));
  }, 10);
  assert.equal(mappingsOf(store, 0).length, 40);
  assert.equal(store.events.next, 1);
});

test('only answers that taught something are news, and only once', () => {
  const store = smallStore();
  const rows = [
    [{ ...learned, flags: 0 }, false],
    [{ ...learned, flags: flagTrusted }, false],
    [{ ...learned, flags: flagTrusted | flagLearned }, true],
    [{ ...learned, flags: flagTrusted | flagLearned }, false],
    [{ ...learned, flags: flagUnselected, policyId: 70 }, true],
    [{ ...learned, flags: flagUnselected, policyId: 0 }, false],
    [{ name: 'www.example', flags: flagTrusted | flagLearned }, false],
  ] as const;
  for (const [spec, want] of rows) {
    const record = dnsRecord(spec);
    assert.equal(store.dnsRecord(record, 0, record.length), want, JSON.stringify(spec));
  }
  assert.deepEqual(
    mappingsOf(store, 0).map(({ scope }) => scope),
    [0, 70],
  );
});

test('a record that is not whole has no length', () => {
  const good = dnsRecord(learned);
  assert.equal(dnsRecordLength(good, 0), good.length);
  for (let cut = 0; cut < good.length; cut++) {
    assert.equal(dnsRecordLength(good.subarray(0, cut), 0), 0);
  }
  // Whatever one octet of the lengths is, nothing beyond the record is believed.
  for (const at of [0, 1, 2, 3, 58, 59, 60, 72]) {
    // Labels over 63 octets; a shorter one may be another whole name.
    for (let octet = at === 72 ? 64 : 0; octet < 256; octet++) {
      const bad = good.slice();
      if (bad[at] === octet) continue;
      bad[at] = octet;
      assert.equal(dnsRecordLength(bad, 0), 0, `octet ${at} = ${octet}`);
    }
  }
});

test('names that come after new selectors were fed, and were answered before, are told once', () => {
  const store = smallStore();
  const take = (name: string, timeUs: number): void => {
    const bytes = dnsRecord({ ...learned, name, timeUs, flags: flagLearned | flagTrusted });
    store.dnsRecord(bytes, 0, bytes.length);
  };
  take('before.example', 10e6);
  assert.equal(store.takeLateNames(), false, 'nothing was fed yet');
  store.feedsNames(new FedRevision(1, { revisionOf: () => 1 }, () => 20));
  take('after.example', 22e6);
  assert.equal(store.takeLateNames(), false);
  take('before.example', 15e6);
  assert.equal(store.takeLateNames(), false, 'known');
  take('late.example', 15e6);
  assert.equal(store.takeLateNames(), true);
  assert.equal(store.takeLateNames(), false);
});
