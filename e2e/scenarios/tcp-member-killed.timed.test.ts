// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A member that has TCP connections of pods is killed (docs/internals/takeover.md). Its kernel ends at once those that it had
 * accepted, so that the pod asks again; the other member answers those that waited in its accept queue, whether it holds the
 * listener or, because the two had not linked yet, the kernel moves them.
 */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { encodeQuestion, type Rcode, withLength } from '@tandem/testing/dns-query';
import type { Stream } from '@tandem/testing/probe';
import { ProbeError } from '@tandem/testing/probe-process';
import { patience, waitFor } from '@tandem/testing/wait';
import { counterOf } from '../kit/admin.ts';
import { countOf, waitForCount } from '../kit/dns-counters.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName, TandemNode } from '../kit/tandem-node.ts';
import { lookUpAll, namesOf, rcodesById, tally } from '../kit/tcp-questions.ts';

const server = clusterDns4;
const count = 40;
/** Longer than all that is done before the kill. */
const slowMs = 6000;
const pattern = [{ matchPattern: '**.test' }];
const numbered = { ipv4: '198.18.0.0' } as const;

/** How a connection went on: its first answer, or its end. */
interface Outcome {
  readonly what: Rcode | 'FIN' | 'RST' | string;
  readonly atMs: number;
}

function startNode(): Promise<StandardNode> {
  return startStandardNode({
    policies: [dnsPolicy({ selects: { app: 'client' }, dns: pattern, fqdns: pattern })],
    rules: [
      { suffix: 'slow.test', numbered, replies: [{ delayMs: slowMs }] },
      { suffix: 'fast.test', numbered },
    ],
  });
}

const question = (name: string): Uint8Array => withLength(encodeQuestion({ server, name, id: 7 }));

/** Sends `data`, and waits for one answer. */
async function outcomeOf(stream: Stream, data?: Uint8Array): Promise<Outcome> {
  const ends: Readonly<Record<string, string>> = { EPIPE: 'FIN', ECONNRESET: 'RST' };
  const asked = { messages: 1, timeoutMs: 30_000, ...(data === undefined ? {} : { data }) };
  const what = await stream.exchange(asked).then(
    (reply) => rcodesById(reply.data).get(7) ?? 'none',
    (error: unknown) => {
      if (error instanceof ProbeError) return ends[error.code] ?? error.code;
      throw error;
    },
  );
  return { what, atMs: performance.now() };
}

const accepted = ({ tandem }: StandardNode, name: ProcessName): Promise<number> =>
  countOf(tandem, name, 'tcpConnections');

/** Connections that wait in the accept queues of the node's listeners. */
async function waiting({ node }: StandardNode): Promise<number> {
  const text = await node.node.run('ss', ['-Hltn']);
  const queued = text.split('\n').map((line) => Number(line.trim().split(/\s+/)[1] ?? 0));
  return queued.reduce((sum, length) => sum + length, 0);
}

/** New connections, each with a query, while both members are stopped: each query waits with its connection. */
async function connectUnaccepted(
  standard: StandardNode,
  streams: AsyncDisposableStack,
): Promise<Promise<Outcome>[]> {
  const outcomes = await Promise.all(
    namesOf('fast.test', count).map(async (name) => {
      const stream = streams.use(await standard.client.connect({ to: server, port: 53 }));
      return { outcome: outcomeOf(stream, question(name)) };
    }),
  );
  await waitFor(async () => (await waiting(standard)) === count, {
    what: `${count} connections in the accept queues`,
  });
  return outcomes.map(({ outcome }) => outcome);
}

/** Stops both; what comes from then on goes to the listener of `last`, whose heartbeat is the newest. */
async function stopBoth(
  { tandem }: StandardNode,
  first: ProcessName,
  last: ProcessName,
): Promise<void> {
  await stop(tandem, first);
  const ageOf = (name: ProcessName): number => {
    const pid = tandem.process(name).pid;
    return tandem.members().find((member) => member.pid === pid)?.beatAgeMs ?? Number.NaN;
  };
  await waitFor(() => ageOf(first) > 100 && ageOf(last) < 100, {
    what: `the ${first} to be silent`,
  });
  await stop(tandem, last);
}

/** SIGSTOP, and waits until no thread of it runs any more. */
async function stop(tandem: TandemNode, name: ProcessName): Promise<void> {
  tandem.signal(name, 'SIGSTOP');
  const tasks = `/proc/${tandem.process(name).pid}/task`;
  const isStopped = (task: string): boolean =>
    /^State:\tT/m.test(readFileSync(`${tasks}/${task}/status`, 'utf8'));
  await waitFor(() => readdirSync(tasks).every(isStopped), { what: `the ${name} to stop` });
}

function describeOutcomes(outcomes: readonly Outcome[], fromMs: number): string {
  const last = Math.max(...outcomes.map(({ atMs }) => atMs - fromMs));
  return `${JSON.stringify(tally(outcomes.map(({ what }) => what)))}, the last after ${last.toFixed(0)} ms`;
}

for (const [victim, survivor] of [
  ['agent', 'proxy'],
  ['proxy', 'agent'],
] as const) {
  test(`the ${victim} killed with ${count} connections: accepted ones end at once, the others are answered`, async () => {
    await using standard = await startNode();
    const { client, dns, tandem } = standard;
    await using streams = new AsyncDisposableStack();
    const slow = await Promise.all(
      namesOf('slow.test', count).map(async (name) =>
        streams.use(await client.connect({ to: server, port: 53, data: question(name) })),
      ),
    );
    await waitFor(async () => (await dns.totals()).total === count, { what: 'all to be asked' });
    const ofVictim = await accepted(standard, victim);
    const ofSurvivor = await accepted(standard, survivor);
    assert.equal(ofVictim + ofSurvivor, count);
    assert.ok(Math.min(ofVictim, ofSurvivor) >= count / 8, `${ofVictim} of ${count} at the victim`);

    await stopBoth(standard, survivor, victim);
    // On every second one a further query comes, which its member does not read any more.
    const inFlight = slow.map((stream, i) =>
      outcomeOf(stream, i % 2 === 0 ? undefined : question('n-0.fast.test')),
    );
    const unaccepted = await connectUnaccepted(standard, streams);

    const killedMs = performance.now();
    await tandem.kill(victim);
    // The survivor is stopped still: it is the kernel that ends them.
    const ended = new Map<number, Outcome>();
    for (const [i, outcome] of inFlight.entries())
      outcome.then(
        (value) => ended.set(i, value),
        () => undefined,
      );
    await waitFor(() => ended.size >= ofVictim, { what: `${ofVictim} connections to end` });
    const atOnce = new Map(ended);
    console.log(`accepted: ${describeOutcomes([...atOnce.values()], killedMs)}`);
    for (const [i, { what, atMs }] of atOnce) {
      assert.equal(what, i % 2 === 0 ? 'FIN' : 'RST', `connection ${i}`);
      assert.ok(atMs - killedMs < 1000 * patience, `connection ${i}: ${atMs - killedMs} ms`);
    }
    assert.equal(atOnce.size, ofVictim);

    const goesOnMs = performance.now();
    tandem.signal(survivor, 'SIGCONT');
    const answers = await Promise.all(unaccepted);
    console.log(`not accepted: ${describeOutcomes(answers, goesOnMs)}`);
    assert.deepEqual(tally(answers.map(({ what }) => what)), { NOERROR: count });
    for (const { atMs } of answers) assert.ok(atMs - goesOnMs < 1000 * patience);
    assert.equal((await accepted(standard, survivor)) - ofSurvivor, count);

    const askedMs = performance.now();
    const names = namesOf('fast.test', ofVictim, 100);
    const again = await lookUpAll(client, { server, names, timeoutMs: 5000 });
    const tookMs = performance.now() - askedMs;
    console.log(`asked again: ${JSON.stringify(again)} within ${tookMs.toFixed(0)} ms`);
    assert.deepEqual(again, { NOERROR: ofVictim });
    assert.ok(tookMs < 1000 * patience);

    const others = (await Promise.all(inFlight)).filter((_, i) => !atOnce.has(i));
    assert.deepEqual(tally(others.map(({ what }) => what)), { NOERROR: ofSurvivor });

    // The survivor's open connections do not keep the port from the next run.
    await tandem.startProcess(victim);
    await tandem.waitForMembers(['agent', 'proxy']);
    assert.doesNotMatch(tandem.process(victim).stderr(), /listeners cannot be opened/);
    await waitForCount(tandem, 'tcpConnectionsLost', ofVictim);
    assert.equal(await countOf(tandem, survivor, 'tcpConnectionsLost'), 0);
  });
}

describe('a member that is killed before the other one holds its listeners', () => {
  test('what it had not accepted is moved by the kernel, and answered', async () => {
    await using standard = await startNode();
    const { tandem } = standard;
    await using streams = new AsyncDisposableStack();
    await tandem.kill('proxy');
    await stop(tandem, 'agent');
    // Descriptors that wait in a socket would keep the listeners.
    rmSync(join(tandem.runDirectory, 'peer.sock'));
    await tandem.startProcess('proxy');
    await tandem.waitForMembers(['proxy']);
    assert.equal(await counterOf(tandem, 'proxy', 'tandem_dns_peer_links_total'), 0);
    await stop(tandem, 'proxy');
    const unaccepted = await connectUnaccepted(standard, streams);
    await tandem.kill('proxy');
    assert.equal(await waiting(standard), count, 'all are in a queue of the agent');
    const goesOnMs = performance.now();
    tandem.signal('agent', 'SIGCONT');
    const answers = await Promise.all(unaccepted);
    console.log(`moved: ${describeOutcomes(answers, goesOnMs)}`);
    assert.deepEqual(tally(answers.map(({ what }) => what)), { NOERROR: count });
  });
});
