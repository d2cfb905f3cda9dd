// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeResult } from './codec.ts';
import {
  DnsVerdict,
  FqdnEntry,
  ListFqdnResponse,
  MemberStatus,
  ObserveResponse,
  SyncAck,
  SyncBatch,
  SyncMessage,
} from './gen/messages.ts';
import { AdminService, SyncService } from './gen/services.ts';
import {
  dnsEventAddressesMax,
  fqdnEntrySelectorsMax,
  grpcMessageBytesMax,
  listPageRecordsMax,
  observePeerNamesMax,
  syncBatchRecordsMax,
  syncRecordBytesMax,
} from './limits.ts';

const nameBytesMax = 255;
const uint32Max = 0xffff_ffff;
const uint64Max = Number.MAX_SAFE_INTEGER;

test('64-bit fields decode to numbers, defaults too', () => {
  assert.equal(typeof SyncAck.decode(new Uint8Array(0)).epoch, 'number');
  const values = [0, 1, 2 ** 32, uint64Max];
  for (const epoch of values) {
    const decoded = SyncAck.decode(SyncAck.encode({ epoch }));
    assert.equal(typeof decoded.epoch, 'number');
    assert.equal(decoded.epoch, epoch);
  }
  // Above 2^53 the number is the nearest one, and the same after another trip.
  const epoch = SyncAck.decode(SyncAck.encode({ epoch: 2 ** 60 + 12_345 })).epoch;
  assert.equal(SyncAck.decode(SyncAck.encode({ epoch })).epoch, epoch);
  assert.equal(typeof MemberStatus.decode(MemberStatus.encode({})).beatAgeUs, 'number');
});

test('a signed field keeps its sign', () => {
  assert.equal(FqdnEntry.decode(FqdnEntry.encode({ expiresInS: -30 })).expiresInS, -30);
});

test('absent fields are there when decoded: defaults, empty lists, null messages', () => {
  const batch = SyncBatch.decode(new Uint8Array(0));
  assert.deepEqual([batch.sequence, batch.cacheEnd, batch.mappings], [0, false, []]);
  const message = SyncMessage.decode(new Uint8Array(0));
  assert.equal(message.kind, undefined);
  assert.equal(message.batch, null);
  const full = SyncMessage.decode(SyncMessage.encode({ batch: { mappings: [{ trusted: true }] } }));
  assert.equal(full.kind, 'batch');
  assert.equal(full.batch?.mappings[0]?.trusted, true);
  assert.equal(full.batch?.mappings[0]?.name.length, 0);
});

test('a mapping without a scope does not count', () => {
  const mapping = SyncBatch.decode(SyncBatch.encode({ mappings: [{}] })).mappings[0];
  assert.equal(mapping?.trusted, false);
  assert.equal(mapping?.policyId, 0);
});

test('malformed bytes are a value', () => {
  const good = SyncMessage.encode({ hello: { member: 1, epoch: 5, version: 'x' } });
  assert.equal(decodeResult(SyncMessage, good).ok, true);
  const cut = decodeResult(SyncMessage, good.subarray(0, good.length - 1));
  assert.equal(cut.ok, false);
  assert.match(cut.ok ? '' : cut.error, /^not a tandem\.v1\.SyncMessage: /);
  const group = decodeResult(SyncMessage, new Uint8Array(10_000).fill(0x0b));
  assert.equal(group.ok, false);
});

test('unknown fields are skipped and not kept', () => {
  const bytes = Uint8Array.of(0xfa, 0x01, 0x03, 1, 2, 3, 0x10, 0x07); // field 31, then sequence 7
  const ack = SyncAck.decode(bytes);
  assert.equal(ack.sequence, 7);
  assert.deepEqual(Object.keys(ack), ['sequence']);
});

test('the largest batch and pages fit a gRPC message', () => {
  const name = new Uint8Array(nameBytesMax).fill(97);
  const address = new Uint8Array(16).fill(255);
  const mapping = {
    name,
    address,
    expiresS: uint32Max,
    namespaceId: uint32Max,
    trusted: true,
    policyId: uint32Max,
    server: address,
  };
  const dnsEvent = {
    timeNs: uint64Max,
    member: 3,
    endpointId: uint32Max,
    source: address,
    name,
    qtype: 65_535,
    rcode: 15,
    verdict: DnsVerdict.DNS_VERDICT_UPSTREAM_ERROR,
    server: address,
    protocol: 17,
    latencyUs: uint32Max,
    addresses: Array.from({ length: dnsEventAddressesMax }, () => address),
    addressCount: uint32Max,
    lifetimeS: uint32Max,
    replayed: true,
  };
  const records = <T>(length: number, value: T): T[] => Array.from({ length }, () => value);
  const sizes = [
    SyncBatch.encode({ mappings: records(syncBatchRecordsMax, mapping) }),
    SyncBatch.encode({ dnsRecords: new Uint8Array(syncRecordBytesMax) }),
    ListFqdnResponse.encode({
      entries: records(listPageRecordsMax, {
        mapping,
        expiresInS: -1,
        selectorIds: records(fqdnEntrySelectorsMax, uint32Max),
      }),
    }),
    ObserveResponse.encode({ dns: dnsEvent, peerNames: records(observePeerNamesMax, name) }),
  ];
  for (const bytes of sizes) assert.ok(bytes.length < grpcMessageBytesMax, `${bytes.length}`);
});

test('services name their methods and streams as the .proto files do', () => {
  const rows = [...Object.values(SyncService), ...Object.values(AdminService)].map((method) => [
    method.path,
    method.requestStream,
    method.responseStream,
  ]);
  assert.deepEqual(rows, [
    ['/tandem.v1.Sync/Policy', true, true],
    ['/tandem.v1.Sync/Exchange', true, true],
    ['/tandem.v1.Admin/Status', false, false],
    ['/tandem.v1.Admin/ListEndpoints', false, true],
    ['/tandem.v1.Admin/ListFqdn', false, true],
    ['/tandem.v1.Admin/Observe', false, true],
    ['/tandem.v1.Admin/GetMetrics', false, false],
  ]);
  const bytes = SyncService.policy.requestSerialize({ revision: 7 });
  assert.ok(Buffer.isBuffer(bytes));
  assert.equal(SyncService.policy.requestDeserialize(bytes).revision, 7);
});
