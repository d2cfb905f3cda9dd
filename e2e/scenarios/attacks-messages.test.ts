// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Queries made to be read in two ways, or to be expensive (threats T1, T2, T3, T4, T22): what the server
 * sees is what was judged, and a neighbour notices nothing.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns, withLength } from '@tandem/testing/dns-query';
import { concatBytes } from '@tandem/testing/packet';
import { Probe } from '@tandem/testing/probe';
import { assertSilence, goOn, silenceMs } from '../kit/attack.ts';
import { bothCount, waitForCount } from '../kit/dns-counters.ts';
import { startLoad } from '../kit/load.ts';
import { dnsPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const pattern = [{ matchPattern: '*.allowed.test' }];
const standard = await startStandardNode({
  pods: [{ name: 'attacker' }],
  policies: [
    standardPolicy,
    dnsPolicy({ name: 'attacker', selects: { app: 'attacker' }, dns: pattern, fqdns: pattern }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { dns, node, tandem } = standard;
const attacker = node.own(Probe.start(node.pod('attacker').namespace));
const clientSpace = node.pod('client').namespace;
const server = clusterDns4;

/** A name of raw labels, the root after the last. */
const wireName = (...labels: readonly (string | Uint8Array)[]): Uint8Array =>
  concatBytes([
    ...labels.map((label) => {
      const bytes = typeof label === 'string' ? Buffer.from(label, 'latin1') : label;
      return concatBytes([Uint8Array.of(bytes.length), bytes]);
    }),
    Uint8Array.of(0),
  ]);
const question = (name: Uint8Array, type = 1, klass = 1): Uint8Array =>
  concatBytes([name, Uint8Array.of(type >> 8, type & 255, klass >> 8, klass & 255)]);
const allowed = question(wireName('n-1', 'allowed', 'test'));
const denied = question(wireName('n-1', 'denied', 'test'));

interface Header {
  readonly flags?: number;
  /** Counts of the four sections; default: one question. */
  readonly counts?: readonly [number, number, number, number];
}
const message = (sections: readonly Uint8Array[], header: Header = {}): Uint8Array => {
  const { flags = 0x0100, counts = [1, 0, 0, 0] } = header;
  const head = new Uint8Array(12);
  const view = new DataView(head.buffer);
  [0x1234, flags, ...counts].forEach((value, i) => view.setUint16(2 * i, value));
  return concatBytes([head, ...sections]);
};
const record = concatBytes([
  allowed.subarray(0, -4),
  Uint8Array.of(0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 18, 0, 1),
]);

interface Case {
  readonly what: string;
  readonly bytes: Uint8Array;
  /** null: no answer, over TCP a closed connection. */
  readonly rcode: 'FORMERR' | 'NOTIMP' | 'REFUSED' | null;
}
const pointerToItself = concatBytes([Uint8Array.of(0xc0, 12), Uint8Array.of(0, 1, 0, 1)]);
const manyLabels = wireName(...Array.from({ length: 125 }, () => 'a'), 'b');
const cases: readonly Case[] = [
  {
    what: 'two questions, an allowed and a denied one',
    bytes: message([allowed, denied], { counts: [2, 0, 0, 0] }),
    rcode: 'FORMERR',
  },
  { what: 'no question', bytes: message([], { counts: [0, 0, 0, 0] }), rcode: 'FORMERR' },
  {
    what: 'a question that is not there',
    bytes: message([], { counts: [1, 0, 0, 0] }),
    rcode: 'FORMERR',
  },
  { what: 'a reply', bytes: message([allowed], { flags: 0x8180 }), rcode: null },
  { what: 'opcode IQUERY', bytes: message([allowed], { flags: 0x0800 }), rcode: 'NOTIMP' },
  { what: 'opcode NOTIFY', bytes: message([allowed], { flags: 0x2000 }), rcode: 'NOTIMP' },
  { what: 'opcode UPDATE', bytes: message([allowed], { flags: 0x2800 }), rcode: 'NOTIMP' },
  {
    what: 'an answer in the query',
    bytes: message([allowed, record], { counts: [1, 1, 0, 0] }),
    rcode: 'FORMERR',
  },
  {
    what: 'an authority in the query',
    bytes: message([allowed, record], { counts: [1, 0, 1, 0] }),
    rcode: 'FORMERR',
  },
  {
    what: 'an additional record that is no OPT',
    bytes: message([allowed, record], { counts: [1, 0, 0, 1] }),
    rcode: 'FORMERR',
  },
  { what: 'a name that points to itself', bytes: message([pointerToItself]), rcode: 'FORMERR' },
  {
    what: 'a name that points into the header',
    bytes: message([Uint8Array.of(1, 97, 0xc0, 4, 0, 1, 0, 1)]),
    rcode: 'FORMERR',
  },
  {
    what: 'a name that ends in a pointer to a later one',
    bytes: message([Uint8Array.of(1, 97, 0xc0, 20, 0, 1, 0, 1), allowed]),
    rcode: 'FORMERR',
  },
  {
    what: 'a label of type 01',
    bytes: message([Uint8Array.of(0x41, 97, 0, 0, 1, 0, 1)]),
    rcode: 'FORMERR',
  },
  {
    what: 'a name over 255 bytes',
    bytes: message([
      question(
        wireName('x'.repeat(63), 'x'.repeat(63), 'x'.repeat(63), 'x'.repeat(60), 'allowed', 'test'),
      ),
    ]),
    rcode: 'FORMERR',
  },
  { what: 'a header that is cut', bytes: message([allowed]).subarray(0, 11), rcode: null },
  // The labels of a pattern are compared, not a text that could be read as several.
  {
    what: 'a dot inside a label',
    bytes: message([question(wireName('n-1.allowed', 'test'))]),
    rcode: 'REFUSED',
  },
  {
    what: 'the whole name as one label',
    bytes: message([question(wireName('n-1.allowed.test'))]),
    rcode: 'REFUSED',
  },
  {
    what: 'the pattern in front of the name',
    bytes: message([question(wireName('n-1', 'allowed', 'test', 'evil', 'test'))]),
    rcode: 'REFUSED',
  },
  {
    what: 'NUL behind the name',
    bytes: message([question(wireName('n-1', 'denied', 'test\0', 'allowed'))]),
    rcode: 'REFUSED',
  },
  {
    what: 'a byte that is no ASCII',
    bytes: message([question(wireName('n-1', 'allowed', 'tes\xf4'))]),
    rcode: 'REFUSED',
  },
  { what: 'the root', bytes: message([question(wireName())]), rcode: 'REFUSED' },
  { what: '126 labels', bytes: message([question(manyLabels)]), rcode: 'REFUSED' },
  {
    what: 'one label less than the pattern',
    bytes: message([question(wireName('allowed', 'test'))]),
    rcode: 'REFUSED',
  },
];

describe('a query with', () => {
  let malformedBefore = 0;
  before(async () => {
    await dns.clear();
    malformedBefore = await bothCount(tandem, 'malformed');
  });
  for (const { what, bytes, rcode } of cases) {
    test(`${what}, udp`, async () => {
      const asked = attacker.udp({ to: server, port: 53, data: bytes, timeoutMs: silenceMs });
      if (rcode === null) await assertSilence(asked, what);
      else {
        const { replies } = await asked;
        assert.equal((replies[0]?.data[3] ?? 0) & 15, readRcode(rcode));
      }
    });

    test(`${what}, tcp`, async () => {
      const data = withLength(bytes);
      const asked = { to: server, port: 53, data, timeoutMs: 2000 };
      if (rcode === null) {
        const closed = attacker.tcp({ ...asked, untilEnd: true });
        const got = await closed.then(
          ({ data: rest }) => rest.length,
          () => 0,
        );
        assert.equal(got, 0);
      } else {
        const reply = await attacker.tcp({ ...asked, messages: 1 });
        assert.equal((reply.data[5] ?? 0) & 15, readRcode(rcode));
      }
    });
  }

  test('any of these counts once over UDP and once over TCP, and leaves nothing at the server', async () => {
    const malformed = cases.filter(({ rcode }) => rcode === 'FORMERR' || rcode === 'NOTIMP');
    await waitForCount(tandem, 'malformed', malformedBefore + 2 * malformed.length);
    await askDns(attacker, { server, name: 'n-2.allowed.test' });
    const seen = await dns.queries();
    assert.deepEqual(
      seen.map(({ name }) => name),
      ['n-2.allowed.test'],
    );
    assert.equal((await dns.totals()).malformed, 0);
  });

  test('a second question behind the one that counts is sent on without it', async () => {
    const dnsProbe = node.own(Probe.start(node.pod('dns').namespace));
    await using atServer = await dnsProbe.capture({ contains: 'denied' });
    const { replies } = await attacker.udp({
      to: server,
      port: 53,
      data: message([allowed, denied]),
    });
    assert.equal((replies[0]?.data[3] ?? 0) & 15, 0);
    assert.equal((await dns.queries('n-1.allowed.test')).length, 1);
    assert.equal((await atServer.captured()).matched, 0);
  });

  test('letters of both cases is sent on and answered as it was asked', async () => {
    const sentName = 'N-3.aLLoWeD.TesT';
    const reply = await askDns(attacker, { server, name: sentName });
    assert.deepEqual(reply.addresses, ['198.18.0.3']);
    assert.equal((await dns.queries('n-3.allowed.test'))[0]?.sentName, sentName);
    assert.ok(Buffer.from(reply.bytes).includes(Buffer.from('aLLoWeD')));
  });

  test('control characters shows none of them in the logs', async () => {
    const label = '\x1b]0;owned\x07\n\r{"level":"error"}';
    const bytes = message([question(wireName(label, 'denied', 'test'))]);
    const { replies } = await attacker.udp({ to: server, port: 53, data: bytes });
    assert.ok(replies[0] !== undefined);
    // oxlint-disable-next-line no-control-regex -- that is what is looked for
    assert.doesNotMatch(tandem.logs(), /[\x00-\x09\x0b-\x1f\x7f]/);
  });
});

describe('messages made to be expensive', () => {
  /** 64 KB of pointers, each to the one before. */
  const chain = new Uint8Array(65_535 - 12);
  for (let at = 0; at + 1 < chain.length; at += 2) {
    const target = Math.max(12, 12 + at - 2) & 0x3fff;
    chain[at] = 0xc0 | (target >> 8);
    chain[at + 1] = target & 255;
  }
  const expensive: Readonly<Record<string, Uint8Array>> = {
    'a chain of pointers': message([chain], { counts: [1, 0, 0, 0] }),
    'questions of pointers': message([chain], { counts: [0xffff, 0, 0, 0] }),
    'records of pointers': message([allowed, chain.subarray(allowed.length)], {
      counts: [1, 0, 0, 0xffff],
    }),
    'additional records of no length': message(
      [allowed, new Uint8Array(65_535 - 12 - allowed.length)],
      { counts: [1, 0, 0, 0xffff] },
    ),
  };
  for (const [what, bomb] of Object.entries(expensive)) {
    test(`${what}: a neighbour loses nothing and waits for nothing`, async () => {
      await using load = startLoad(clientSpace, {
        server,
        // Fewer in all than one pod may have in flight: a machine that stands still refuses none.
        rate: 200,
        seconds: 1.2,
        nameFormat: 'n-%u.allowed.test',
        nameCount: 100,
      });
      const over = new AbortController();
      const attack = (async () => {
        const data = withLength(bomb);
        while (!over.signal.aborted) {
          await Promise.all(
            Array.from({ length: 4 }, () =>
              attacker
                .tcp({ to: server, port: 53, data, messages: 1, timeoutMs: 1000 })
                .catch(goOn),
            ),
          );
        }
      })();
      attack.catch(() => undefined); // told when all is done
      const result = await load.result;
      over.abort();
      await attack;
      assert.deepEqual([result.lost, result.rcodes], [0, { '0': result.sent }]);
      // A parser that follows every pointer takes 175 ms for one message: half of all queries would wait.
      assert.ok(result.p50Us < 50_000, `p50 ${result.p50Us} us`);
    });
  }

  test('as a reply they cost the one who asked, and nobody else', async () => {
    const reply = message([allowed, chain.subarray(0, 4000)], {
      flags: 0x8180,
      counts: [1, 2000, 0, 0],
    });
    const raw = Buffer.from(reply).toString('hex');
    await dns.program([{ name: 'n-1.allowed.test', replies: [{ raw }] }, ...standardRules]);
    await using load = startLoad(clientSpace, {
      server,
      rate: 200,
      seconds: 1.2,
      nameFormat: 'n-%u.allowed.test',
      nameStart: 100,
      nameCount: 100,
    });
    await using bombs = startLoad(node.pod('attacker').namespace, {
      server,
      rate: 300,
      seconds: 1,
      nameFormat: 'n-%u.allowed.test',
      nameStart: 1,
      nameCount: 1,
      timeoutMs: 300,
    });
    const result = await load.result;
    await bombs.result;
    assert.deepEqual([result.lost, result.rcodes], [0, { '0': result.sent }]);
    assert.ok(result.p50Us < 50_000, `p50 ${result.p50Us} us`);
  });
});

function readRcode(name: 'FORMERR' | 'NOTIMP' | 'REFUSED'): number {
  return { FORMERR: 1, NOTIMP: 4, REFUSED: 5 }[name];
}
