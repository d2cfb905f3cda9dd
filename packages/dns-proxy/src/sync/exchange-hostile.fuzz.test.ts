// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Any messages of the other process, in any order, whether it is of another version or in the hands of an attacker: nothing throws or hangs. */

import { test } from 'node:test';
import { tdEvent } from '@tandem/datapath/abi.gen';
import { ObserveResponse, SyncMessage, type SyncMessageInit } from '@tandem/proto/gen/messages';
import { systemClock } from '@tandem/runtime/system-clock';
import * as fc from 'fast-check';
import { dnsRecord, dropRecord, wireName } from '../../test/records.ts';
import { smallStore } from '../../test/small-store.ts';
import { eventMessage } from '../admin/event-message.ts';
import { ringRecordBytes } from '../drops/ledger.ts';
import { PeerNames } from '../store/peer-names.ts';
import { Exchange } from './exchange.ts';

const seed = 20_261_201;
const word = fc.oneof(fc.constantFrom(0, 1, 2 ** 31, 2 ** 32 - 1), fc.nat(20));
const long = fc.oneof(word, fc.constantFrom(2 ** 53, 2 ** 63, 5e9));
const octet = fc.constantFrom(0, 1, 63, 64, 192, 255);

/** `bytes` with some octets that are others. */
const changed = (bytes: Uint8Array): fc.Arbitrary<Uint8Array> =>
  fc.array(fc.tuple(fc.nat(bytes.length - 1), octet), { maxLength: 3 }).map((changes) => {
    const copy = bytes.slice();
    for (const [at, value] of changes) copy[at] = value;
    return copy;
  });

const dns = fc
  .nat(15)
  .chain((flags) =>
    changed(dnsRecord({ name: 'a.example', flags, addresses: [['192.0.2.1', 50]] })),
  );
const place = fc.oneof(
  fc.nat(200).map((event) => event * ringRecordBytes),
  fc.constantFrom(7, 2 ** 40, 2 ** 63),
);
const drop = fc.tuple(changed(dropRecord()), place, fc.nat(2)).map(([bytes, position, ring]) => {
  const view = new DataView(bytes.buffer);
  view.setBigUint64(tdEvent.position, BigInt(position), true);
  view.setUint32(tdEvent.ring, ring, true);
  return bytes;
});
const mapping = fc.record({
  name: changed(wireName('b.example')),
  address: fc.constantFrom(16, 16, 16, 4, 17).map((length) => new Uint8Array(length)),
  ...{ expiresS: word, namespaceId: word, trusted: fc.boolean(), policyId: word },
});
const together = (records: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> =>
  fc.array(records, { maxLength: 3 }).map((all) => Buffer.concat(all));
const batch = fc.record({
  sequence: long,
  mappings: fc.array(mapping, { maxLength: 3 }),
  dnsRecords: together(dns),
  dropRecords: together(drop),
  ...{ eventsLost: word, mappingsLost: word, cacheEnd: fc.boolean(), dropsLost: word },
  ...{ dropsSince: place, dropsRing: fc.nat(2) },
});
const hello = fc.record({
  member: fc.oneof(fc.constant(1), word),
  epoch: fc.oneof(fc.constant(5), long),
  peerEpoch: fc.oneof(fc.constant(1000), long),
  peerSequence: long,
});
const ack = fc.record({ epoch: fc.oneof(fc.constant(1000), long), sequence: long });
const step = fc.record({
  message: fc.oneof(
    { weight: 1, arbitrary: hello.map((each): SyncMessageInit => ({ hello: each })) },
    { weight: 1, arbitrary: ack.map((each): SyncMessageInit => ({ ack: each })) },
    { weight: 6, arbitrary: batch.map((each): SyncMessageInit => ({ batch: each })) },
  ),
  isNewStream: fc.boolean(),
  passesMs: fc.constantFrom(0, 0, 100, 4000),
});

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

/** Without the ring of the kernel, a process knows no end of it. */
function receive(steps: readonly Step[], hasRing: boolean): void {
  const store = smallStore();
  if (hasRing) {
    store.drops.lastPosition = () => 100 * ringRecordBytes;
    store.drops.begin(3 * ringRecordBytes, 1);
  }
  const options = { member: 0, epoch: 1000, version: 'test' };
  const exchange = new Exchange({ ...options, cache: store.cache, sink: store });
  const newPort = (): Parameters<Exchange['receive']>[0] => ({
    isWritable: true,
    send: (message) => SyncMessage.encode(message).length > 0,
    close: () => undefined,
  });
  let nowMs = 0;
  let port = newPort();
  exchange.receive(
    port,
    SyncMessage.decode(SyncMessage.encode({ hello: { member: 1, epoch: 5 } })),
  );
  for (const { message, isNewStream, passesMs } of steps) {
    if (isNewStream) port = newPort();
    exchange.receive(port, SyncMessage.decode(SyncMessage.encode(message)));
    nowMs += passesMs;
    exchange.tick(nowMs, Math.floor(nowMs / 1000));
    store.tick(nowMs);
    store.cache.expire(Math.floor(nowMs / 1000), 100);
  }
  const names = new PeerNames(store.cache, () => nowMs);
  const around = { store, names, clock: systemClock, ruleOf: () => undefined };
  for (let event = store.events.first; event < store.events.next; event++) {
    const message = eventMessage(around, event);
    if (message !== null) ObserveResponse.decode(ObserveResponse.encode(message));
  }
}

for (const hasRing of [true, false]) {
  test(`any messages${hasRing ? '' : ', while the ring of events cannot be opened'}`, () => {
    const runs = fc.property(fc.array(step, { maxLength: 40 }), (steps) => receive(steps, hasRing));
    fc.assert(runs, { seed, numRuns: 400 });
  });
}
