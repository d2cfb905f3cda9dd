// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * An open connection keeps its expired address usable for new connections of its policy, for a bounded time,
 * also with no process alive; TCP and UDP, IPv4 and IPv6. docs/adr/0010-addresses-in-use.md, safety rule 15.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { tdFqdnLive } from '@tandem/datapath/abi.gen';
import { Datapath } from '@tandem/datapath/datapath';
import { askDns } from '@tandem/testing/dns-query';
import { Probe, type Stream } from '@tandem/testing/probe';
import { ProbeError } from '@tandem/testing/probe-process';
import { waitFor } from '@tandem/testing/wait';
import { counterOf, fqdnEntries } from '../kit/admin.ts';
import { silenceMs } from '../kit/attack.ts';
import { boottimeSeconds, learnedAddresses } from '../kit/learned.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, standardPolicy, startStandardNode } from '../kit/standard-node.ts';

const ttl = 2;
const idleSeconds = 5;
const names = ['tcp4', 'tcp6', 'udp4', 'udp6', 'unused', 'oneway'].map(
  (label) => `${label}.allowed.test`,
);
const addresses = [
  '198.51.100.1',
  '2001:db8:51::2',
  '198.51.100.3',
  '2001:db8:51::4',
  '198.51.100.5',
  '198.51.100.6',
] as const;
const [tcp4, tcp6, udp4, udp6, unused, oneWay] = addresses;
const used = [tcp4, tcp6, udp4, udp6];

const standard = await startStandardNode({
  options: { 'fqdn-live-seconds': 3600, 'fqdn-live-idle-seconds': idleSeconds },
  rules: names.map((name, i) => {
    const data = addresses[i] ?? '';
    return { name, answers: [{ type: data.includes(':') ? 'AAAA' : 'A', data, ttl }] };
  }),
  pods: [{ name: 'other', kind: 'ptp' }],
  policies: [
    standardPolicy,
    // The same addresses, but by selectors of its own.
    dnsPolicy({
      name: 'other',
      selects: { app: 'other' },
      dns: [{ matchPattern: '*' }],
      fqdns: names.map((matchName) => ({ matchName })),
    }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { client, internet, node, tandem } = standard;
const other = node.own(Probe.start(node.pod('other').namespace));

const isUdp = (address: string): boolean => address === udp4 || address === udp6;
const exchangeOptions = { data: 'x', want: 1, timeoutMs: silenceMs };

/** Whether a new connection comes about, of the address's protocol. */
async function canReach(probe: Probe, to: string): Promise<boolean> {
  try {
    const options = { ...exchangeOptions, to, port: 80 };
    await (isUdp(to) ? probe.udp(options) : probe.tcp(options));
    return true;
  } catch (error) {
    assert.ok(error instanceof ProbeError, String(error));
    assert.match(String(error), /ETIMEDOUT/, to);
    return false;
  }
}

async function reachable(probe: Probe, of: readonly string[]): Promise<string[]> {
  const answers = await Promise.all(of.map((to) => canReach(probe, to)));
  return of.filter((_, i) => answers[i]);
}

/** Asks all names. Whether both processes know them, which on a busy machine may take longer than they live. */
async function areKnownToBoth(): Promise<boolean> {
  for (const [i, name] of names.entries()) {
    const type = addresses[i]?.includes(':') === true ? 'AAAA' : 'A';
    await askDns(client, { server: clusterDns4, name, type });
  }
  const lists = await Promise.all([fqdnEntries(tandem, 'agent'), fqdnEntries(tandem, 'proxy')]);
  return lists.every((list) =>
    addresses.every((address) => list.some((entry) => entry.address === address)),
  );
}

/** Asks all names and holds a connection to each address but the unused one. */
async function openAll(): Promise<Map<string, Stream>> {
  await waitFor(areKnownToBoth, { what: 'both processes to know all names' });
  const streams = new Map<string, Stream>();
  for (const to of used) {
    const options = { ...exchangeOptions, to, port: 80, timeoutMs: 2000 };
    streams.set(to, await (isUdp(to) ? client.associate(options) : client.connect(options)));
  }
  // Over UDP the first packet is none of an answered connection.
  await useAll(streams);
  return streams;
}

async function useAll(streams: ReadonlyMap<string, Stream>): Promise<void> {
  for (const [address, stream] of streams) {
    const { data } = await stream.exchange({ ...exchangeOptions, timeoutMs: 2000 });
    assert.ok(data.length > 0, `the open connection to ${address} lives`);
  }
}

async function until(boottime: number, what: string): Promise<void> {
  await waitFor(() => boottimeSeconds() > boottime, { what, timeoutMs: 20_000 });
}

/** When the last name expires. */
function lastExpiry(): number {
  return Math.max(...[...learnedAddresses(tandem).values()].flat().map(({ expires }) => expires));
}

async function expire(): Promise<void> {
  await until(lastExpiry() + 1, 'all names to expire');
}

/** When the last use of any address is past. */
function lastUse(): number {
  using datapath = Datapath.open(tandem.pinRoot);
  const times = [...datapath.map('fqdn_live').entries()].map(([, value]) =>
    new DataView(value.buffer, value.byteOffset).getUint32(tdFqdnLive.until_s, true),
  );
  return Math.max(0, ...times);
}

async function restart(flags: Readonly<Record<string, number>>): Promise<void> {
  for (const name of ['agent', 'proxy'] as const) {
    if (tandem.isAlive(name)) await tandem.kill(name);
    await tandem.startProcess(name, { flags });
  }
  await tandem.waitForMembers(['agent', 'proxy']);
}

describe('after their TTL, while connections to them are open', () => {
  let streams: ReadonlyMap<string, Stream>;

  test('addresses take new connections of the policy, and of no other', async () => {
    streams = await openAll();
    await expire();
    await useAll(streams);
    assert.deepEqual(await reachable(client, used), used);
    assert.ok((await counterOf(tandem, 'agent', 'tandem_fqdn_live_passed_total')) >= used.length);
    const dropped = tandem.counters()['drop_fqdn_expired'] ?? 0;
    assert.deepEqual(await reachable(other, used), []);
    assert.ok((tandem.counters()['drop_fqdn_expired'] ?? 0) >= dropped + used.length);
  });

  test('an address of the same selector that is in no use takes none', async () => {
    assert.equal(await canReach(client, unused), false);
  });

  test('a one-way UDP stream goes on, but keeps its address for no other', async () => {
    await askDns(client, { server: clusterDns4, name: 'oneway.allowed.test' });
    const port = 9000;
    const sink = await internet.listen({ protocol: 'udp', address: '0.0.0.0', port, mode: 'sink' });
    const arrived = async (count: number): Promise<unknown> =>
      waitFor(async () => (await sink.served()).datagrams === count, {
        what: `${count} datagrams`,
      });
    const stream = await client.associate({ to: oneWay, port, data: 'first' });
    await arrived(1);
    await expire();
    for (let i = 2; i <= 4; i++) {
      await stream.exchange({ data: 'more' });
      await arrived(i);
      await client.udp({ to: oneWay, port, data: 'new', want: 0 });
      assert.equal(await canReach(client, oneWay), false);
    }
    assert.equal((await sink.served()).datagrams, 4);
    await stream.close();
  });

  test('both processes list them: expired, and in use for how long', async () => {
    for (const name of ['agent', 'proxy'] as const) {
      const live = await waitFor(
        async () => {
          // A use counts for a few seconds, which a busy machine may take to list it.
          await useAll(streams);
          const listed = await fqdnEntries(tandem, name);
          const inUse = listed.filter(
            ({ address, expiresIn, inUseFor }) =>
              used.some((each) => each === address) && expiresIn <= 0 && inUseFor > 0,
          );
          const isUnusedListed = listed.some(({ address }) => address === unused);
          return isUnusedListed || inUse.length < used.length ? null : inUse;
        },
        { what: `${name} to list what is in use alone`, timeoutMs: 20_000 },
      );
      assert.equal(live.length, used.length, name);
      assert.ok(
        live.every(({ inUseFor }) => inUseFor <= idleSeconds),
        name,
      );
    }
  });

  test('also with the agent and the proxy dead', async () => {
    for (const name of ['agent', 'proxy'] as const) await tandem.kill(name);
    await useAll(streams);
    assert.deepEqual(await reachable(client, used), used);
    assert.deepEqual(await reachable(other, used), []);
  });

  test('until they are closed and idle', async () => {
    await useAll(streams);
    for (const stream of streams.values()) await stream.close();
    await until(lastUse() + 1, 'the last use to be past');
    assert.deepEqual(await reachable(client, used), []);
  });
});

test('past the bound no new connection begins, and the open ones go on', async () => {
  const boundSeconds = 6;
  await restart({ 'fqdn-live-seconds': boundSeconds, 'fqdn-live-idle-seconds': 600 });
  const streams = await openAll();
  const expiry = lastExpiry();
  await until(expiry + 1, 'all names to expire');
  await useAll(streams);
  const inTime = await reachable(client, used);
  assert.ok(boottimeSeconds() >= expiry + boundSeconds || inTime.length === used.length);
  await until(expiry + boundSeconds, 'the bound');
  await useAll(streams);
  assert.deepEqual(await reachable(client, used), []);
  await useAll(streams);
  for (const stream of streams.values()) await stream.close();
});

test('with fqdnLiveSeconds at 0 expiry ends it, whatever is open', async () => {
  await restart({ 'fqdn-live-seconds': 0 });
  const streams = await openAll();
  await expire();
  await useAll(streams);
  assert.deepEqual(await reachable(client, used), []);
  await useAll(streams);
});
