// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod under name policy gets the server's own octets: some 4,400 questions to Knot, each over UDP and TCP, IPv4
 * and IPv6, from a pod whose DNS goes through Tandem and from one without policy. Every difference is one of
 * `intended-differences.ts`. Signatures are made once, when the zones are loaded, so both pods see the same.
 * Knot sends no UDP reply over 4,096 octets, so what becomes of those is not compared here.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { Knot } from '@tandem/testing/knot';
import { Probe } from '@tandem/testing/probe';
import { type Ask, askAll } from '../kit/differential-ask.ts';
import { comparedQuestions } from '../kit/differential-questions.ts';
import { differentialZones } from '../kit/differential-zones.ts';
import { describeMessage, ednsOptions, query, readMessage } from '../kit/dns-message.ts';
import { type Compared, differenceOf, intendedDifferences } from '../kit/intended-differences.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, clusterDns6, startStandardNode } from '../kit/standard-node.ts';

const anyName = [{ matchPattern: '*' }];
const standard = await startStandardNode({
  pods: [{ name: 'free' }],
  policies: [dnsPolicy({ selects: { app: 'client' }, dns: anyName, fqdns: anyName })],
  options: { 'queries-per-second': 1_000_000 },
});
after(() => standard[Symbol.asyncDispose]());
const { client, node } = standard;
// Knot takes the place of the kit's own server.
await standard.dns[Symbol.asyncDispose]();
const { ipv4, ipv6, namespace } = node.pod('dns');
const addresses = [ipv4, ipv6].filter((address) => address !== null);
node.own(await Knot.start(namespace, { addresses, zones: differentialZones }));
const free = node.own(Probe.start(node.pod('free').namespace));

const questions = comparedQuestions();
/** Well-formed questions, such as resolvers ask; the others are odd on purpose. */
const ordinary = questions.filter(({ isOdd }) => !isOdd);
const ordinaryMin = 2000;
/** Longer than any answer takes here; the few messages that get none cost so much. */
const timeoutMs = 500;
const unhurriedMs = 5000;
/** Questions that Knot answers with silence, or by closing the connection. */
const unansweredMax = 60;
const reportsMax = 5;
/** How often each intended difference was met. */
const met = new Map<string, number>();

test(`at least ${ordinaryMin} of the questions are ordinary, each another one`, () => {
  const distinct = new Set(
    ordinary.map(({ bytes }) => Buffer.from(bytes.subarray(2)).toString('hex')),
  );
  assert.ok(distinct.size >= ordinaryMin, `${distinct.size} of ${questions.length}`);
});

for (const shape of [
  { transport: 'udp', server: clusterDns4 },
  { transport: 'udp', server: clusterDns6 },
  { transport: 'tcp', server: clusterDns4 },
  { transport: 'tcp', server: clusterDns6 },
] as const) {
  test(`${questions.length} answers are the server's own, ${shape.transport} to ${shape.server}`, async () => {
    const asks = questions.map(
      ({ bytes, isOdd }): Ask => ({ ...shape, bytes, isAlone: isOdd, timeoutMs }),
    );
    const direct = await askAll(free, asks);
    assert.ok(direct.filter((answer) => answer === null).length < unansweredMax, 'Knot answers');
    const proxied = await askAll(client, asks);
    const directTo = answersByQuery(direct);
    const compared = (index: number): Compared => ({
      ...{ query: asks[index]?.bytes ?? new Uint8Array(0), transport: shape.transport, directTo },
      ...{ direct: direct[index] ?? null, proxied: proxied[index] ?? null },
    });
    const isUnintended = (index: number): boolean =>
      differenceOf(compared(index)) === 'not intended';
    const suspects = [...asks.keys()].filter(isUnintended);
    // Where one side alone got no answer it is asked once more, with time: a machine may stand still.
    for (const [probe, answers] of [
      [free, direct],
      [client, proxied],
    ] as const) {
      const silent = suspects.filter((index) => answers[index] === null);
      const again = silent.map((i) => ({ ...(asks[i] as Ask), timeoutMs: unhurriedMs }));
      const late = await askAll(probe, again);
      for (const [at, index] of silent.entries()) answers[index] = late[at] ?? null;
    }
    const different = suspects.filter(isUnintended);
    const reports = different
      .slice(0, reportsMax)
      .map((index) => `== ${questions[index]?.what}\n${report(compared(index))}`);
    assert.equal(different.length, 0, `${different.length} differ\n${reports.join('\n')}`);
    for (const index of asks.keys()) {
      const difference = differenceOf(compared(index));
      met.set(difference, (met.get(difference) ?? 0) + 1);
    }
  });
}

test('one octet that changes in the answer to an ordinary query is not intended', () => {
  for (const { what, bytes } of ordinary) {
    if (bytes.length >= 512) continue;
    const read = readMessage(bytes);
    const hasCookie = read !== null && ednsOptions(read)?.some(({ code }) => code === 10) === true;
    if (hasCookie) continue;
    const proxied = bytes.with(bytes.length - 1, (bytes.at(-1) ?? 0) ^ 1);
    const pair = { query: bytes, direct: bytes, proxied, directTo: () => undefined };
    assert.equal(differenceOf({ ...pair, transport: 'udp' }), 'not intended', what);
  }
});

describe('an intended difference', () => {
  const page = readFileSync(new URL('../../docs/policy.md', import.meta.url), 'utf8');
  for (const { inDocs } of intendedDifferences) {
    test(`is met and documented: ${inDocs}`, () => {
      assert.ok((met.get(inDocs) ?? 0) > 0, 'no answer differs so: the entry is to be removed');
      assert.ok(page.includes(inDocs), 'docs/policy.md does not say so');
    });
  }
});

for (const [server, transport] of [
  [clusterDns4, 'udp'],
  [clusterDns6, 'tcp'],
] as const) {
  test(`a server cookie that came through Tandem is good for the next query, ${transport}`, async () => {
    const optionCookie = 10;
    const ask = async (cookie: Uint8Array): Promise<{ rcode: number; cookie: Uint8Array }> => {
      const options = [{ code: optionCookie, data: cookie }];
      const bytes = query({ name: 'www.signed.test', type: 1, edns: { size: 1232, options } });
      const [answer] = await askAll(client, [
        { bytes, server, transport, isAlone: true, timeoutMs: unhurriedMs },
      ]);
      const read = readMessage(answer ?? new Uint8Array(0));
      assert.ok(read !== null);
      const got = ednsOptions(read)?.find(({ code }) => code === optionCookie);
      return { rcode: read.rcode, cookie: got?.data ?? new Uint8Array(0) };
    };
    const first = await ask(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    assert.equal(first.cookie.length, 24);
    const badCookie = 23;
    assert.equal(first.rcode, transport === 'udp' ? badCookie : 0);
    assert.equal((await ask(first.cookie)).rcode, 0);
  });
}

function answersByQuery(answers: readonly (Uint8Array | null)[]): Compared['directTo'] {
  const key = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  const byQuery = new Map(questions.map(({ bytes }, i) => [key(bytes), answers[i] ?? null]));
  return (bytes) => byQuery.get(key(bytes));
}

function report({ query: asked, direct, proxied }: Compared): string {
  return Object.entries({ question: asked, direct, proxied })
    .map(([name, bytes]) => `${name}: ${describeMessage(bytes)}`)
    .join('\n');
}
