// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The benchmark's own tools are right: the relay relays, the load generator counts what is there. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { createNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { runShort, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';

const tool = (name: string): string =>
  fileURLToPath(new URL(`native/build/${name}`, import.meta.url));
const node = await createNode({ name: 'bench', pods: [{ name: 'a' }], kubeProxy: 'none' });
after(() => node[Symbol.asyncDispose]());
const pod = node.pod('a').namespace;
const a = node.own(Probe.start(pod));
const upstream = ['203.0.113.53', '2001:db8::53'] as const;
const port = 5300;
const mark = 0x2000;
const server = node.own(
  await DnsServer.start(node.upstream, {
    addresses: upstream,
    rules: [
      { suffix: 'numbered.test', numbered: { ipv4: '198.18.0.0', ipv6: '2001:db8:1::' } },
      { suffix: 'refused.test', rcode: 5 },
      { suffix: 'lossy.test', every: 4, replies: [] },
      { suffix: 'lossy.test', answers: [{ type: 'A', data: '192.0.2.1' }] },
      { suffix: 'silent.test', replies: [] },
    ],
  }),
);

interface Load {
  readonly sent: number;
  readonly answered: number;
  readonly lost: number;
  readonly late: number;
  readonly elapsedS: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
  readonly rcodes: Readonly<Record<string, number>>;
  readonly seconds: readonly { readonly sent: number; readonly answered: number }[];
}

async function load(...args: string[]): Promise<Load> {
  return JSON.parse(await runShort(...pod.enter(tool('load'), args))) as Load;
}

const direct = ['--server', upstream[0], '--sockets', '16'];

describe('load', () => {
  test('a rate is kept and every answer counted', async () => {
    const format = ['--name-format', 'n-%u.numbered.test'];
    const result = await load(...direct, ...format, '--rate', '1000', '--seconds', '0.5');
    // Never more; fewer when the machine has no time for us.
    assert.ok(result.sent > 250 && result.sent <= 510, `${result.sent} sent`);
    assert.equal(result.answered, result.sent);
    assert.deepEqual(result.rcodes, { 0: result.answered });
    assert.ok(result.p50Us > 0 && result.p50Us <= result.p99Us && result.p99Us <= result.maxUs);
    assert.equal(
      result.seconds.reduce((sum, { answered }) => sum + answered, 0),
      result.answered,
    );
  });

  test('a window sends the number asked for, and names repeat as told', async () => {
    await server.clear();
    const names = [
      '--name-format',
      'n-%u.numbered.test',
      '--name-start',
      '5',
      '--name-count',
      '10',
    ];
    const result = await load(
      ...direct,
      ...names,
      '--window',
      '32',
      '--count',
      '1000',
      '--type',
      'AAAA',
    );
    assert.deepEqual([result.sent, result.answered, result.lost], [1000, 1000, 0]);
    const queries = await server.queries();
    assert.equal(new Set(queries.map(({ name }) => name)).size, 10);
    assert.ok(queries.every(({ type }) => type === 28));
    assert.equal(new Set(queries.map(({ fromPort }) => fromPort)).size, 16);
  });

  test('ports are left after their number of queries', async () => {
    await server.clear();
    const names = ['--name-format', 'n-%u.numbered.test', '--edns'];
    const result = await load(
      ...direct,
      ...names,
      '--window',
      '8',
      '--count',
      '200',
      '--queries-per-port',
      '1',
    );
    assert.equal(result.answered, 200);
    const queries = await server.queries();
    assert.ok(new Set(queries.map(({ fromPort }) => fromPort)).size > 190);
    assert.ok(queries.every(({ ednsBytes }) => ednsBytes === 1232));
  });

  test('losses and rcodes are told', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'load-'));
    const file = join(directory, 'names');
    writeFileSync(file, 'a.lossy.test\nb.lossy.test\n');
    const lossy = await load(
      ...direct,
      '--names',
      file,
      '--window',
      '16',
      '--count',
      '400',
      '--timeout-ms',
      '200',
    );
    rmSync(directory, { recursive: true });
    assert.deepEqual([lossy.sent, lossy.answered, lossy.lost], [400, 300, 100]);
    const format = ['--name-format', '%u.refused.test'];
    const refused = await load(...direct, ...format, '--rate', '2000', '--count', '100');
    assert.deepEqual(refused.rcodes, { 5: 100 });
  });
});

async function startRelay(...args: string[]) {
  const relay = startProcess(...node.node.enter(tool('relay'), ['--port', `${port}`, ...args]));
  await waitFor(() => relay.stdout().includes('ready'), { what: 'the relay' });
  return relay;
}

describe('relay', () => {
  test('to a given server', async () => {
    await using relay = await startRelay('--upstream', upstream[0]);
    const question = { server: plan.node4, port, name: 'n-1.numbered.test' };
    const reply = await askDns(a, question);
    assert.deepEqual([reply.from, reply.addresses], [plan.node4, ['198.18.0.1']]);
    const via = [
      '--server',
      plan.node4,
      '--port',
      `${port}`,
      '--name-format',
      'n-%u.numbered.test',
    ];
    const result = await load(...via, '--window', '64', '--count', '5000');
    assert.deepEqual([result.answered, result.lost], [5000, 0]);
    await relay.stop();
    assert.match(
      relay.stdout(),
      /"queries":5001,"replies":5001,"unknown":0,"full":0,"sendFailed":0/,
    );
  });

  test('to the original destination, v4 and v6, from there, behind the mark guard', async () => {
    await using _relay = await startRelay('--mark', `${mark}`, '--guard', '0x3000:0x1000');
    // As the product: packets with the redirect mark and port P are local.
    for (const family of ['-4', '-6']) {
      await node.node.run('ip', [
        family,
        'rule',
        'add',
        'fwmark',
        '0x1000/0x3000',
        'ipproto',
        'udp',
        'dport',
        `${port}`,
        'lookup',
        '2077',
        'pref',
        '9',
      ]);
      await node.node.run('ip', [
        family,
        'route',
        'add',
        'local',
        'default',
        'dev',
        'lo',
        'table',
        '2077',
      ]);
    }
    const match = ['iifname', 'pod-a', 'udp', 'dport', `${port}`, 'meta', 'mark', 'set', '0x1000'];
    await node.node.run('nft', ['add', 'table', 'inet', 't']);
    const hook = '{ type filter hook prerouting priority -150; }';
    await node.node.run('nft', ['add', 'chain', 'inet', 't', 'c', hook]);
    await node.node.run('nft', ['add', 'rule', 'inet', 't', 'c', ...match]);
    for (const address of upstream) {
      const reply = await askDns(a, { server: address, port, name: 'n-2.numbered.test' });
      assert.deepEqual([reply.from, reply.addresses], [address, ['198.18.0.2']]);
    }
    const remote = node.own(Probe.start(node.remote));
    const unmarked = { server: plan.node4, port, name: 'n-3.numbered.test', timeoutMs: 100 };
    await assert.rejects(askDns(remote, unmarked), /ETIMEDOUT/);
  });
});

test('upstream answers by number, fast and late', async () => {
  const addresses = ['203.0.113.54', '2001:db8::54'] as const;
  const start = async (...args: string[]) => {
    const listen = addresses.flatMap((address) => ['--address', address]);
    const child = startProcess(...node.upstream.enter(tool('upstream'), [...listen, ...args]));
    await waitFor(() => child.stdout().includes('ready'), { what: 'the upstream' });
    return child;
  };
  {
    await using _upstream = await start();
    const four = await askDns(a, { server: addresses[0], name: 'n-70000.x.test', ednsBytes: 1232 });
    assert.deepEqual([four.rcode, four.addresses], ['NOERROR', ['198.19.17.112']]);
    const six = await askDns(a, { server: addresses[1], name: 'n-258.x.test', type: 'AAAA' });
    assert.deepEqual(six.addresses, ['2001:db8:1::102']);
    assert.deepEqual(
      (await askDns(a, { server: addresses[0], name: 'x.test', type: 'TXT' })).answers,
      [],
    );
  }
  await using _late = await start('--delay-us', '20000');
  const names = ['--name-format', 'n-%u.x.test', '--window', '100', '--count', '1000'];
  const result = await load('--server', addresses[0], ...names);
  assert.equal(result.answered, 1000);
  assert.ok(result.p50Us >= 20_000, `${result.p50Us} us`);
});

describe('tcp-load', () => {
  const address = '203.0.113.55';
  const names = ['--name-format', 'n-%u.x.test', '--edns', '--sockets', '8'];
  interface TcpLoad extends Omit<Load, 'seconds'> {
    readonly broken: number;
    readonly connects: number;
  }
  const tcpLoad = async (...args: string[]): Promise<TcpLoad> => {
    const all = ['--server', address, ...names, '--seconds', '0.5', ...args];
    return JSON.parse(await runShort(...pod.enter(tool('tcp-load'), all))) as TcpLoad;
  };
  const start = async (...args: string[]) => {
    const all = ['--address', address, ...args];
    const child = startProcess(...node.upstream.enter(tool('upstream'), all));
    await waitFor(() => child.stdout().includes('ready'), { what: 'the upstream' });
    return child;
  };

  test('connections that stay carry many queries, in flight at one time', async () => {
    await using _upstream = await start('--tcp');
    const result = await tcpLoad('--window', '128');
    assert.ok(result.answered > 1000, `${result.answered} answered`);
    assert.deepEqual([result.connects, result.lost, result.late, result.broken], [8, 0, 0, 0]);
    assert.deepEqual(result.rcodes, { 0: result.sent });
    assert.ok(result.p50Us > 0 && result.p50Us <= result.p99Us && result.p99Us <= result.maxUs);
  });

  test('a connection for each query, at a rate that is kept', async () => {
    await using _upstream = await start('--tcp');
    const result = await tcpLoad('--rate', '200', '--queries-per-port', '1');
    assert.ok(result.sent > 50 && result.sent <= 105, `${result.sent} sent`);
    assert.deepEqual([result.connects, result.answered], [result.sent, result.sent]);
  });

  test('refused connections are queries without an answer', async () => {
    await using _upstream = await start();
    const result = await tcpLoad('--rate', '100', '--queries-per-port', '1');
    assert.ok(result.sent > 10);
    assert.deepEqual([result.answered, result.lost], [0, result.sent]);
  });
});
