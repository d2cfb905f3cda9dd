// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameFromText } from '@tandem/core/dns/name';
import { parseAddress } from '@tandem/core/net/ip';
import {
  DnsVerdict,
  EventType,
  EventVerdict,
  type ObserveResponseInit,
} from '@tandem/proto/gen/messages';
import { CannedNode } from '../../test/canned-node.ts';
import { cli } from '../../test/run-cli.ts';
import { exitCode } from '../exit-codes.ts';

const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;
const name = (text: string): Uint8Array => nameFromText(text) as Uint8Array;
const boundMs = 15_000;

function dnsEvent(
  number: number,
  overrides: Partial<ObserveResponseInit> = {},
): ObserveResponseInit {
  return {
    timeUnixMs: 1_700_000_000_000 + number,
    pod: 'shop/web',
    verdict: EventVerdict.EVENT_VERDICT_ALLOWED,
    dns: {
      timeNs: number * 1e6,
      member: 1,
      endpointId: 5,
      source: address('10.1.0.11'),
      name: name(`n${number}.example.com`),
      qtype: 1,
      rcode: 0,
      verdict: DnsVerdict.DNS_VERDICT_ALLOWED,
      server: address('10.96.0.10'),
      protocol: 17,
      latencyUs: 1234,
      addresses: [address('203.0.113.10')],
      addressCount: 3,
      lifetimeS: 60,
    },
    ...overrides,
  };
}

const drop: ObserveResponseInit = {
  timeUnixMs: 1_700_000_000_500,
  pod: 'shop/web',
  verdict: EventVerdict.EVENT_VERDICT_DENIED,
  drop: {
    timeNs: 500e6,
    endpointId: 5,
    source: address('fd00:1::11'),
    destination: address('2001:db8::20'),
    sourcePort: 40_000,
    destinationPort: 443,
    protocol: 6,
    direction: 1,
    hook: 3,
  },
  dropReason: 'drop_no_match',
  peerNames: [Uint8Array.of(3, 0x1b, 0x5b, 0x41, 0)],
};

test('one line each, for people', async () => {
  await using node = new CannedNode();
  const refused = dnsEvent(2, {
    verdict: EventVerdict.EVENT_VERDICT_DENIED,
    pod: 'shop/\u001b[2J',
  });
  const denied = {
    ...refused.dns,
    verdict: DnsVerdict.DNS_VERDICT_DENIED,
    rcode: 5,
    addresses: [],
    addressCount: 0,
  };
  const timeout = {
    ...refused.dns,
    name: new Uint8Array(0),
    verdict: DnsVerdict.DNS_VERDICT_TIMEOUT,
    rcode: 2,
  };
  await node.serve('agent', {
    events: [
      dnsEvent(1),
      { ...refused, dns: denied },
      { ...refused, dns: { ...timeout, addresses: [], addressCount: 0, qtype: 4242, timeNs: 9 } },
      drop,
      { ...drop, drop: { ...drop.drop, hook: 5 }, peerNames: [] },
      {
        ...{ ...drop, dropReason: 'drop_policy_deny', peerNames: [] },
        rule: 'ClusterNetworkPolicy/no-web: spec.egress[0]',
        ruleTier: 'Admin tier, priority 10',
      },
    ],
  });
  const run = await cli(['observe', '--no-follow', ...node.flags]);
  assert.equal(run.code, exitCode.ok);
  assert.deepEqual(run.stdout.split('\n'), [
    '2023-11-14T22:13:20.001Z  dns   allowed  shop/web  A n1.example.com. -> NOERROR 203.0.113.10 (+2) for 60 s (udp 10.96.0.10, 1.2 ms, dns-proxy)',
    '2023-11-14T22:13:20.002Z  dns   denied   shop/\\u001b[2J  A n2.example.com. -> REFUSED (udp 10.96.0.10, 1.2 ms, dns-proxy)',
    '2023-11-14T22:13:20.002Z  dns   denied   shop/\\u001b[2J  TYPE4242 <no name> -> timeout SERVFAIL (udp 10.96.0.10, 1.2 ms, dns-proxy)',
    '2023-11-14T22:13:20.500Z  drop  denied   shop/web  egress tcp [fd00:1::11]:40000 -> [2001:db8::20]:443 [\\027\\091A.] drop_no_match: no rule allows the packet (default deny) (post-routing)',
    '2023-11-14T22:13:20.500Z  drop  denied   shop/web  egress tcp [fd00:1::11]:40000 -> [2001:db8::20]:443 drop_no_match: no rule allows the packet (default deny) (guard_exit)',
    '2023-11-14T22:13:20.500Z  drop  denied   shop/web  egress tcp [fd00:1::11]:40000 -> [2001:db8::20]:443 drop_policy_deny: a deny rule matches, rule ClusterNetworkPolicy/no-web: spec.egress[0] (Admin tier, priority 10) (post-routing)',
    '',
  ]);
  assert.deepEqual(
    node.requests.map(({ last, sinceS, follow }) => ({ last, sinceS, follow })),
    [{ last: 20, sinceS: 0, follow: false }],
  );
});

test('filters go to the server; JSON is a document per line', async () => {
  await using node = new CannedNode();
  await node.serve('agent', { events: [dnsEvent(1), drop] });
  const filters = [
    '--pod',
    'shop/web',
    '--name',
    '*.example.com',
    '--verdict',
    'denied',
    '--type',
    'drop',
  ];
  const past = ['--last', '7', '--since', '5m', '--no-follow'];
  const run = await cli(['observe', '-o', 'json', ...filters, ...past, ...node.flags]);
  const { pod, namePattern, verdict, type, last, sinceS, follow } =
    node.requests[0] ?? assert.fail();
  assert.deepEqual(
    { pod, namePattern, verdict, type, last, sinceS, follow },
    {
      pod: 'shop/web',
      namePattern: '*.example.com',
      verdict: EventVerdict.EVENT_VERDICT_DENIED,
      type: EventType.EVENT_TYPE_DROP,
      last: 7,
      sinceS: 300,
      follow: false,
    },
  );
  const lines = run.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    lines.map((line) => [line['type'], line['verdict'], line['name'] ?? line['reason']]),
    [
      ['dns', 'allowed', 'n1.example.com.'],
      ['drop', 'denied', 'drop_no_match'],
    ],
  );
  assert.equal(run.stderr, '');
});

test('events that were lost are told', async () => {
  await using node = new CannedNode();
  await node.serve('agent', { events: [dnsEvent(1, { lost: 3 })] });
  const run = await cli(['observe', '--no-follow', ...node.flags]);
  assert.match(run.stderr, /3 events lost/);
});

test('events that the node lost are events of their own', async () => {
  await using node = new CannedNode();
  const lostEvents = { timeNs: 1e9, count: 12, reason: 'ring-full' };
  const lost: ObserveResponseInit = { timeUnixMs: 1_700_000_000_000, lostEvents };
  await node.serve('agent', { events: [dnsEvent(1), lost] });
  const text = await cli(['observe', '--no-follow', ...node.flags]);
  assert.match(
    text.stdout,
    /2023-11-14T22:13:20.000Z {2}lost {2}12 drop events, because the ring buffer was full/,
  );
  const json = await cli(['observe', '--no-follow', '-o', 'json', ...node.flags]);
  const documents = json.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object);
  assert.deepEqual(
    documents.find((document) => 'reason' in document),
    { time: '2023-11-14T22:13:20.000Z', type: 'lost', count: 12, reason: 'ring-full', lost: 0 },
  );
});

test('follows until it is interrupted', { timeout: boundMs }, async () => {
  await using node = new CannedNode();
  await node.serve('agent', { events: [dnsEvent(1), dnsEvent(2)] });
  const abort = new AbortController();
  const run = await cli(['observe', ...node.flags], {
    signal: abort.signal,
    onOutput: (text) => {
      if (text.split('\n').length > 2) abort.abort();
    },
  });
  assert.equal(run.code, exitCode.ok);
  assert.deepEqual(
    node.requests.map(({ last, sinceS, follow }) => ({ last, sinceS, follow })),
    [{ last: 0, sinceS: 0, follow: true }],
  );
});

test('when the agent ends the DNS proxy goes on, and nothing shows twice', {
  timeout: boundMs,
}, async () => {
  await using node = new CannedNode();
  await node.serve('agent', { events: [dnsEvent(1), dnsEvent(2)] });
  await node.serve('dns-proxy', { events: [dnsEvent(2), dnsEvent(3)] });
  const abort = new AbortController();
  let stopping: Promise<void> | null = null;
  const run = await cli(['observe', ...node.flags], {
    signal: abort.signal,
    onOutput: (text) => {
      if (text.includes('n2.') && stopping === null) stopping = node.stop('agent');
      if (text.includes('n3.')) abort.abort();
    },
  });
  await stopping;
  const names = [...run.stdout.matchAll(/ (n\d)\./g)].map(([, found]) => found);
  assert.deepEqual(names, ['n1', 'n2', 'n3']);
  assert.match(
    run.stderr,
    /events interrupted: .*\n.*agent does not answer.*\nanswered by the dns-proxy/,
  );
  const last = node.requests.at(-1);
  assert.ok(last !== undefined && last.sinceS >= 1 && last.last === 0, 'the gap is asked for');
});

test('with both processes gone it waits for one to come back, and says so once', {
  timeout: boundMs,
}, async () => {
  await using node = new CannedNode();
  await node.serve('agent', { events: [dnsEvent(1)] });
  const abort = new AbortController();
  let restarting: Promise<void> | null = null;
  const restart = async (): Promise<void> => {
    await node.stop('agent');
    await node.serve('dns-proxy', { events: [dnsEvent(4)] });
  };
  const run = await cli(['observe', '-o', 'json', ...node.flags], {
    signal: abort.signal,
    onOutput: (text) => {
      restarting ??= restart();
      if (text.includes('n4.')) abort.abort();
    },
  });
  await restarting;
  assert.equal(run.code, exitCode.ok);
  assert.equal(run.stdout.trimEnd().split('\n').length, 2);
});

test('a refused request ends at once, as wrong usage', { timeout: boundMs }, async () => {
  await using node = new CannedNode();
  await node.serve('agent', { refusal: { code: 3, details: 'no such\u001b pattern' } });
  const run = await cli(['observe', ...node.flags]);
  assert.equal(run.code, exitCode.usage);
  assert.match(run.stderr, /no such\\u001b pattern/);
});

test('past events are shown by time', async () => {
  await using node = new CannedNode();
  await node.serve('agent', { events: [drop, dnsEvent(9), dnsEvent(3)] });
  const run = await cli(['observe', '--no-follow', ...node.flags]);
  const times = run.stdout.split('\n').map((line) => line.slice(0, 24));
  assert.deepEqual(times, times.toSorted().slice(1).concat(''));
});
