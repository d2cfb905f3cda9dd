// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Messages of the two processes to each other, asked of their admin sockets: names and events while both are
 * there, equal caches after either was away, and selectors that are fed from what was answered before.
 */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { nameToText } from '@tandem/core/dns/name';
import { formatAddress } from '@tandem/core/net/ip';
import type { StatusResponse } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { GrpcClient } from '@tandem/runtime/grpc-client';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { dnsPolicy } from '../kit/objects.ts';
import { proxyUid } from '../kit/shipped-privileges.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const equalWithinMs = 5000;
let nextName = 1000;

function admin({ tandem }: StandardNode, name: ProcessName): GrpcClient {
  const socket = name === 'agent' ? 'agent-admin.sock' : join('proxy', 'admin.sock');
  return new GrpcClient({ path: join(tandem.runDirectory, socket), serverUids: [proxyUid] });
}

async function status(standard: StandardNode, name: ProcessName): Promise<StatusResponse> {
  using client = admin(standard, name);
  return await client.unary(AdminService.status, {});
}

async function names(standard: StandardNode, name: ProcessName): Promise<string[]> {
  using client = admin(standard, name);
  const found: string[] = [];
  for await (const page of client.serverStream(AdminService.listFqdn, {})) {
    for (const { mapping } of page.entries) {
      if (mapping === null) continue;
      const { expiresS, trusted, policyId } = mapping;
      const to = formatAddress(mapping.address);
      found.push(`${nameToText(mapping.name)} ${to} ${expiresS} ${trusted} ${policyId}`);
    }
  }
  return found.toSorted();
}

/** Both processes must be there already. */
async function equalNames(standard: StandardNode, atLeast: number): Promise<void> {
  await waitFor(
    async () => {
      const [agent, proxy] = [await names(standard, 'agent'), await names(standard, 'proxy')];
      assert.deepEqual(agent, proxy);
      return agent.length >= atLeast;
    },
    { what: `equal caches of ${atLeast} names`, timeoutMs: equalWithinMs },
  );
}

async function askFresh({ client }: StandardNode, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const name = `n-${nextName++}.allowed.test`;
    const { rcode } = await askDns(client, { server: clusterDns4, name });
    assert.equal(rcode, 'NOERROR');
  }
}

for (const [victim, survivor] of [
  ['agent', 'proxy'],
  ['proxy', 'agent'],
] as const satisfies readonly (readonly [ProcessName, ProcessName])[]) {
  test(`the ${victim} is killed: the ${survivor} says so, and brings it up to date`, async () => {
    await using standard = await startStandardNode();
    const { tandem, client } = standard;
    await askFresh(standard, 30);
    await equalNames(standard, 30);
    assert.deepEqual((await status(standard, survivor)).degraded, []);

    await tandem.kill(victim);
    await askFresh(standard, 30);
    const blocked = client.tcp({ to: '198.19.7.7', port: 80, data: 'x', want: 1, timeoutMs: 300 });
    await assert.rejects(blocked);
    const codes = await waitFor(
      async () => {
        const { degraded } = await status(standard, survivor);
        const found = degraded.map(({ code }) => code);
        return found.includes(`${victim}-away`) ? found : null;
      },
      { what: 'the degradation' },
    );
    assert.ok(!codes.includes('no-member-serves'), codes.join());

    await tandem.startProcess(victim);
    await tandem.waitForMembers(['agent', 'proxy']);
    await equalNames(standard, 60);
    await waitFor(async () => (await status(standard, survivor)).degraded.length === 0, {
      what: 'all to be well',
      timeoutMs: equalWithinMs,
    });
    // Events of the time when it was away; they may come a little after the names.
    using socket = admin(standard, victim);
    const missed = [`n-${nextName - 1}.allowed.test.`, 'drop_no_match'];
    await waitFor(
      async () => {
        const events: string[] = [];
        for await (const event of socket.serverStream(AdminService.observe, { last: 1000 })) {
          events.push(event.dns === null ? event.dropReason : nameToText(event.dns.name));
        }
        return missed.every((one) => events.includes(one));
      },
      { what: 'the events of the time when it was away', timeoutMs: equalWithinMs },
    );
  });
}

test('a new selector is fed with what was answered before it came', async () => {
  const dns = [{ matchPattern: '*.allowed.test' }];
  const policy = (fqdns: readonly object[]): object =>
    dnsPolicy({ selects: { app: 'client' }, dns, fqdns: fqdns as never });
  await using standard = await startStandardNode({
    policies: [policy([{ matchName: 'n-1.allowed.test' }])],
  });
  const { tandem, client } = standard;
  const addresses: string[] = [];
  for (const number of [2, 3, 4, 5, 6, 7, 8, 9]) {
    const name = `n-${number}.allowed.test`;
    addresses.push((await askDns(client, { server: clusterDns4, name })).addresses[0] ?? '');
  }
  for (const to of addresses) {
    await assert.rejects(client.tcp({ to, port: 80, data: 'x', want: 1, timeoutMs: 200 }));
  }
  const before = tandem.appliedRevision();
  tandem.write('policy.yaml', [policy([{ matchPattern: '*.allowed.test' }])]);
  await tandem.waitForRevision(before);
  // Whichever process answered, and without another query.
  for (const to of addresses) await client.tcp({ to, port: 80, data: 'x', want: 1 });
});

test('a second name of an address is known too, wherever it was answered', async () => {
  await using standard = await startStandardNode();
  const known = async (process: ProcessName, name: string): Promise<boolean> =>
    (await names(standard, process)).some((line) => line.startsWith(`${name}.allowed.test. `));
  // Several, so that both processes answer a second name.
  const second = Array.from({ length: 8 }, (_, i) => `n-0${i + 1}`);
  for (const label of second) {
    for (const name of [label.replace('0', ''), label]) {
      const question = { server: clusterDns4, name: `${name}.allowed.test` };
      assert.equal((await askDns(standard.client, question)).rcode, 'NOERROR');
    }
  }
  for (const process of ['agent', 'proxy'] as const) {
    for (const name of second) {
      await waitFor(() => known(process, name), { what: `${name} at the ${process}` });
    }
  }
});
