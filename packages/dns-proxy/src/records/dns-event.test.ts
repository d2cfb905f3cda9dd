// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadName, QueryView } from '@tandem/core/dns/query';
import { ReplyView } from '@tandem/core/dns/reply';
import { dnsEventAddressesMax } from '@tandem/proto/limits';
import { createSharedRing, SharedRingReader, SharedRingWriter } from '@tandem/runtime/shared-ring';
import * as fc from 'fast-check';
import { address, wireName } from '../../test/records.ts';
import { counter, createSharedCounters } from '../counters.ts';
import { ttlSecondsMax } from '../limits.ts';
import {
  type DnsEvent,
  DnsEventFields,
  DnsEventWriter,
  decodeDnsEvent,
  dnsRecordBytesMax,
  dnsVerdict,
  flagLearned,
  flagTrusted,
} from './dns-event.ts';

const seed = 20251121;
const key = { low: 1, high: 2 };

interface Told {
  readonly query: QueryView;
  readonly fields: DnsEventFields;
  readonly reply: ReplyView;
}

function told(name: string, addresses: readonly [text: string, ttl: number][]): Told {
  const query = new QueryView(key);
  const wire = wireName(name);
  assert.ok(loadName(query, wire, 0, wire.length));
  query.questionEnd = wire.length + 16;
  query.qtype = 28;
  const reply = new ReplyView(key);
  reply.addressCount = addresses.length;
  addresses.forEach(([text, ttl], i) => {
    reply.addresses.set(address(text), i * 16);
    reply.ttls[i] = ttl;
  });
  const fields = new DnsEventFields();
  const ends = new Uint8Array(32);
  ends.set(address('10.0.0.7'));
  ends.set(address('fd00::53'), 16);
  Object.assign(fields, {
    words: new Uint32Array(ends.buffer),
    verdict: dnsVerdict.allowed,
    protocol: 6,
    flags: flagTrusted | flagLearned,
    timeUs: 123_456_789.5,
    endpointId: 0x7fffffff,
    latencyUs: 250,
    clientPort: 65_535,
    policyId: 0x80000001,
    namespaceId: 3,
    rcode: 3,
    expiresBase: 1000,
    ttlSecondsMin: 5,
  });
  return { query, fields, reply };
}

function allThroughRing({ query, fields, reply }: Told, hasReply = true): DnsEvent[] {
  const ring = createSharedRing(1 << 16);
  const counters = createSharedCounters();
  new DnsEventWriter(new SharedRingWriter(ring), counters, 1).write(
    fields,
    query,
    hasReply ? reply : null,
  );
  const events: DnsEvent[] = [];
  new SharedRingReader(ring).drain((_kind, bytes, offset) => {
    const event = decodeDnsEvent(bytes, offset);
    assert.ok(event !== null);
    events.push(event);
  }, 10);
  return events;
}

function throughRing(what: Told, hasReply = true): DnsEvent {
  const [event, ...others] = allThroughRing(what, hasReply);
  assert.ok(event !== undefined && others.length === 0);
  return event;
}

test('what is written is read', () => {
  const event = throughRing(
    told('www.Example.test', [
      ['192.0.2.1', 60],
      ['2001:db8::1', 1],
      ['192.0.2.2', 0xffffffff],
    ]),
  );
  assert.deepEqual(event, {
    verdict: dnsVerdict.allowed,
    protocol: 6,
    member: 1,
    isTrusted: true,
    isLearned: true,
    timeUs: 123_456_789.5,
    endpointId: 0x7fffffff,
    latencyUs: 250,
    client: address('10.0.0.7'),
    server: address('fd00::53'),
    clientPort: 65_535,
    name: wireName('www.example.test'),
    qtype: 28,
    rcode: 3,
    policyId: 0x80000001,
    namespaceId: 3,
    addresses: [
      { address: address('192.0.2.1'), expires: 1060 },
      { address: address('2001:db8::1'), expires: 1005 },
      { address: address('192.0.2.2'), expires: 1000 + ttlSecondsMax },
    ],
  });
  assert.deepEqual(throughRing(told('a.test', [['192.0.2.1', 1]]), false).addresses, []);
});

test('names of every length and what is behind them are as they were', () => {
  for (let length = 1; length <= 63; length++) {
    const name = `${'n'.repeat(length)}.test`;
    const event = throughRing(told(name, [['2001:db8::1', 60]]));
    assert.deepEqual(event.name, wireName(name));
    assert.deepEqual(event.addresses, [{ address: address('2001:db8::1'), expires: 1060 }]);
    assert.deepEqual(throughRing(told(name, []), false).name, wireName(name));
  }
});

test('an RCODE over 255 is taken for 255, and is no part of another field', () => {
  for (const rcode of [23, 255, 0xfff]) {
    const what = told('www.example.com', []);
    what.fields.rcode = rcode;
    const event = throughRing(what);
    assert.deepEqual([event.rcode, event.qtype], [Math.min(rcode, 255), 28]);
  }
});

test('the longest event fits; further addresses are in records of their own if the name caches want them', () => {
  const labels = ['a', 'b', 'c', 'd'].map((letter, i) => letter.repeat(i === 3 ? 61 : 63));
  const many = Array.from({ length: 40 }, (_, i): [string, number] => [`192.0.2.${i}`, 60]);
  const taught = told(labels.join('.'), many);
  const events = allThroughRing(taught);
  assert.ok(events.every(({ name }) => name.length === 255));
  const counts = events.map(({ addresses }) => addresses.length);
  assert.deepEqual(counts, [dnsEventAddressesMax, dnsEventAddressesMax, 8]);
  assert.deepEqual(
    events.flatMap(({ addresses }) => addresses.map((each) => each.address)),
    many.map(([text]) => address(text)),
  );
  taught.fields.flags = flagTrusted;
  assert.equal(throughRing(taught).addresses.length, dnsEventAddressesMax);
});

test('a full ring is counted, not waited for', () => {
  const ring = createSharedRing(4096);
  const counters = createSharedCounters();
  const writer = new DnsEventWriter(new SharedRingWriter(ring), counters, 0);
  const { fields, query, reply } = told('a.test', []);
  let written = 0;
  for (let i = 0; i < 100; i++) if (writer.write(fields, query, reply)) written += 1;
  const lost = counters[counter.eventsLost]!;
  let read = 0;
  new SharedRingReader(ring).drain(() => {
    read += 1;
  }, 1000);
  assert.equal(read + lost, 100);
  assert.equal(read, written);
  assert.ok(lost > 0 && read > 0);
});

test('bytes that are no whole record are refused, whatever they are', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: dnsRecordBytesMax }),
      fc.nat(dnsRecordBytesMax),
      (bytes, length) => {
        if (bytes.length >= 4) new DataView(bytes.buffer).setUint32(0, length, true);
        const event = decodeDnsEvent(bytes);
        if (event === null) return;
        assert.equal(72 + event.name.length + 20 * event.addresses.length, length);
        assert.ok(length <= bytes.length);
      },
    ),
    { seed, numRuns: 2000 },
  );
  assert.equal(decodeDnsEvent(new Uint8Array(), 0), null);
});
