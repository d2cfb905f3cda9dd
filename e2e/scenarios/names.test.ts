// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Connections and queries of a pod under name policy, allowed and denied: IPv4 and IPv6, UDP and TCP, through a ClusterIP. */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { clusterDns4, clusterDns6, startStandardNode } from '../kit/standard-node.ts';

const standard = await startStandardNode({
  options: { 'search-suffixes': 'corp.example' },
  rules: [
    { name: 'short.allowed.test', answers: [{ type: 'A', data: '198.51.100.7', ttl: 2 }] },
    { suffix: 'allowed.test', numbered: { ipv4: '198.18.0.0', ipv6: '2001:db8:1::', ttl: 60 } },
    { suffix: 'denied.test', numbered: { ipv4: '198.19.0.0', ipv6: '2001:db8:2::', ttl: 60 } },
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { client, dns, tandem } = standard;

const shapes = [
  { server: clusterDns4, transport: 'udp' },
  { server: clusterDns4, transport: 'tcp' },
  { server: clusterDns6, transport: 'udp' },
  { server: clusterDns6, transport: 'tcp' },
] as const;
let next = 1;

for (const shape of shapes) {
  describe(`${shape.transport} to ${shape.server}`, () => {
    for (const type of ['A', 'AAAA'] as const) {
      test(`${type} of an allowed name is answered and reachable`, async () => {
        const reply = await askDns(client, { ...shape, name: `n-${next++}.allowed.test`, type });
        assert.equal(reply.rcode, 'NOERROR');
        assert.equal(reply.from, shape.server, 'the reply comes from the server that was asked');
        const [address] = reply.addresses;
        assert.ok(address !== undefined);
        const stream = await client.tcp({ to: address, port: 80, data: 'x', want: 1 });
        assert.equal(stream.retransmits, 0, 'the first SYN passed');
      });
    }

    test('a denied name is refused and never reaches the server', async () => {
      const name = `n-${next++}.denied.test`;
      const reply = await askDns(client, { ...shape, name, ednsBytes: 1232 });
      assert.equal(reply.rcode, 'REFUSED');
      assert.deepEqual(reply.extendedErrors, [18], 'EDE Prohibited');
      assert.equal((await dns.queries(name)).length, 0);
    });

    test('a denied name under a search suffix does not exist, so that a resolver goes on', async () => {
      for (const suffix of ['default.svc.cluster.local', 'corp.example']) {
        const name = `n-${next++}.allowed.test.${suffix}`;
        const reply = await askDns(client, { ...shape, name, ednsBytes: 1232 });
        assert.equal(reply.rcode, 'NXDOMAIN', name);
        assert.deepEqual(reply.extendedErrors, [18], 'EDE Prohibited');
        assert.equal((await dns.queries(name)).length, 0);
      }
    });
  });
}

test('an address that no allowed name gave is dropped, v4 and v6', async () => {
  for (const to of ['198.19.0.5', '2001:db8:2::5', '198.18.100.100']) {
    const attempt = client.tcp({ to, port: 80, data: 'x', want: 1, timeoutMs: 400 });
    await assert.rejects(attempt, /ETIMEDOUT/, to);
  }
  assert.ok((tandem.counters()['drop_no_match'] ?? 0) > 0);
});

test('the first SYN after the reply never fails, in 10,000 fresh names', async () => {
  const names = 10_000;
  const bulk = await client.bulk({
    server: clusterDns4,
    suffix: '.allowed.test',
    start: 1000,
    count: names,
    concurrency: 16,
  });
  const { connected, retransmitted, failures } = bulk;
  assert.deepEqual(
    { connected, retransmitted, failures },
    { connected: names, retransmitted: 0, failures: [] },
  );
});

test('after its TTL a new connection is refused while the open one lives', async () => {
  const reply = await askDns(client, { server: clusterDns4, name: 'short.allowed.test' });
  const [address] = reply.addresses;
  assert.equal(address, '198.51.100.7');
  const open = await client.connect({ to: address, port: 80, data: 'x', want: 1 });
  await waitFor(
    async () => {
      const attempt = client.tcp({ to: address, port: 80, data: 'x', want: 1, timeoutMs: 300 });
      return attempt.then(
        () => false,
        () => true,
      );
    },
    { what: 'the name to expire', timeoutMs: 10_000 },
  );
  const still = await open.exchange({ data: 'y', want: 1 });
  assert.ok(still.data.length > 0);
  assert.ok((tandem.counters()['drop_fqdn_expired'] ?? 0) > 0);
});
