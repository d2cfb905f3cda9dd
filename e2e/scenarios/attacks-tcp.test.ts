// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS over TCP as hostile or odd clients speak it (threat T13): slow, many at once, pipelined, half closed.
 * Limits hold per pod, legitimate shapes are answered, and a neighbour's queries go on.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askDns, encodeQuestion, readReply, withLength } from '@tandem/testing/dns-query';
import { concatBytes } from '@tandem/testing/packet';
import { Probe, type Stream } from '@tandem/testing/probe';
import { patience, waitFor } from '@tandem/testing/wait';
import { startLoad } from '../kit/load.ts';
import { withMemberReport } from '../kit/member-report.ts';
import { dnsPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

/** Bound for one pod at one member. */
const connectionsMax = 160;
const members = 2;
const pattern = [{ matchPattern: '*.allowed.test' }, { matchPattern: '*.slow.test' }];
const standard = await startStandardNode({
  pods: [{ name: 'attacker' }],
  options: { 'tcp-connections-per-pod': connectionsMax },
  policies: [
    standardPolicy,
    dnsPolicy({ name: 'attacker', selects: { app: 'attacker' }, dns: pattern, fqdns: pattern }),
  ],
  rules: [
    {
      suffix: 'slow.test',
      numbered: { ipv4: '198.19.64.0' },
      replies: [{ delayMs: 400 }],
    },
    ...standardRules,
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { dns, node } = standard;
const attacker = node.own(Probe.start(node.pod('attacker').namespace));
const clientSpace = node.pod('client').namespace;
const neighbour = node.own(Probe.start(clientSpace));
const to = clusterDns4;
const port = 53;

const query = (name: string, id?: number): Uint8Array =>
  withLength(encodeQuestion({ server: to, name, ...(id === undefined ? {} : { id }) }));
const messagesOf = (stream: Uint8Array): Uint8Array[] => {
  const messages: Uint8Array[] = [];
  for (let at = 0; at + 2 <= stream.length; ) {
    const length = ((stream[at] ?? 0) << 8) | (stream[at + 1] ?? 0);
    messages.push(stream.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return messages;
};

describe('what clients may do', () => {
  for (const server of [clusterDns4, clusterDns6]) {
    test(`80 queries at once in one segment are all answered, ${server}`, async () => {
      const data = concatBytes(
        Array.from({ length: 80 }, (_, i) => query(`n-${i}.allowed.test`, i)),
      );
      const reply = await attacker.tcp({ to: server, port, data, messages: 80 });
      const replies = messagesOf(reply.data).map((bytes) => readReply(bytes, server));
      const got = replies.map(({ bytes, addresses }) => `${bytes[1]}: ${addresses.join(' ')}`);
      assert.deepEqual(
        got.toSorted(),
        Array.from({ length: 80 }, (_, i) => `${i}: 198.18.0.${i}`).toSorted(),
      );
    });
  }

  test('a fast answer overtakes a slow one', async () => {
    const data = concatBytes([query('n-1.slow.test', 1), query('n-2.allowed.test', 2)]);
    const { data: bytes } = await attacker.tcp({ to, port, data, messages: 2 });
    assert.deepEqual(
      messagesOf(bytes).map((message) => message[1]),
      [2, 1],
    );
  });

  test('two queries of one id get the answers to both names', async () => {
    const data = concatBytes([query('n-1.allowed.test', 7), query('n-2.allowed.test', 7)]);
    const { data: bytes } = await attacker.tcp({ to, port, data, messages: 2 });
    const addresses = messagesOf(bytes).flatMap((message) => readReply(message, to).addresses);
    assert.deepEqual(addresses.toSorted(), ['198.18.0.1', '198.18.0.2']);
  });

  test('a query byte by byte is answered', async () => {
    await using stream = await attacker.connect({ to, port });
    const bytes = query('n-4.allowed.test');
    for (let at = 0; at < bytes.length - 1; at++) {
      await stream.exchange({ data: bytes.subarray(at, at + 1) });
    }
    const { data } = await stream.exchange({ data: bytes.subarray(-1), messages: 1 });
    assert.deepEqual(readReply(data.subarray(2), to).addresses, ['198.18.0.4']);
  });

  test('one connection may ask again and again', async () => {
    await using stream = await attacker.connect({ to, port });
    for (let i = 0; i < 20; i++) {
      const data = query(i % 2 === 0 ? `n-${i}.allowed.test` : `n-${i}.denied.test`);
      const reply = await stream.exchange({ data, messages: 1 });
      const { rcode } = readReply(reply.data.subarray(2), to);
      assert.equal(rcode, i % 2 === 0 ? 'NOERROR' : 'REFUSED');
    }
  });
});

describe('what clients must not do', () => {
  const opened = async (count: number, data: Uint8Array): Promise<Stream[]> => {
    const attempts = await Promise.allSettled(
      Array.from({ length: count }, () => attacker.connect({ to, port, data })),
    );
    return attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []));
  };
  /** Ends of all streams; a reset counts, and one that was before we looked. */
  const allEnd = (streams: readonly Stream[], timeoutMs: number): Promise<string[]> =>
    Promise.all(
      streams.map((stream) =>
        stream.exchange({ untilEnd: true, timeoutMs }).then(
          ({ hasEnded }) => (hasEnded ? 'ended' : 'open'),
          (error: unknown) =>
            /ECONNRESET|EPIPE|ENOTCONN/.test(String(error)) ? 'reset' : String(error),
        ),
      ),
    );

  test('a message that does not end is waited for 2 s, while a neighbour loses nothing', () =>
    withMemberReport(standard.tandem, async () => {
      const streams = await opened(200, Uint8Array.of(0));
      await using load = startLoad(clientSpace, {
        server: to,
        rate: 500,
        seconds: 2,
        nameFormat: 'n-%u.allowed.test',
        nameCount: 100,
      });
      const start = performance.now();
      const ends = await allEnd(streams, 4000);
      const heldMs = performance.now() - start;
      assert.deepEqual(
        ends.filter((end) => end !== 'ended' && end !== 'reset'),
        [],
      );
      assert.ok(heldMs > 1000 && heldMs < 3500 * patience, `${heldMs} ms`);
      const result = await load.result;
      assert.deepEqual([result.lost, result.rcodes], [0, { '0': result.sent }]);
      assert.ok(result.p50Us < 50_000, `p50 ${result.p50Us} us`);
    }));

  test(`connections over ${connectionsMax} of a pod wait until others are idle, and are answered`, async () => {
    const count = members * connectionsMax + 200;
    const streams = await opened(count, new Uint8Array(0));
    const answers = await Promise.all(
      streams.map(async (stream, i) => {
        const data = query(`n-${i}.slow.test`);
        const reply = await stream.exchange({ data, messages: 1, timeoutMs: 10_000 });
        return readReply(reply.data.subarray(2), to).rcode;
      }),
    );
    assert.deepEqual(answers, Array<string>(count).fill('NOERROR'));
    for (const stream of streams) await stream.close();
  });

  test('idle connections of a pod make way for its own alone', async () => {
    const names = (i: number): string => `n-${i}.allowed.test`;
    await using kept = await neighbour.connect({ to, port });
    await kept.exchange({ data: query(names(1)), messages: 1 });
    const streams = await opened(members * connectionsMax, new Uint8Array(0));
    for (const [i, stream] of streams.entries()) {
      await stream.exchange({ data: query(names(i)), messages: 1 });
    }
    for (let i = 0; i < 60; i++) {
      const asked = { server: to, name: names(i), transport: 'tcp' } as const;
      assert.equal((await askDns(attacker, asked)).rcode, 'NOERROR');
    }
    const { data } = await kept.exchange({ data: query(names(2)), messages: 1 });
    assert.equal(readReply(data.subarray(2), to).rcode, 'NOERROR');
    for (const stream of streams) await stream.close();
  });

  test('more than 512 queries in flight on a connection: the others wait, and are answered', async () => {
    const count = 700;
    const data = concatBytes(
      Array.from({ length: count }, (_, i) => query(`n-${i % 250}.slow.test`, i)),
    );
    const reply = await attacker.tcp({ to, port, data, messages: count, timeoutMs: 8000 });
    const rcodes = messagesOf(reply.data).map((bytes) => readReply(bytes, to).rcode);
    assert.deepEqual(rcodes, Array<string>(count).fill('NOERROR'));
  });

  test('an empty message, or one that is no query, ends the connection', async () => {
    const notQuery = encodeQuestion({ server: to, name: 'n-1.allowed.test' });
    notQuery[2] = 0x81;
    for (const data of [Uint8Array.of(0, 0), Uint8Array.of(0, 1, 0), withLength(notQuery)]) {
      const streams = [await attacker.connect({ to, port, data })];
      assert.notDeepEqual(await allEnd(streams, 1000), ['open']);
    }
  });

  test('connections that a pod opens and closes take no ports of the node', async () => {
    const streams = await opened(60, query('n-1.allowed.test'));
    for (const stream of streams) await stream.exchange({ messages: 1 });
    for (const stream of streams) await stream.close();
    const atNode = (state: string): Promise<string> =>
      node.node.run('ss', ['-Htan', 'state', state, 'dst', `${to}:53`]);
    await waitFor(async () => ((await atNode('established')) === '' ? true : null), {
      what: 'connections to the server to be closed',
      timeoutMs: 15_000,
    });
    assert.equal(await atNode('time-wait'), '');
  });

  test('a connection that is left after its query leaves nothing behind', async () => {
    for (let i = 0; i < 60; i++) {
      const stream = await attacker.connect({ to, port, data: query(`n-${i}.slow.test`) });
      await stream.close({ reset: true });
    }
    await dns.clear();
    for (let i = 0; i < members * 5; i++) {
      const asked = { server: to, name: `n-${i}.allowed.test`, transport: 'tcp' } as const;
      assert.equal((await askDns(attacker, asked)).rcode, 'NOERROR');
    }
  });
});
