// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdEvent } from '@tandem/datapath/abi.gen';
import { SyncMessage, type SyncMessageInit } from '@tandem/proto/gen/messages';
import { address, dnsRecord, dropRecord, wireName } from '../../test/records.ts';
import { mappingsOf, smallStore } from '../../test/small-store.ts';
import { ringRecordBytes } from '../drops/ledger.ts';
import { flagTrusted, flagUnselected } from '../records/dns-event.ts';
import { encodeLoss, ringOf } from '../records/loss-record.ts';
import { Exchange, type ExchangePort } from './exchange.ts';
import {
  backlogBytesMax,
  batchesInFlightMax,
  forwardedDnsBurst,
  forwardedDnsPerSecond,
  forwardedDropsBurst,
} from './limits.ts';

class Port implements ExchangePort {
  readonly sent: SyncMessage[] = [];
  isWritable = true;
  isClosed = false;

  send(message: SyncMessageInit): boolean {
    this.sent.push(SyncMessage.decode(SyncMessage.encode(message)));
    return true;
  }

  close(): void {
    this.isClosed = true;
  }
}

function member(epoch = 1000): {
  store: ReturnType<typeof smallStore>;
  exchange: Exchange;
  receive: (port: Port, message: SyncMessageInit) => void;
} {
  const store = smallStore();
  const exchange = new Exchange({
    member: 0,
    epoch,
    version: '1.2.3',
    cache: store.cache,
    sink: store,
  });
  const receive = (port: Port, message: SyncMessageInit): void =>
    exchange.receive(port, SyncMessage.decode(SyncMessage.encode(message)));
  return { store, exchange, receive };
}

const hello = (epoch: number): SyncMessageInit => ({ hello: { member: 1, epoch, version: '2' } });

test('a stream begins with what was applied of the other side', () => {
  const { exchange, receive } = member();
  const first = new Port();
  exchange.open(first);
  assert.equal(first.sent[0]?.hello?.epoch, 1000);
  assert.equal(first.sent[0]?.hello?.peerEpoch, 0);
  assert.equal(exchange.isConnected, false);
  receive(first, hello(5));
  assert.equal(exchange.isConnected, true);
  receive(first, { batch: { sequence: 41 } });
  exchange.closed(first);
  assert.equal(exchange.isConnected, false);
  const second = new Port();
  exchange.open(second);
  assert.equal(second.sent[0]?.hello?.peerEpoch, 5);
  assert.equal(second.sent[0]?.hello?.peerSequence, 41);
});

test('an acknowledgement goes beside our next batch, or at once when half of what may be in flight waits for it', () => {
  const { exchange, receive } = member();
  const port = new Port();
  receive(port, hello(5));
  exchange.tick(0, 0);
  const sent = (): string[] =>
    port.sent
      .splice(0)
      .map(({ ack, batch }) => (ack ? `ack ${ack.sequence}` : `batch ${batch?.sequence}`));
  sent();
  receive(port, { batch: { sequence: 1 } });
  const event = dnsRecord({ name: 'a.example' });
  exchange.offerDns(event, 0, event.length, false);
  assert.deepEqual(sent(), []);
  const last = exchange.outbox.lastSequence;
  exchange.tick(100, 0);
  assert.deepEqual(sent(), ['ack 1', `batch ${last + 1}`]);
  exchange.tick(200, 0);
  assert.deepEqual(sent(), []);
  const half = batchesInFlightMax / 2;
  for (let i = 2; i <= half; i++) receive(port, { batch: { sequence: i } });
  assert.deepEqual(sent(), []);
  receive(port, { batch: { sequence: half + 1 } });
  assert.deepEqual(sent(), [`ack ${half + 1}`]);
});

test('an earlier life, or our own index, does not take over', () => {
  const { exchange, receive } = member();
  const good = new Port();
  receive(good, hello(5));
  for (const message of [hello(4), { hello: { member: 0, epoch: 9 } }]) {
    const port = new Port();
    receive(port, message);
    assert.equal(port.isClosed, true);
  }
  assert.equal(good.isClosed, false);
  assert.equal(exchange.isConnected, true);
  const later = new Port();
  receive(later, hello(6));
  assert.deepEqual([good.isClosed, later.isClosed], [true, false]);
  assert.equal(exchange.counters.protocolErrors, 2);
});

test('a run of the future does not shut out those that come', () => {
  const { exchange, receive } = member();
  exchange.tick(0, 5000);
  for (const epoch of [5062e9, 2 ** 63]) {
    const port = new Port();
    receive(port, hello(epoch));
    assert.deepEqual([port.isClosed, exchange.isConnected], [true, false]);
  }
  const port = new Port();
  receive(port, hello(5001e9));
  assert.equal(exchange.isConnected, true);
});

test('an acknowledgement of what was never sent ends the stream', () => {
  const { exchange, receive } = member();
  const port = new Port();
  receive(port, hello(5));
  receive(port, { ack: { epoch: 1000, sequence: 99 } });
  assert.equal(port.isClosed, true);
  assert.equal(exchange.isConnected, false);
  const next = new Port();
  receive(next, hello(5));
  // Of another run of ours: not for us.
  receive(next, { ack: { epoch: 1, sequence: 99 } });
  assert.equal(next.isClosed, false);
});

test('records that are not whole teach nothing and are counted', () => {
  const { exchange, receive, store } = member();
  const port = new Port();
  receive(port, hello(5));
  const flags = flagTrusted | flagUnselected;
  const good = dnsRecord({ name: 'a.example', flags, addresses: [['192.0.2.1', 50]] });
  const cut = dnsRecord({ name: 'b.example', flags, addresses: [['192.0.2.2', 50]] });
  new DataView(cut.buffer).setUint32(0, cut.length + 1, true);
  const badName = dnsRecord({ name: 'c.example', flags, addresses: [['192.0.2.3', 50]] });
  badName[72] = 0x3f;
  receive(port, {
    batch: {
      sequence: 1,
      mappings: [
        {
          name: wireName('ok.example'),
          address: address('192.0.2.4'),
          expiresS: 60,
          trusted: true,
        },
        { name: wireName('nobody.example'), address: address('192.0.2.5'), expiresS: 60 },
        { name: Uint8Array.of(3, 97), address: address('192.0.2.5'), expiresS: 60, trusted: true },
        { name: new Uint8Array(0), address: address('192.0.2.5'), expiresS: 60, trusted: true },
        { name: wireName('short.example'), address: new Uint8Array(4), trusted: true },
      ],
      dnsRecords: Buffer.concat([good, cut, good]),
      dropRecords: Buffer.concat([dropRecord(), new Uint8Array(3)]),
    },
  });
  receive(port, { batch: { sequence: 2, dnsRecords: badName } });
  assert.equal(mappingsOf(store, 0).length, 2);
  assert.equal(store.events.next, 2);
  assert.equal(exchange.counters.recordsRefused, 7);
  assert.equal(port.isClosed, false);
});

test('events are told at a bounded rate, what teaches the cache always', () => {
  const { exchange, receive } = member();
  const port = new Port();
  exchange.tick(0, 0);
  receive(port, hello(5));
  const event = dnsRecord({ name: 'a.example' });
  const count = forwardedDnsBurst + 100;
  for (let i = 0; i < count; i++) exchange.offerDns(event, 0, event.length, false);
  assert.equal(exchange.counters.eventsLimited, 100);
  exchange.offerDns(event, 0, event.length, true);
  assert.equal(exchange.counters.eventsLimited, 100);
  assert.equal(exchange.outbox.mappingsLost, 0);
  exchange.tick(10, 0);
  for (let i = 0; i < 100; i++) exchange.offerDns(event, 0, event.length, false);
  assert.equal(exchange.counters.eventsLimited, 200 - forwardedDnsPerSecond / 100);
});

test('while the other is away memory is bounded, and what is lost is told', () => {
  const { exchange, receive } = member();
  const event = dnsRecord({ name: 'a.example' });
  const count = Math.ceil((backlogBytesMax * 2) / event.length);
  for (let i = 0; i < count; i++) exchange.offerDns(event, 0, event.length, true);
  assert.ok(exchange.outbox.waitingBytes <= backlogBytesMax);
  const { mappingsLost } = exchange.outbox;
  assert.ok(mappingsLost > 0 && mappingsLost < count);
  const port = new Port();
  receive(port, hello(5));
  assert.equal(port.sent.find(({ batch }) => batch !== null)?.batch?.mappingsLost, mappingsLost);
});

test('drop events that are not told are known to be missing; losses are always told', () => {
  const { exchange, receive } = member();
  const other = member(2000);
  const otherPort = new Port();
  other.receive(otherPort, hello(1000));
  const drop = dropRecord();
  const offer = (event: number): void => {
    const position = BigInt((event + 1) * ringRecordBytes);
    new DataView(drop.buffer).setBigUint64(tdEvent.position, position, true);
    exchange.offerDrop(drop, 0, drop.length);
  };
  const ring = ringOf(drop, 0);
  const count = forwardedDropsBurst + 50;
  for (let event = 0; event < count; event++) offer(event);
  const loss = encodeLoss({ timeNs: 1, reason: 'rate-limit', count: 7 });
  exchange.offerDrop(loss, 0, loss.length);
  const port = new Port();
  receive(port, hello(5));
  exchange.tick(0, 0);
  exchange.tick(100, 0);
  offer(count);
  exchange.tick(200, 0);
  const batches = port.sent.flatMap(({ batch }) => (batch === null ? [] : [batch]));
  for (const batch of batches) other.receive(otherPort, { batch });
  assert.equal(exchange.counters.eventsLimited, 50);
  assert.equal(other.exchange.counters.peerDropsLost, 50);
  assert.equal(other.store.drops.seen, forwardedDropsBurst + 1);
  assert.equal(other.store.drops.missing, 50);
  assert.equal(other.store.events.next, forwardedDropsBurst + 2);
  assert.equal(exchange.outbox.acknowledgedDropPosition(ring), 0, 'not before the other has it');
  receive(port, { ack: { epoch: 1000, sequence: batches.at(-1)?.sequence ?? 0 } });
  assert.equal(exchange.outbox.acknowledgedDropPosition(ring), (count + 1) * ringRecordBytes);
  // Positions of another ring, that of an agent of another version, begin at 0.
  assert.equal(exchange.outbox.acknowledgedDropPosition(ring + 1), 0);
  new DataView(drop.buffer).setUint32(tdEvent.ring, ring + 1, true);
  offer(3);
  exchange.tick(400, 0);
  const sequence = port.sent.at(-1)?.batch?.sequence ?? 0;
  receive(port, { ack: { epoch: 1000, sequence } });
  assert.equal(exchange.outbox.acknowledgedDropPosition(ring + 1), 4 * ringRecordBytes);
});

test('what lay in the ring at a takeover costs no new event its place', () => {
  const { exchange } = member();
  const drop = dropRecord();
  for (let i = 0; i < 2 * forwardedDropsBurst; i++) exchange.offerDrop(drop, 0, drop.length, true);
  for (let i = 0; i < forwardedDropsBurst; i++) exchange.offerDrop(drop, 0, drop.length);
  assert.equal(exchange.counters.eventsLimited, 0);
  exchange.offerDrop(drop, 0, drop.length);
  assert.equal(exchange.counters.eventsLimited, 1);
});

test('a backlog that lost its first drop events says where they began', () => {
  const { exchange, receive } = member();
  const other = member(2000);
  const otherPort = new Port();
  other.receive(otherPort, hello(1000));
  const drop = dropRecord();
  const events = Math.ceil((backlogBytesMax * 1.5) / drop.length);
  for (let event = 0; event < events; event++) {
    const position = BigInt((event + 1) * ringRecordBytes);
    new DataView(drop.buffer).setBigUint64(tdEvent.position, position, true);
    exchange.outbox.add('drop', drop, 0, drop.length, false);
  }
  const port = new Port();
  receive(port, hello(5));
  for (let at = 0, sent = 0; sent < port.sent.length || at < 50; at++) {
    for (; sent < port.sent.length; sent++) {
      const { batch } = port.sent[sent] as SyncMessage;
      if (batch === null) continue;
      other.receive(otherPort, { batch });
      receive(port, { ack: { epoch: 1000, sequence: batch.sequence } });
    }
    exchange.tick(at * 100, 0);
  }
  const { seen, missing } = other.store.drops;
  assert.equal(seen + missing, events);
  assert.equal(missing, exchange.outbox.eventsLost);
  assert.ok(missing > 0 && seen > 0);
});
