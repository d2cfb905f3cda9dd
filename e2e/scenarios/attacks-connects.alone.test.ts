// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pods that open TCP connections to the shared listeners and do nothing with them (threat T13): half of a handshake at line rate,
 * connections that send nothing or one octet a second, and that end at once. All pods' connections wait in one SYN queue and
 * one accept queue of each listener; a neighbour that opens one for each query loses none and waits for no second SYN, with SYN
 * cookies of the node and without.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, type TestContext, test } from 'node:test';
import type { Namespace } from '@tandem/testing/namespace';
import type { Pod } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { addressOf, frameOf } from '../kit/attack.ts';
import { crowd, nativeProgram, startCrowd } from '../kit/crowd.ts';
import type { LoadResult } from '../kit/load.ts';

import { clusterDns4, clusterDns6 } from '../kit/standard-node.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const seconds = isFull ? 10 : 2;
/** Time in which the queues become as full as they get. */
const rampSeconds = isFull ? 2 : 1;
/** Connections a second of each family, together less than a 32nd of a pod's rate: the neighbour opens few. */
const neighbourRate = 10;
const noError = '0';
const standard = await startCrowd(true);
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;

const clientSpace = node.pod('client').namespace;
// The kernel prefers peers of which it has metrics: the neighbour is always as one that has just started.
await node.node.sysctl({ 'net.ipv4.tcp_no_metrics_save': 1 });
const pods = crowd.map((name) => node.pod(name));
const probes = pods.map((pod) => node.own(Probe.start(pod.namespace)));

/** A connection for each query. */
async function neighbour(to: string): Promise<LoadResult> {
  const running = startProcess(
    ...clientSpace.enter(nativeProgram('tcp-load'), [
      ...['--server', to, '--rate', `${neighbourRate}`, '--seconds', `${seconds}`],
      ...['--name-format', 'n-%u.allowed.test', '--name-start', '0', '--name-count', '50'],
      ...['--sockets', '256', '--queries-per-port', '1', '--timeout-ms', '5000'],
    ]),
  );
  const { status } = await running.exited;
  assert.equal(status, 0, running.stderr());
  return JSON.parse(running.stdout()) as LoadResult;
}

async function kernelCount(at: Namespace, name: string): Promise<number> {
  const text = await at.run('nstat', ['-asz', name]);
  return Number(new RegExp(`${name}\\s+(\\d+)`).exec(text)?.[1]);
}

/** Attacks, and asserts that the neighbour loses nothing meanwhile, and had to send no SYN twice. */
async function serveBeside(
  t: TestContext,
  attack: (untilMs: number) => Promise<unknown>,
): Promise<void> {
  const count = async (): Promise<Record<string, number>> => ({
    again: await kernelCount(clientSpace, 'TcpExtTCPSynRetrans'),
    unqueued: await kernelCount(node.node, 'TcpExtListenDrops'),
    cookies: await kernelCount(node.node, 'TcpExtSyncookiesSent'),
    refused: tandem.counters()['drop_connect_rate'] ?? 0,
  });
  const before = await count();
  const start = performance.now();
  const attacking = attack(start + (rampSeconds + seconds) * 1000);
  const { promise: ramp, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, rampSeconds * 1000);
  await Promise.race([attacking, ramp]);
  const results = await Promise.all([clusterDns4, clusterDns6].map(neighbour));
  const attacked = await attacking;
  const now = await count();
  const moved = Object.fromEntries(
    Object.entries(now).map(([name, value]) => [name, value - (before[name] ?? 0)]),
  );
  const loadAverage = readFileSync('/proc/loadavg', 'utf8').trim();
  for (const { sent, lost, p50Us, p99Us, maxUs } of results) {
    t.diagnostic(JSON.stringify({ sent, lost, p50Us, p99Us, maxUs }));
  }
  t.diagnostic(JSON.stringify({ attacked, moved, loadAverage }));
  for (const { sent, lost, rcodes } of results) {
    assert.ok(sent >= neighbourRate * seconds * 0.9, `${sent} sent`);
    assert.deepEqual({ lost, rcodes }, { lost: 0, rcodes: { [noError]: sent } });
  }
  assert.equal(moved['again'], 0, 'SYNs of the neighbour that were dropped');
}

/** Source ports of one request to a probe, and of all SYNs of a pod. */
const portsAtOnce = 2000;
const portsInAll = 60_000;

/** SYNs from source ports from `first` on, every other one over IPv6. */
function synsOf(pod: Pod, first: number): Uint8Array[] {
  const [four, six] = [clusterDns4, clusterDns6].map((to) =>
    frameOf(pod, {
      ip: { source: addressOf(pod, to), destination: to },
      tcp: { sourcePort: 0, destinationPort: 53, flags: ['syn'], window: 64_240 },
    }),
  ) as [Uint8Array, Uint8Array];
  return Array.from({ length: portsAtOnce }, (_, i) =>
    withSourcePort(i % 2 === 0 ? four : six, first + i),
  );
}

/** The same segment from another port, with the checksum changed accordingly (RFC 1624). */
function withSourcePort(frame: Uint8Array, port: number): Uint8Array {
  const copy = frame.slice();
  const view = new DataView(copy.buffer);
  const tcp = frame.length - 20;
  const sum = (~view.getUint16(tcp + 16) & 0xffff) + port;
  view.setUint16(tcp, port);
  view.setUint16(tcp + 16, ~((sum & 0xffff) + (sum >> 16)));
  return copy;
}

/** The pods' own stack would end each handshake by a RST. */
const quiet =
  'add table inet quiet; add chain inet quiet out { type filter hook output priority 0; }; add rule inet quiet out tcp flags & rst == rst drop';
for (const pod of pods) await pod.namespace.run('nft', [quiet]);

// The half-open connections of one test are there when the next begins, which makes more.
for (const [cookies, count] of [
  [0, 1],
  [0, 16],
  ...(isFull ? ([[1, 16]] as const) : []),
] as const) {
  test(`${count} pods send SYNs alone, with tcp_syncookies=${cookies}`, async (t) => {
    await node.node.sysctl({ 'net.ipv4.tcp_syncookies': cookies });
    await serveBeside(t, async (untilMs) => {
      const flood = async (probe: Probe, i: number): Promise<number> => {
        let sent = 0;
        for (let port = 0; performance.now() < untilMs; port = (port + portsAtOnce) % portsInAll) {
          sent += (await probe.frames(synsOf(pods[i] as Pod, 1024 + port))).sent;
        }
        return sent;
      };
      const sent = await Promise.all(probes.slice(0, count).map(flood));
      return { sent: sent.reduce((sum, of) => sum + of, 0) };
    });
  });
}

test('half of a handshake does not stay', async () => {
  await waitFor(async () => (await node.node.run('ss', ['-Htan', 'state', 'syn-recv'])) === '', {
    what: 'the handshakes that no pod finishes to be over',
    timeoutMs: 15_000,
  });
});

const idlers = {
  'send one octet a second': { connections: 200 },
  'close at once': { connections: 50, lifeMs: 50 },
} as const;
for (const [title, how] of Object.entries(idlers)) {
  test(`16 pods open connections that ${title}`, async (t) => {
    await node.node.sysctl({ 'net.ipv4.tcp_syncookies': 1 });
    await serveBeside(t, async (untilMs) => {
      const left = (untilMs - performance.now()) / 1000;
      const poured = await Promise.all(
        probes.map((probe, i) =>
          probe.pour({
            ...{ to: i % 4 < 2 ? clusterDns4 : clusterDns6, port: 53, data: Uint8Array.of(0) },
            ...{ burst: 1, pauseMs: 1000, seconds: left, ...how },
          }),
        ),
      );
      return { opened: poured.reduce((sum, { opened }) => sum + opened, 0) };
    });
  });
}
