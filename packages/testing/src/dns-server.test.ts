// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { askDns, encodeQuestion, withLength } from './dns-query.ts';
import { DnsScript, numberedAddress, readQuestion } from './dns-script.ts';
import { DnsServer } from './dns-server.ts';
import { createNode } from './netns.ts';
import { Probe } from './probe.ts';
import { ProbeError } from './probe-process.ts';
import { Unbound } from './unbound.ts';

const node = await createNode({ name: 'dns', pods: [{ name: 'a' }], kubeProxy: 'nftables' });
after(() => node[Symbol.asyncDispose]());
const a = node.own(Probe.start(node.pod('a').namespace));
const upstream = node.own(Probe.start(node.upstream));
const address = '203.0.113.53';
const address6 = '2001:db8::53';
const server = node.own(
  await DnsServer.start(node.upstream, {
    addresses: [address, address6],
    rules: [
      {
        name: 'www.example.test',
        answers: [
          { type: 'A', data: '203.0.113.10', ttl: 5 },
          { type: 'AAAA', data: '2001:db8::10' },
        ],
      },
      {
        name: 'alias.example.test',
        answers: [
          { type: 'CNAME', data: 'target.example.test' },
          { type: 'A', name: 'target.example.test', data: '203.0.113.11' },
          { type: 'A', name: 'bank.test', data: '203.0.113.66' },
        ],
      },
      { suffix: 'numbered.test', numbered: { ipv4: '198.18.0.0', ipv6: '2001:db8:1::' } },
      {
        name: 'big.test',
        answers: Array.from({ length: 60 }, (_, i) => ({ type: 'A', data: `203.0.113.${i}` })),
      },
      { name: 'silent.test', replies: [] },
      { name: 'half.test', every: 2, replies: [] },
      { name: 'half.test', answers: [{ type: 'A', data: '203.0.113.12' }] },
      {
        name: 'forged.test',
        answers: [{ type: 'A', data: '203.0.113.13' }],
        replies: [{ change: 'wrong-id' }, { change: 'wrong-case' }, { delayMs: 20 }],
      },
      { name: 'refused.test', rcode: 5 },
      { name: 'closed.test', replies: [{ close: true }] },
      { name: 'once.test', replies: [{}, { close: true }] },
      { name: 'reset.test', replies: [{ reset: true }] },
    ],
  }),
);

describe('a scripted server', () => {
  for (const transport of ['udp', 'tcp'] as const) {
    test(`answers over ${transport}, v4 and v6`, async () => {
      const four = await askDns(a, { server: address, name: 'www.example.test', transport });
      assert.deepEqual(four.addresses, ['203.0.113.10']);
      assert.equal(four.from, address);
      const six = await askDns(a, {
        server: address6,
        name: 'WWW.example.test',
        type: 'AAAA',
        transport,
      });
      assert.deepEqual(six.addresses, ['2001:db8::10']);
      assert.equal(
        (await askDns(a, { server: address, name: 'no.test', transport })).rcode,
        'NXDOMAIN',
      );
    });
  }

  test('chains, poison, rcodes', async () => {
    const { answers } = await askDns(a, { server: address, name: 'alias.example.test' });
    assert.deepEqual(
      answers.map(({ name, type }) => `${name} ${type}`),
      ['alias.example.test CNAME', 'target.example.test A', 'bank.test A'],
    );
    assert.equal((await askDns(a, { server: address, name: 'refused.test' })).rcode, 'REFUSED');
  });

  test('numbered names', async () => {
    const four = await askDns(a, { server: address, name: 'n-70000.numbered.test' });
    assert.deepEqual(four.addresses, ['198.19.17.112']);
    assert.equal(numberedAddress('198.18.0.0', 70000), '198.19.17.112');
    const six = await askDns(a, { server: address, name: 'n-258.numbered.test', type: 'AAAA' });
    assert.deepEqual(six.addresses, ['2001:db8:1::102']);
  });

  test('truncates by the size that the client takes', async () => {
    assert.equal((await askDns(a, { server: address, name: 'big.test' })).isTruncated, true);
    const edns = await askDns(a, { server: address, name: 'big.test', ednsBytes: 1400 });
    assert.equal(edns.addresses.length, 60);
    assert.equal(
      (await askDns(a, { server: address, name: 'big.test', transport: 'tcp' })).addresses.length,
      60,
    );
  });

  test('loses, closes, and forges', async () => {
    const isTimeout = (error: unknown) => error instanceof ProbeError && error.code === 'ETIMEDOUT';
    const silent = { server: address, name: 'silent.test', timeoutMs: 50 };
    await assert.rejects(askDns(a, silent), isTimeout);
    const half = { server: address, name: 'half.test', timeoutMs: 100 };
    await askDns(a, half);
    await assert.rejects(askDns(a, half), isTimeout);
    await assert.rejects(
      askDns(a, { server: address, name: 'closed.test', transport: 'tcp' }),
      ProbeError,
    );
    const once = await askDns(a, { server: address, name: 'once.test', transport: 'tcp' });
    assert.equal(once.rcode, 'NOERROR');
    await assert.rejects(
      askDns(a, { server: address, name: 'reset.test', transport: 'tcp' }),
      /ECONNRESET/,
    );
    const query = encodeQuestion({ server: address, name: 'forged.test', id: 7 });
    const { replies } = await a.udp({ to: address, port: 53, data: query, want: 3 });
    assert.deepEqual(
      replies.map(({ data }) => data[1] === 7),
      [false, true, true],
    );
    assert.equal(Buffer.from(replies[1]?.data ?? '').includes('FORGED'), true);
    assert.deepEqual(replies[2]?.data.subarray(12, 12 + query.length - 12), query.subarray(12));
  });

  test('pipelined queries on one connection', async () => {
    const queries = [1, 2, 3].map((id) =>
      withLength(encodeQuestion({ server: '', name: 'www.example.test', id })),
    );
    const data = new Uint8Array(Buffer.concat(queries));
    const reply = await a.tcp({ to: address, port: 53, data, messages: 3 });
    assert.equal(Buffer.from(reply.data).indexOf(Buffer.from([0, 3])) > 0, true);
  });

  test('tells what it was asked, and takes new rules', async () => {
    await server.clear();
    await askDns(a, { server: address, name: 'Www.Example.test', id: 99, ednsBytes: 1232 });
    const [query] = await server.queries('www.example.test');
    assert.equal(query?.sentName, 'Www.Example.test');
    assert.deepEqual(
      [query?.id, query?.ednsBytes, query?.transport, query?.to],
      [99, 1232, 'udp', address],
    );
    await a.udp({ to: address, port: 53, data: 'not dns', timeoutMs: 50 }).catch(() => undefined);
    assert.deepEqual(await server.totals(), { total: 2, malformed: 1 });
  });
});

test('bulk: fresh names, each reachable at once', async () => {
  await using web = await upstream.listen({ protocol: 'tcp', address: '0.0.0.0', port: 80 });
  const result = await a.bulk({
    server: address,
    suffix: '.numbered.test',
    count: 2000,
    concurrency: 16,
  });
  assert.deepEqual(result.failures, []);
  assert.equal(result.connected, 2000);
  assert.ok(result.connectUs !== null && result.connectUs.p50 > 0);
  assert.equal((await web.served()).accepted, 2000);
  const overTcp = { server: address6, type: 'AAAA', transport: 'tcp', connectPort: 88 } as const;
  await using _web6 = await upstream.listen({ protocol: 'tcp', address: '::', port: 88 });
  const numbered = { ...overTcp, suffix: '.numbered.test', count: 1000, concurrency: 16 };
  const six = await a.bulk(numbered);
  assert.deepEqual([six.connected, six.failures], [1000, []]);
  const refused = await a.bulk({ server: address, prefix: 'x', suffix: '.no.test', count: 20 });
  assert.equal(refused.rcodes, 20);
  assert.equal(refused.failures[0], '0:rcodes:3');
  const closed = {
    server: address6,
    type: 'AAAA',
    suffix: '.numbered.test',
    connectPort: 81,
  } as const;
  assert.equal((await a.bulk({ ...closed, count: 10 })).connectErrors, 10);
});

test('unbound with local zones', async () => {
  await using unbound = await Unbound.start(node.upstream, {
    port: 5300,
    zones: { 'example.test': 'static', 'wild.test': 'redirect' },
    data: ['www.example.test. 60 IN A 203.0.113.20', 'wild.test. 60 IN A 203.0.113.21'],
  });
  const ask = (server_: string, name: string) => askDns(a, { server: server_, port: 5300, name });
  assert.deepEqual((await ask('203.0.113.99', 'www.example.test')).addresses, ['203.0.113.20']);
  assert.deepEqual((await ask('2001:db8::99', 'any.wild.test')).addresses, ['203.0.113.21']);
  assert.equal((await ask('203.0.113.99', 'no.example.test')).rcode, 'NXDOMAIN');
  assert.match(unbound.log(), /start of service/);
});

describe('changed replies', () => {
  const question = readQuestion(encodeQuestion({ server: '', name: 'az.test', id: 1 }));
  assert.ok(question);
  const bytesOf = (
    change:
      | 'wrong-name'
      | 'two-questions'
      | 'no-question'
      | 'cut'
      | 'not-a-reply'
      | 'truncated-full',
  ) => {
    const script = new DnsScript([
      { answers: [{ type: 'A', data: '192.0.2.1' }], replies: [{ change }] },
    ]);
    return script.replies(question, 'udp')[0]?.bytes ?? new Uint8Array(0);
  };
  test('are what their name says', () => {
    assert.equal(readQuestion(bytesOf('wrong-name'))?.name, 'by.uftu');
    assert.equal(bytesOf('two-questions')[5], 2);
    assert.equal(bytesOf('no-question')[5], 0);
    assert.equal((bytesOf('not-a-reply')[2] ?? 0) & 0x80, 0);
    assert.equal((bytesOf('truncated-full')[2] ?? 0) & 2, 2);
    assert.equal(bytesOf('truncated-full')[7], 1);
    assert.equal(bytesOf('cut').length < bytesOf('truncated-full').length, true);
  });
});
