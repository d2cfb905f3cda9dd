// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { type Prefix, parsePrefix } from '@tandem/core/net/ip';
import * as fc from 'fast-check';
import {
  TD_NAT64_MAX,
  tdClassKey,
  tdConfig,
  tdDnsServerKey,
  tdNat64,
  tdPolicyKey,
} from './abi.gen.ts';
import { type DatapathConfig, encodeConfig, isMark, isNat64Prefix } from './config.ts';
import {
  decodeEndpoint,
  encodeClass,
  encodeDnsServer,
  encodeEndpoint,
  encodePolicy,
} from './encode.ts';

const seed = 20251121;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const address = Uint8Array.from({ length: 16 }, (_, i) => 0xa0 + i);

test('an endpoint comes back as it was', () => {
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const endpoints = fc.record({
    endpointId: u32,
    policyId: u32.map((id) => id as PolicyId),
    vethIfindex: u32,
    l3Ifindex: u32,
    classId: u32,
    flags: u32,
    namespaceId: u32.map((id) => id as NamespaceId),
    bridgeMac: fc.uint8Array({ minLength: 6, maxLength: 6 }),
    mac: fc.uint8Array({ minLength: 6, maxLength: 6 }),
  });
  fc.assert(
    fc.property(endpoints, (endpoint) => {
      const { key, value } = encodeEndpoint(address, endpoint);
      assert.deepEqual(key, address);
      assert.deepEqual(decodeEndpoint(value), { ...endpoint });
    }),
    { seed },
  );
});

test('keys are laid out as the kernel compares them', () => {
  const { key: classKey } = encodeClass(address, 104, 0, 0);
  assert.equal(hex(classKey), `68000000${hex(address)}`);
  assert.equal(classKey.length, tdClassKey.size);
  const policy = {
    policyId: 0x01020304 as PolicyId,
    peer: 0x80000005,
    direction: 1,
    protocol: 17,
    port: 0x1234,
    prefixLength: 96,
    verdict: 3,
    ruleId: 7,
  };
  const { key, value } = encodePolicy(policy);
  assert.equal(hex(key), '60000000040302010500008001111234', 'the port in network order');
  assert.equal(key.length, tdPolicyKey.size);
  assert.equal(hex(value), '0300000007000000');
  const decided = encodePolicy({ ...policy, isDecided: true });
  assert.equal(hex(decided.value), '8300000007000000', 'and TD_VERDICT_DECIDED');
  const { key: serverKey } = encodeDnsServer(9 as PolicyId, address, 6, 1);
  assert.equal(hex(serverKey), `09000000${hex(address)}06000000`);
  assert.equal(serverKey.length, tdDnsServerKey.size);
});

test('a mark is one bit', () => {
  for (const mark of [1, 0x1000, 0x80000000]) assert.ok(isMark(mark), mark.toString(16));
  for (const mark of [0, -1, 0.5, 0x3000, 0x80000001, 2 ** 32]) {
    assert.ok(!isMark(mark), mark.toString(16));
  }
});

const settings: DatapathConfig = {
  mark: 0x1000,
  port: 0x2745,
  ownerUid: 1,
  netnsCookie: 2n ** 63n,
  staleNs: 100_000_000,
  fqdnIdleSeconds: 3,
  fqdnLiveSeconds: 6,
  fqdnLiveIdleSeconds: 7,
  connectsPerSecond: 8,
  datagramsPerSecond: 9,
  nat64Prefixes: [],
  quotaNamespace: 4,
  quotaSelector: 5,
};

test('the port is in network order in the configuration', () => {
  const bytes = encodeConfig(settings);
  assert.equal(hex(bytes.subarray(16, 18)), '2745');
});

test('each load of the programs has a hash key of its own', () => {
  const keys = [encodeConfig(settings), encodeConfig(settings)].map((bytes) =>
    hex(bytes.subarray(tdConfig.hash_key, tdConfig.hash_key + 8)),
  );
  assert.notEqual(keys[0], keys[1]);
});

test('NAT64 prefixes have the lengths of RFC 6052, and there is room for so many', () => {
  const prefix = (text: string): Prefix => {
    const parsed = parsePrefix(text);
    assert.ok(parsed !== null, text);
    return parsed;
  };
  for (const bits of [32, 40, 48, 56, 64, 96]) {
    assert.ok(isNat64Prefix(prefix(`2001:db8::/${bits}`)), String(bits));
  }
  for (const text of ['2001:db8::/33', '2001:db8::/128', '::/0', '10.0.0.0/8', '0.0.0.0/0']) {
    assert.ok(!isNat64Prefix(prefix(text)), text);
  }
  const nat64Prefixes = Array.from({ length: TD_NAT64_MAX }, () => prefix('2001:db8:1:2::/64'));
  const bytes = encodeConfig({ ...settings, nat64Prefixes });
  const last = tdConfig.nat64 + (TD_NAT64_MAX - 1) * tdNat64.size;
  assert.equal(
    hex(bytes.subarray(last, last + tdNat64.size)),
    '02000100b80d012000000000000000004000000000000000',
  );
  assert.throws(
    () => encodeConfig({ ...settings, nat64Prefixes: [...nat64Prefixes, prefix('::/96')] }),
    RangeError,
  );
});
