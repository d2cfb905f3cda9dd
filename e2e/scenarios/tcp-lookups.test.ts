// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS over TCP as pods use it, with a server that is slow, leaves queries unanswered, or closes: a pod gets the same
 * answers as without the proxy. Queries over a bound wait; only over UDP, where a query cannot wait, a flood gets
 * SERVFAIL.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { endpointFreeShare, inFlightMax, inFlightReserveShare } from '@tandem/dns-proxy/limits';
import { encodeQuestion, withLength } from '@tandem/testing/dns-query';
import { ownPrefix } from '@tandem/testing/namespace';
import { concatBytes } from '@tandem/testing/packet';
import { Probe, type Stream } from '@tandem/testing/probe';
import { tryRun } from '@tandem/testing/process';
import { patience, waitFor } from '@tandem/testing/wait';
import { startLoad } from '../kit/load.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, standardRules, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';
import {
  lookUpAll,
  namesOf,
  type Outcomes,
  pipelined,
  rcodesById,
  tally,
} from '../kit/tcp-questions.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const server = clusterDns4;
const port = 53;
const numbered = { ipv4: '198.19.64.0' } as const;
const slow = (suffix: string, delayMs: number) =>
  ({ suffix, numbered, replies: [{ delayMs }] }) as const;
const pattern = [{ matchPattern: '**.test' }];
const standard = await startStandardNode({
  pods: [{ name: 'threads' }, { name: 'other' }],
  policies: ['client', 'threads', 'other'].map((name) =>
    dnsPolicy({ name, selects: { app: name }, dns: pattern, fqdns: pattern }),
  ),
  rules: [
    slow('slow-200.test', 200),
    slow('slow-300.test', 300),
    slow('slow-2000.test', 2000),
    { suffix: 'silent.test', replies: [] },
    { suffix: 'once.test', numbered, replies: [{}, { close: true }] },
    // Each second query meets the reset; who asks again is answered.
    { suffix: 'unlucky.test', every: 2, replies: [{ reset: true }] },
    { suffix: 'unlucky.test', numbered },
    { suffix: 'reset.test', replies: [{ reset: true }] },
    { suffix: 'crash.test', replies: [{ reset: 'answered', delayMs: 30 }] },
    ...standardRules,
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;
const threads = node.own(Probe.start(node.pod('threads').namespace));
const other = node.own(Probe.start(node.pod('other').namespace));

/** With either process down; afterwards both run. */
async function without(dead: ProcessName | null, work: () => Promise<void>): Promise<void> {
  if (dead === null) return work();
  await tandem.kill(dead);
  try {
    await work();
  } finally {
    await tandem.startProcess(dead);
    await tandem.waitForMembers(['agent', 'proxy']);
  }
}

/** A query of a pod on a connection that it keeps: its answer, or that the connection is gone. */
async function isServed(stream: Stream): Promise<boolean> {
  const data = withLength(encodeQuestion({ server, name: 'n-1.allowed.test' }));
  return stream.exchange({ data, messages: 1, timeoutMs: 3000 }).then(
    () => true,
    () => false,
  );
}

describe('many lookups of one pod at once, each on a connection of its own', () => {
  const cases = [
    { delayMs: 200, dead: null },
    { delayMs: 300, dead: null },
    { delayMs: 300, dead: 'proxy' },
    { delayMs: 300, dead: 'agent' },
  ] as const;
  for (const { delayMs, dead } of cases) {
    const state = dead === null ? 'both members' : `the ${dead} dead`;
    test(`200 with a server that takes ${delayMs} ms, ${state}: all are answered`, async () => {
      const names = namesOf(`slow-${delayMs}.test`, 200);
      let outcomes: Outcomes = {};
      await without(dead, async () => {
        outcomes = await lookUpAll(threads, { server, names, timeoutMs: 5000 });
      });
      console.log(`200 lookups, ${delayMs} ms, ${state}: ${JSON.stringify(outcomes)}`);
      assert.deepEqual(outcomes, { NOERROR: 200 });
    });
  }

  test("more than the bound wait, and another pod's connection is not touched", async () => {
    await using kept = await other.connect({ to: server, port });
    assert.ok(await isServed(kept));
    const names = namesOf('slow-300.test', 600);
    const lookups = lookUpAll(threads, { server, names, timeoutMs: 5000 });
    const served = await isServed(kept);
    const outcomes = await lookups;
    console.log(`600 lookups: ${JSON.stringify(outcomes)}`);
    assert.ok(served && (await isServed(kept)), "the other pod's connection");
    assert.deepEqual(outcomes, { NOERROR: 600 });
  });

  // One that is kept for long is one that others cannot have: dnsmasq takes 20, and then a pod of another node waits.
  test('connections to the server end soon after those of the pod', async () => {
    const names = namesOf('allowed.test', 100);
    const outcomes = await lookUpAll(threads, { server, names, timeoutMs: 5000 });
    assert.deepEqual(outcomes, { NOERROR: 100 });
    const atNode = ['-Htn', 'state', 'established', 'dst', `${server}:${port}`];
    await waitFor(async () => ((await node.node.run('ss', atNode)) === '' ? true : null), {
      what: 'connections to the server to be closed',
      timeoutMs: 2000,
    });
  });

  test('connections that idle give way to those that ask', async () => {
    await using kept = await other.connect({ to: server, port });
    assert.ok(await isServed(kept));
    await using stack = new AsyncDisposableStack();
    // Some may be ended already: over the bound the oldest of those that idle make room.
    const opened = await Promise.allSettled(
      Array.from({ length: 600 }, () => threads.connect({ to: server, port })),
    );
    for (const attempt of opened) if (attempt.status === 'fulfilled') stack.use(attempt.value);
    const names = namesOf('allowed.test', 50);
    const outcomes = await lookUpAll(threads, { server, names, timeoutMs: 5000 });
    console.log(`50 lookups beside 600 idle connections: ${JSON.stringify(outcomes)}`);
    assert.deepEqual(outcomes, { NOERROR: 50 });
    assert.ok(await isServed(kept), "the other pod's idle connection");
  });
});

describe('many queries on one connection', () => {
  test('200 at once to a slow server: those over the bound wait', async () => {
    const data = pipelined(server, namesOf('slow-200.test', 200));
    const reply = await threads.tcp({ to: server, port, data, messages: 200, timeoutMs: 5000 });
    const outcomes = tally([...rcodesById(reply.data).values()]);
    console.log(`200 queries on a connection: ${JSON.stringify(outcomes)}`);
    assert.deepEqual(outcomes, { NOERROR: 200 });
  });

  test('each second query without answer, 50 a second: the others are all answered', async () => {
    const queries = isFull ? 900 : 300;
    await using stream = await threads.connect({ to: server, port });
    const start = performance.now();
    for (let id = 0; id < queries; id++) {
      const name = `n-${id}.${id % 2 === 0 ? 'allowed' : 'silent'}.test`;
      await delay(Math.max(0, start + id * 20 - performance.now()));
      await stream.exchange({ data: withLength(encodeQuestion({ server, name, id })) });
    }
    // The answers, and what the others come to: a connection has 100 in flight, and they take 10 s each.
    const { data } = await stream.exchange({ messages: queries, timeoutMs: 80 * queries });
    const rcodes = rcodesById(data);
    const good = Array.from({ length: queries / 2 }, (_, i) => rcodes.get(2 * i) ?? 'none');
    const outcomes = tally(good);
    console.log(
      `${queries / 2} good queries beside as many unanswered: ${JSON.stringify(outcomes)}`,
    );
    assert.deepEqual(outcomes, { NOERROR: queries / 2 });
  });

  test('dnsperf with 200 queries outstanding on a connection: no SERVFAIL', async () => {
    const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}dnsperf-`));
    const file = join(directory, 'queries');
    try {
      const lines = namesOf('allowed.test', 500).map((name) => `${name} A\n`);
      writeFileSync(file, lines.join(''));
      const args = ['-s', server, '-m', 'tcp', '-q', '200', '-c', '1', '-d', file, '-l', '3'];
      const command = node.pod('threads').namespace.enter('dnsperf', args);
      const { status, stdout, stderr } = await tryRun(...command, { timeoutMs: 20_000 });
      assert.equal(status, 0, stderr);
      const [, codes = 'none'] = /Response codes:\s+(.*)/.exec(stdout) ?? [];
      const [, lost = '?'] = /Queries lost:\s+(\d+)/.exec(stdout) ?? [];
      const [, rate = '?'] = /Queries per second:\s+(\d+)/.exec(stdout) ?? [];
      console.log(`dnsperf: ${codes}, ${lost} lost, ${rate} a second`);
      assert.match(codes, /^NOERROR \d+ \(100\.00%\)$/);
      assert.equal(lost, '0');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('a server that ends its connections', () => {
  test('after one answer: of five queries at once all are answered', async () => {
    const data = pipelined(server, namesOf('once.test', 5));
    const reply = await threads.tcp({ to: server, port, data, messages: 5, timeoutMs: 5000 });
    const outcomes = tally([...rcodesById(reply.data).values()]);
    console.log(`5 queries, the server closes after each answer: ${JSON.stringify(outcomes)}`);
    assert.deepEqual(outcomes, { NOERROR: 5 });
  });

  test('after one answer: of twenty queries in turn all are answered', async () => {
    await using stream = await threads.connect({ to: server, port });
    const rcodes: string[] = [];
    for (const [id, name] of namesOf('once.test', 20).entries()) {
      const data = withLength(encodeQuestion({ server, name, id }));
      const reply = await stream.exchange({ data, messages: 1, timeoutMs: 5000 });
      rcodes.push(...rcodesById(reply.data).values());
    }
    const outcomes = tally(rcodes);
    console.log(`20 queries in turn: ${JSON.stringify(outcomes)}`);
    assert.deepEqual(outcomes, { NOERROR: 20 });
  });

  test('by a reset in the middle of an answer: it is asked again', async () => {
    await using stream = await threads.connect({ to: server, port });
    const rcodes: string[] = [];
    for (const [id, name] of namesOf('unlucky.test', 10).entries()) {
      const data = withLength(encodeQuestion({ server, name, id }));
      const reply = await stream.exchange({ data, messages: 1, timeoutMs: 5000 });
      rcodes.push(...rcodesById(reply.data).values());
    }
    console.log(`10 queries, each second answer cut by a reset: ${JSON.stringify(tally(rcodes))}`);
    assert.deepEqual(tally(rcodes), { NOERROR: 10 });
  });

  test('by a reset in the middle of each answer: SERVFAIL soon, and the pod may go on', async () => {
    await using stream = await threads.connect({ to: server, port });
    const asked = performance.now();
    const data = withLength(encodeQuestion({ server, name: 'n-1.reset.test', id: 9 }));
    const reply = await stream.exchange({ data, messages: 1, timeoutMs: 5000 });
    const tookMs = performance.now() - asked;
    assert.deepEqual([...rcodesById(reply.data)], [[9, 'SERVFAIL']]);
    assert.ok(tookMs < 1000 * patience, `${tookMs} ms`);
    assert.ok(await isServed(stream), 'the same connection');
  });

  test('by a reset for one query on a busy connection: slow ones beside it are answered', async () => {
    await using stream = await threads.connect({ to: server, port });
    const names = ['n-1.crash.test', ...namesOf('slow-300.test', 5)];
    const received: Uint8Array[] = [];
    const exchange = async (data: Uint8Array, messages: number): Promise<void> => {
      const reply = await stream.exchange({ data, messages, timeoutMs: 5000 });
      received.push(reply.data);
    };
    await exchange(pipelined(server, names), 0);
    // Busy until the query that is to blame has its answer, which takes four connections of 30 ms and one of its own.
    let id = names.length;
    for (; id < 60_000 && !rcodesById(concatBytes(received)).has(0); id++) {
      await exchange(fastQuery(id), 1);
    }
    await exchange(new Uint8Array(0), id - rcodesById(concatBytes(received)).size);
    const all = rcodesById(concatBytes(received));
    const [crash, ...others] = Array.from({ length: id }, (_, i) => all.get(i) ?? 'none');
    console.log(`the query: ${crash}; slow ones: ${JSON.stringify(tally(others.slice(0, 5)))}`);
    assert.equal(crash, 'SERVFAIL');
    assert.deepEqual(tally(others), { NOERROR: id - 1 });
  });
});

function fastQuery(id: number): Uint8Array {
  return withLength(encodeQuestion({ server, name: `n-${id}.allowed.test`, id }));
}

test('10,000 queries at once over UDP to a server that takes 2 s: refused ones hear so, a neighbour nothing', async () => {
  const seconds = 4;
  const rate = 100;
  // The pod's queries in flight at one member, times `endpointFreeShare`, stay below its free places without the reserve.
  // At least one member gets more than that; a second of the neighbour's queries may be in flight beside them.
  const free = inFlightMax - inFlightMax / inFlightReserveShare - rate;
  const share = Math.floor(free / (endpointFreeShare + 1));
  await using neighbour = startLoad(node.pod('client').namespace, {
    ...{ server, rate, seconds, nameFormat: 'n-%u.allowed.test', nameCount: 100 },
  });
  await using flood = startLoad(node.pod('threads').namespace, {
    ...{ server, rate: 50_000, seconds: 0.2, nameFormat: 'n-%u.slow-2000.test', sockets: 64 },
    timeoutMs: 5000,
  });
  const [load, attack] = await Promise.all([neighbour.result, flood.result]);
  const [answered, refused] = [attack.rcodes['0'] ?? 0, attack.rcodes['2'] ?? 0];
  console.log(
    `${attack.sent} queries at once: ${answered} answered, ${refused} SERVFAIL, ${attack.lost} lost; ` +
      `neighbour ${load.rcodes['0'] ?? 0} of ${load.sent}, p99 ${load.p99Us} us`,
  );
  assert.equal(answered + refused, attack.sent, JSON.stringify(attack));
  assert.ok(answered >= share, `${answered} answered, a pod's share of one member is ${share}`);
  assert.deepEqual([load.lost, load.rcodes], [0, { '0': load.sent }]);
});
