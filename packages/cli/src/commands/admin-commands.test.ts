// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The commands that ask a process, against real sockets with canned answers. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameFromText } from '@tandem/core/dns/name';
import { parseAddress } from '@tandem/core/net/ip';
import { MemberState, Severity } from '@tandem/proto/gen/messages';
import { CannedNode, healthyStatus } from '../../test/canned-node.ts';
import { cli } from '../../test/run-cli.ts';
import { exitCode } from '../exit-codes.ts';

const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;
const name = (text: string): Uint8Array => nameFromText(text) as Uint8Array;

interface StatusJson {
  readonly health: string;
  readonly answeredBy: string | null;
  readonly members: readonly { readonly role: string; readonly isServing: boolean }[];
  readonly degraded: readonly { readonly code: string; readonly fix: string }[];
  readonly diagnostics: readonly { readonly severity: string; readonly code: string }[];
  readonly dropReader: object;
  readonly policy: { readonly servedRevision: number; readonly createdAt: string };
}

test('status: without pins the members are those that the processes see', async () => {
  await using node = new CannedNode();
  await node.serve('agent', { status: healthyStatus() });
  await node.serve('dns-proxy', { status: healthyStatus('dns-proxy') });
  const run = await cli(['status', '-o', 'json', ...node.flags]);
  const status = JSON.parse(run.stdout) as StatusJson;
  assert.equal(status.answeredBy, 'agent');
  assert.deepEqual(
    status.members.map(({ role, isServing }) => [role, isServing]),
    [
      ['agent', true],
      ['dns-proxy', true],
    ],
  );
  assert.deepEqual(status.dropReader, {
    ...{ process: 'agent', ageMs: 20, seen: 40, missing: 2, kernelLost: 3, kernelLimited: 0 },
  });
  const text = await cli(['status', ...node.flags]);
  assert.match(
    text.stdout,
    /Drops: {3}read by the agent, 20 ms ago; 40 events, 2 missing; 3 lost to a full ring/,
  );
  assert.equal(status.policy.createdAt, '2023-11-14T22:13:20.000Z');
  // Without the group it is not known that all is well.
  assert.deepEqual(
    status.degraded.map(({ code }) => code),
    ['group-unreadable'],
  );
  assert.equal(run.code, exitCode.problem);
});

test('status: text names the first of the pods that ask much, and says how many more; JSON names more', async () => {
  await using node = new CannedNode();
  const heavyPods = Array.from({ length: 64 }, (_, i) => `shop/web-${i}`);
  const lanes = {
    ...{ selected: 900, selectedHeavy: 600, queriesRefused: 7, connectionsRefused: 2 },
    ...{ queuedBytes: 0, queuedHeavyBytes: 2048, dropped: 1, droppedHeavy: 3 },
    ...{ knowsPods: true, heavyPods, heavyPodsTotal: 100 },
  };
  await node.serve('agent', { status: { ...healthyStatus(), lanes } });
  const { stdout } = await cli(['status', ...node.flags]);
  assert.match(
    stdout,
    /Lanes: {3}900 packets to members, 600 in the heavy lane; 7 datagrams and 2 SYNs over the rate of a pod dropped\n/,
  );
  assert.match(
    stdout,
    /agent: light lane 0 B waiting, 1 dropped; heavy lane 2 KiB waiting, 3 dropped\n/,
  );
  assert.match(
    stdout,
    /pods that ask much now: shop\/web-0, .*, shop\/web-9 and 90 more: see -o json\n/,
  );
  const json = await cli(['status', '-o', 'json', ...node.flags]);
  const status = JSON.parse(json.stdout) as {
    lanes: { heavyPods: string[]; heavyPodsTotal: number };
  };
  assert.deepEqual([status.lanes.heavyPods, status.lanes.heavyPodsTotal], [heavyPods, 100]);
});

test('status: text names every object of a problem; JSON has the message of each', async () => {
  await using node = new CannedNode();
  const total = 2048;
  const diagnostics = Array.from({ length: total }, (_, i) => ({
    severity: Severity.SEVERITY_ERROR,
    code: 'policy-invalid',
    subject: `CiliumNetworkPolicy/shop/p${i}`,
    message: 'spec.egress[0].toServices is not supported',
  }));
  await node.serve('agent', { status: { ...healthyStatus(), diagnostics } });
  const json = await cli(['status', '-o', 'json', ...node.flags]);
  assert.equal((JSON.parse(json.stdout) as StatusJson).diagnostics.length, total);
  const { stdout } = await cli(['status', ...node.flags]);
  const named = new Set(stdout.match(/CiliumNetworkPolicy\/shop\/p\d+/g));
  assert.deepEqual(
    [...named],
    diagnostics.map(({ subject }) => subject),
  );
  assert.match(stdout, /error: policy-invalid and 2038 more, with their messages in -o json/);
  const naming = stdout.split('\n').filter((line) => line.includes('shop/p'));
  assert.ok(
    naming.every((line) => line.length <= 102),
    'lines are wrapped',
  );
});

test('status: what either process says is degraded, once, with the fix', async () => {
  await using node = new CannedNode();
  const degradation = {
    code: 'exchange-down',
    message: 'not \u001b[2Jconnected',
    fix: 'connect them',
  };
  const status = {
    ...healthyStatus(),
    degraded: [degradation],
    diagnostics: [
      {
        severity: Severity.SEVERITY_ERROR,
        code: 'object-invalid',
        subject: 'evil\u001b]0;x\u0007.yaml',
        message: 'is wrong',
        sinceMs: Date.UTC(2026, 0, 2, 3, 4, 5),
      },
    ],
  };
  await node.serve('agent', { status });
  await node.serve('dns-proxy', { status });
  const run = await cli(['status', ...node.flags], { isTerminal: true, env: { NO_COLOR: '1' } });
  assert.equal(run.stdout.match(/degraded: exchange-down/g)?.length, 1);
  assert.match(run.stdout, /not \\u001b\[2Jconnected\n {2}fix: connect them/);
  assert.match(
    run.stdout,
    /error: object-invalid, since 2026-01-02T03:04:05\.000Z\n {2}evil\\u001b\]0;x\\u0007\.yaml\n {2}is wrong/,
  );
  assert.match(run.stdout, /agent +yes +live +1\.5 ms +7 +100 +answers +0\.1\.0 +1 h 6 min/);
  assert.ok(!run.stdout.includes('\u001b'));
});

test('status: nobody is LIVE, or nobody answers: down', async () => {
  await using node = new CannedNode();
  const none = await cli(['status', ...node.flags]);
  assert.equal(none.code, exitCode.down);
  assert.match(none.stdout, /Health: {2}DOWN/);
  const dead = healthyStatus();
  const members = (dead.members ?? []).map((member) => ({
    ...member,
    state: MemberState.MEMBER_STATE_DEAD,
  }));
  await node.serve('agent', { status: { ...dead, members } });
  assert.equal((await cli(['status', ...node.flags])).code, exitCode.down);
});

test('the agent is asked first; gone or hung, the DNS proxy answers and is named', async () => {
  await using node = new CannedNode();
  const endpoints = [[{ namespace: 'shop', pod: 'proxy-says', address: address('10.1.0.9') }]];
  await node.serve('dns-proxy', { endpoints });
  const gone = await cli(['endpoint', 'list', ...node.flags]);
  assert.equal(gone.code, exitCode.ok);
  assert.match(gone.stdout, /shop\/proxy-says +10\.1\.0\.9/);
  assert.match(
    gone.stderr,
    /the agent does not answer: .*\nanswered by the dns-proxy \(.*admin\.sock\)/,
  );
  await node.serve('agent', { isHung: true });
  const hung = await cli(['endpoint', 'list', ...node.flags]);
  assert.match(hung.stderr, /no answer within \d+ ms\nanswered by the dns-proxy/);
  await node.stop('agent');
  await node.serve('agent', { endpoints: [] });
  const back = await cli(['endpoint', 'list', '-o', 'json', ...node.flags]);
  assert.deepEqual(JSON.parse(back.stdout), { answeredBy: 'agent', endpoints: [] });
  assert.equal(back.stderr, '', 'nothing but JSON');
});

test('endpoint list: a pod without an interface, with the reason', async () => {
  await using node = new CannedNode();
  const problem = 'interface-refused: up0 leads out of the node';
  const pod = { namespace: 'shop', pod: 'web', address: address('10.1.0.12'), problem };
  await node.serve('agent', { endpoints: [[{ ...pod, flagNames: ['not-attached'] }]] });
  const table = await cli(['endpoint', 'list', ...node.flags]);
  assert.match(table.stdout, /shop\/web +10\.1\.0\.12 .* none +not-attached\n/);
  assert.match(table.stdout, /\nshop\/web 10\.1\.0\.12\n {2}interface-refused: up0 leads out/);
  const json = await cli(['-o', 'json', 'endpoint', 'list', ...node.flags]);
  assert.match(json.stdout, /"problem": ?"interface-refused: up0/);
});

test('endpoint list: pages are one table, filters go to the server', async () => {
  await using node = new CannedNode();
  const entry = (pod: string, ip: string) => ({
    endpointId: 5,
    address: address(ip),
    namespace: 'shop',
    pod,
    policyId: 77,
    flagNames: ['enforce-egress', 'fqdn'],
    vethName: 'veth\u001b0',
    vethIfindex: 12,
    classId: 3,
    namespaceId: 9,
  });
  await node.serve('agent', {
    endpoints: [[entry('web', '10.1.0.12')], [entry('api', 'fd00::2')]],
  });
  const table = await cli(['endpoint', 'list', '--pod', 'shop/', ...node.flags]);
  assert.deepEqual(node.filters, ['shop/']);
  assert.equal(
    table.stdout,
    [
      'POD       ADDRESS    ENDPOINT  POLICY  CLASS  INTERFACE    FLAGS',
      'shop/api  fd00::2           5      77      3  veth\\u001b0  enforce-egress,fqdn',
      'shop/web  10.1.0.12         5      77      3  veth\\u001b0  enforce-egress,fqdn',
      '',
    ].join('\n'),
  );
  const json = await cli(['-o', 'json', 'endpoint', 'list', ...node.flags]);
  const [first] = (JSON.parse(json.stdout) as { endpoints: object[] }).endpoints;
  assert.deepEqual(first, {
    namespace: 'shop',
    pod: 'api',
    address: 'fd00::2',
    endpointId: 5,
    policyId: 77,
    classId: 3,
    namespaceId: 9,
    flags: ['enforce-egress', 'fqdn'],
    interface: 'veth\u001b0',
    ifindex: 12,
    problem: null,
  });
});

test('fqdn list: names are escaped, expiry and scope are told', async () => {
  await using node = new CannedNode();
  // A label of the octets ESC [ 3 1 m, a dot and a quote.
  const hostile = Uint8Array.of(7, 0x1b, 0x5b, 0x33, 0x31, 0x6d, 0x2e, 0x22, 2, 0x63, 0x6f, 0);
  await node.serve('agent', {
    names: [
      [
        {
          mapping: {
            name: name('www.example.com'),
            address: address('203.0.113.10'),
            trusted: true,
          },
          expiresInS: 59,
          selectorIds: [0x80000001, 0x80000002],
        },
        {
          mapping: { name: hostile, address: address('2001:db8::1'), policyId: 77 },
          expiresInS: -2,
        },
        {
          mapping: {
            name: name('old.example.com'),
            address: address('203.0.113.11'),
            trusted: true,
          },
          expiresInS: -400,
          inUseForS: 541,
        },
      ],
    ],
  });
  const run = await cli(['fqdn', 'list', '--name', '*.example.com', ...node.flags]);
  assert.deepEqual(node.filters, ['*.example.com']);
  assert.match(run.stdout, /www\.example\.com\. +203\.0\.113\.10 +valid +59 s +- +all +2/);
  assert.match(run.stdout, /\\027\\09131m\\\.\\034\.co\. +2001:db8::1 +expired +- +- +policy 77/);
  assert.match(run.stdout, /old\.example\.com\. +203\.0\.113\.11 +live +- +9 min 1 s +all +0/);
  const json = await cli(['fqdn', 'list', '-o', 'json', ...node.flags]);
  const { names } = JSON.parse(json.stdout) as {
    names: { name: string; state: string; inUseForSeconds: number }[];
  };
  assert.deepEqual(
    names.map((entry) => [entry.name, entry.state, entry.inUseForSeconds]),
    [
      ['\\027\\09131m\\.\\034.co.', 'expired', 0],
      ['old.example.com.', 'live', 541],
      ['www.example.com.', 'valid', 0],
    ],
  );
});

test('version: of all programs, with those that do not answer', async () => {
  await using node = new CannedNode();
  await node.serve('dns-proxy', { status: healthyStatus('dns-proxy') });
  const run = await cli(['version', ...node.flags]);
  assert.equal(run.code, exitCode.ok);
  assert.match(run.stdout, /agent +no answer/);
  assert.match(run.stdout, /dns-proxy +0\.1\.0 +abc1234 +1 +v24\.0\.0 +6\.12/);
});
