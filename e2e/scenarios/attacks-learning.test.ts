// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Addresses that an answer may open (safety rules 4 and 5; threats T5, T6, T7, T8, T25): addresses of the name that
 * was asked, from the server that was asked, for those who trust it, and never one of the cluster.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { tcpIdleTimeoutMs } from '@tandem/dns-proxy/limits';
import { addressBytes } from '@tandem/testing/address';
import { askDns, encodeQuestion } from '@tandem/testing/dns-query';
import type { DnsRule, RecordSpec, ReplySpec } from '@tandem/testing/dns-script';
import { DnsServer } from '@tandem/testing/dns-server';
import { plan } from '@tandem/testing/node-plan';
import { concatBytes } from '@tandem/testing/packet';
import { Probe } from '@tandem/testing/probe';
import { addressOf, assertSilence, canConnect, silenceMs } from '../kit/attack.ts';
import { bothCount, waitForCount } from '../kit/dns-counters.ts';
import { boottimeSeconds, learnedAddresses } from '../kit/learned.ts';
import { dnsPolicy, networkPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const rogueServer = '203.0.113.53';
const poison = '198.51.100.99';
const suffix = 'allowed.test';
const kubeDns = { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s:k8s-app': 'kube-dns' };

const standard = await startStandardNode({
  pods: [{ name: 'tenant' }, { name: 'server' }, { name: 'friend' }, { name: 'plain' }],
  podObjects: { tenant: { namespace: 'tenants' } },
  policies: [
    standardPolicy,
    dnsPolicy({
      namespace: 'tenants',
      selects: { app: 'tenant' },
      dns: [{ matchPattern: `*.${suffix}` }],
      fqdns: [{ matchPattern: `*.${suffix}` }],
      dnsPeers: { toCIDR: [`${rogueServer}/32`] },
    }),
    networkPolicy({
      name: 'kube-dns-too',
      namespace: 'tenants',
      selects: { app: 'tenant' },
      egress: [
        {
          toEndpoints: [{ matchLabels: kubeDns }],
          toPorts: [
            {
              ports: [{ port: '53', protocol: 'ANY' }],
              rules: { dns: [{ matchPattern: `*.${suffix}` }] },
            },
          ],
        },
      ],
    }),
    networkPolicy({
      name: 'server',
      selects: { app: 'server' },
      ingress: [{ fromEndpoints: [{ matchLabels: { app: 'friend' } }] }],
    }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { client, dns, node, tandem } = standard;
const tenant = node.own(Probe.start(node.pod('tenant').namespace));
const serverPod = node.pod('server');
const server = node.own(Probe.start(serverPod.namespace));
for (const address of ['0.0.0.0', '::'])
  await server.listen({ protocol: 'tcp', address, port: 80 });

const isLearned = (address: string): boolean => learnedAddresses(tandem).has(address);
const answer = (type: RecordSpec['type'], data: string, extra: object = {}): RecordSpec => ({
  type,
  data,
  ...extra,
});

describe("a tenant's own resolver", () => {
  test('opens what it says to that tenant and to nobody else', async () => {
    const address = '198.51.100.66';
    const rules = [{ name: `n-1.${suffix}`, answers: [answer('A', address)] }];
    await using _rogue = await DnsServer.start(node.upstream, { addresses: [rogueServer], rules });
    const reply = await askDns(tenant, { server: rogueServer, name: `n-1.${suffix}` });
    assert.deepEqual(reply.addresses, [address]);
    assert.ok(await canConnect(tenant, address), 'the tenant asked for it');
    // The client's policy names the same pattern.
    assert.ok(!(await canConnect(client, address)), 'the client did not');
  });

  test('is no server for those whose policy does not name it', async () => {
    const asked = { server: rogueServer, name: `n-1.${suffix}`, timeoutMs: silenceMs };
    await assertSilence(askDns(client, asked), 'the client asked it');
  });

  test("what the cluster's resolver says opens to both", async () => {
    await askDns(client, { server: clusterDns4, name: `n-11.${suffix}` });
    assert.ok(await canConnect(client, '198.18.0.11'));
    assert.ok(await canConnect(tenant, '198.18.0.11'));
  });
});

describe('addresses that are never learned', () => {
  const plainPod = node.pod('plain');
  const never: Readonly<Record<string, readonly string[]>> = {
    'a pod': [addressOf(serverPod, '10.'), addressOf(serverPod, 'fd00::')],
    'an unused address of the pod CIDR': ['10.1.0.200', 'fd00:1:0::200'],
    'a pod of another node': [plan.remotePod4, plan.remotePod6],
    'this node': [plan.node4, plan.node6, plan.nodeUpstream4, plan.nodeUpstream6],
    'another node': [plan.remoteNode4, plan.remoteNode6],
    'a Service': [clusterDns4, clusterDns6],
    'a Service by NAT64': ['64:ff9b::a60:a'], // 10.96.0.10
    'an API server that is no node': ['198.18.0.201', '2001:db8:9::201'],
    'a link-local address': [plan.ptpGateway4, 'fe80::1'],
    metadata: ['169.254.169.254', 'fd00:ec2::254', 'fd20:ce::254', 'fd00:c1::a9fe:a9fe'],
    loopback: ['127.0.0.1', '::1'],
    'no address': ['0.0.0.0', '::'],
    'a group': ['224.0.0.1', 'ff02::1'],
    broadcast: ['255.255.255.255'],
  };
  before(async () => {
    const revision = tandem.appliedRevision();
    const slice = (family: 'IPv4' | 'IPv6', text: string): object => ({
      ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: family },
      metadata: {
        ...{ name: `kubernetes-${family.toLowerCase()}`, namespace: 'default' },
        labels: { 'kubernetes.io/service-name': 'kubernetes' },
      },
      endpoints: [{ addresses: [text] }],
      ports: [{ name: 'https', port: 6443, protocol: 'TCP' }],
    });
    tandem.write('api-server.yaml', [
      slice('IPv4', '198.18.0.201'),
      slice('IPv6', '2001:db8:9::201'),
    ]);
    await tandem.waitForRevision(revision);
  });
  for (const [what, addresses] of Object.entries(never)) {
    test(what, async () => {
      const name = `rebind-${what.toLowerCase().replaceAll(/[^a-z0-9]/g, '-')}.${suffix}`;
      const answers = addresses.map((data) => answer(data.includes(':') ? 'AAAA' : 'A', data));
      await dns.program([{ name, answers }, ...standardRules]);
      const refused = tandem.counters()['learn_refused'] ?? 0;
      for (const type of ['A', 'AAAA'] as const) {
        const reply = await askDns(client, { server: clusterDns4, name, type });
        assert.equal(reply.rcode, 'NOERROR', 'the answer itself is passed on');
      }
      // More, where names that were known before are fed to the new revision meanwhile.
      assert.ok((tandem.counters()['learn_refused'] ?? 0) - refused >= addresses.length);
      assert.deepEqual(addresses.filter(isLearned), []);
    });
  }

  test('an IPv4 address as AAAA', async () => {
    const name = `mapped.${suffix}`;
    const answers = [answer('AAAA', '::ffff:198.51.100.77'), answer('AAAA', '2001:db8:1::78')];
    await dns.program([{ name, answers }, ...standardRules]);
    await askDns(client, { server: clusterDns4, name, type: 'AAAA' });
    assert.deepEqual([isLearned('198.51.100.77'), isLearned('2001:db8:1::78')], [false, true]);
  });

  test('connections to them stay closed, and ingress policy holds', async () => {
    const { node4, node6, remotePod4 } = plan;
    const targets = [addressOf(serverPod, '10.'), addressOf(serverPod, 'fd00::'), remotePod4];
    for (const to of [...targets, node4, node6, '198.51.100.77']) {
      assert.ok(!(await canConnect(client, to)), to);
    }
    const plain = node.own(Probe.start(plainPod.namespace));
    const friend = node.own(Probe.start(node.pod('friend').namespace));
    assert.ok(!(await canConnect(plain, addressOf(serverPod, '10.'))), 'not let in');
    assert.ok(await canConnect(friend, addressOf(serverPod, '10.')), 'let in');
  });

  test('an address that becomes a node is closed, though its name was learned before', async () => {
    await askDns(client, { server: clusterDns4, name: `n-200.${suffix}` });
    assert.ok(await canConnect(client, '198.18.0.200'));
    const revision = tandem.appliedRevision();
    tandem.write('late-node.yaml', [
      {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: 'node-9' },
        status: { addresses: [{ type: 'InternalIP', address: '198.18.0.200' }] },
      },
    ]);
    await tandem.waitForRevision(revision);
    assert.ok(isLearned('198.18.0.200'), 'it is the class that decides');
    assert.ok(!(await canConnect(client, '198.18.0.200')));
  });
});

describe('answers with more than was asked', () => {
  const tooLong = 'a chain of 17';
  const victim = `victim.${suffix}`;
  const cases: readonly (readonly [string, Partial<DnsRule>])[] = [
    ['another owner in the answer', { answers: [answer('A', poison, { name: victim })] }],
    ['the additional section', { additionals: [answer('A', poison, { name: victim })] }],
    ['the authority section', { authorities: [answer('A', poison, { name: victim })] }],
    [
      'an owner beside the chain',
      {
        answers: [
          answer('CNAME', 'a.elsewhere.test'),
          answer('A', poison, { name: 'b.elsewhere.test' }),
        ],
      },
    ],
    [
      'a chain in a circle',
      {
        answers: [
          answer('CNAME', 'a.elsewhere.test'),
          answer('CNAME', 'a.elsewhere.test', { name: 'a.elsewhere.test' }),
          answer('A', poison, { name: 'a.elsewhere.test' }),
        ],
      },
    ],
    [
      tooLong,
      {
        answers: [
          answer('CNAME', 'c0.e.test'),
          ...Array.from({ length: 16 }, (_, i) =>
            answer('CNAME', `c${i + 1}.e.test`, { name: `c${i}.e.test` }),
          ),
          answer('A', poison, { name: 'c16.e.test' }),
        ],
      },
    ],
    ['a name error', { rcode: 3, answers: [answer('A', poison)] }],
    [
      'a truncated reply',
      { answers: [answer('A', poison)], replies: [{ change: 'truncated-full' }] },
    ],
  ];
  for (const [i, [what, rule]] of cases.entries()) {
    for (const transport of ['udp', 'tcp'] as const) {
      test(`${what}, ${transport}`, async () => {
        const name = `poison-${i}.${suffix}`;
        await dns.program([{ name, ...rule }, ...standardRules]);
        // Over UDP the server leaves answers out, and says so by TC.
        const isTooLong = what === tooLong && transport === 'tcp';
        const overLimit = isTooLong ? await bothCount(tandem, 'aliasesOverLimit') : 0;
        await askDns(client, { server: clusterDns4, name, transport });
        assert.ok(!isLearned(poison));
        if (isTooLong) await waitForCount(tandem, 'aliasesOverLimit', overLimit + 1);
      });
    }
  }

  test('the end of a chain is learned, as it must be', async () => {
    const end = '198.51.100.12';
    const answers = [
      answer('CNAME', 'a.elsewhere.test'),
      answer('A', end, { name: 'a.elsewhere.test' }),
    ];
    await dns.program([{ name: `chain.${suffix}`, answers }]);
    await askDns(client, { server: clusterDns4, name: `chain.${suffix}` });
    assert.ok(await canConnect(client, end));
  });

  test('of 400 addresses of one reply 256 are learned', async () => {
    const name = `many.${suffix}`;
    const all = Array.from({ length: 400 }, (_, i) => `198.18.7${i >> 8}.${i & 255}`);
    await dns.program([{ name, answers: all.map((data) => answer('A', data)) }]);
    const reply = await askDns(client, { server: clusterDns4, name, transport: 'tcp' });
    assert.equal(reply.addresses.length, 400);
    assert.equal(all.filter(isLearned).length, 256);
  });

  test('no TTL is longer than a week, and one with the top bit is none', async () => {
    const week = 7 * 24 * 3600;
    const long = answer('A', '198.51.100.21', { ttl: 0x7fffffff });
    const odd = answer('A', '198.51.100.22', { ttl: 0xffffffff });
    await dns.program([{ name: `ttl.${suffix}`, answers: [long, odd] }]);
    await askDns(client, { server: clusterDns4, name: `ttl.${suffix}` });
    const learned = learnedAddresses(tandem);
    const left = (address: string): number =>
      (learned.get(address)?.[0]?.expires ?? Number.NaN) - boottimeSeconds();
    assert.ok(Math.abs(left('198.51.100.21') - week) < 5);
    assert.ok(left('198.51.100.22') <= 1);
  });
});

describe('replies that are not the one waited for', () => {
  /** A reply to the name with the poison as its address; the server puts the query's id in. */
  const forged = (name: string): string => {
    const bytes = concatBytes([
      encodeQuestion({ server: '', name }),
      Uint8Array.of(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4),
      addressBytes(poison),
    ]);
    bytes[2] = 0x85;
    bytes[3] = 0x80;
    bytes[7] = 1;
    return Buffer.from(bytes).toString('hex');
  };
  const name = `waited.${suffix}`;
  const cases: Readonly<Record<string, readonly ReplySpec[]>> = {
    'a hundred wrong ids': Array.from({ length: 100 }, () => ({
      change: 'wrong-id',
      raw: forged(name),
    })),
    'another name': [{ raw: forged(`wanted.${suffix}`) }],
    'no reply at all': [{ raw: forged(name).replace(/^(....)8580/, '$10100') }],
    'no question': [{ change: 'no-question' }],
    'half a message': [{ raw: forged(name).slice(0, 50) }],
  };
  for (const [what, replies] of Object.entries(cases)) {
    test(`${what}: dropped, the true one is still delivered`, async () => {
      const rule = { name, answers: [answer('A', '198.51.100.31')] };
      await dns.program([{ ...rule, replies: [...replies, { delayMs: 50 }] }]);
      const reply = await askDns(client, { server: clusterDns4, name });
      assert.deepEqual(reply.addresses, ['198.51.100.31']);
      assert.ok(!isLearned(poison));
    });
  }

  for (const transport of ['udp', 'tcp'] as const) {
    test(`letters of other case, which 0x20 tells, ${transport}: delivered, for the client can tell, and nothing learned`, async () => {
      await dns.program([{ name, replies: [{ raw: forged(name.toUpperCase()) }] }]);
      const reply = await askDns(client, { server: clusterDns4, name, transport });
      assert.deepEqual(reply.addresses, [poison]);
      assert.ok(!isLearned(poison));
    });

    test(`an error without question, as old servers give one, ${transport}: the pod gets its 12 octets`, async () => {
      for (const [rcode, text] of [
        [1, 'FORMERR'],
        [2, 'SERVFAIL'],
        [4, 'NOTIMP'],
        [5, 'REFUSED'],
      ] as const) {
        // The server puts the query's id in.
        const raw = `0000818${rcode}${'00'.repeat(8)}`;
        await dns.program([{ name, replies: [{ raw }] }]);
        const reply = await askDns(client, { server: clusterDns4, name, transport });
        assert.equal(reply.rcode, text);
        assert.equal(reply.bytes.length, 12, text);
      }
    });
  }

  test('edns-tcp-keepalive of the server: the pod gets the timeout of our own connection', async () => {
    const serverTimeout = 200;
    const bytes = encodeQuestion({ server: '', name, ednsBytes: 1232 });
    // The OPT record is the last one, and its data empty: it gets an option of two octets.
    const whole = concatBytes([
      bytes.subarray(0, -2),
      Uint8Array.of(0, 6, 0, 11, 0, 2, 0, serverTimeout),
    ]);
    whole[2] = 0x85;
    whole[3] = 0x80;
    const raw = Buffer.from(whole).toString('hex');
    await dns.program([{ name, replies: [{ raw }] }]);
    const asked = { server: clusterDns4, name, transport: 'tcp', ednsBytes: 1232 } as const;
    const reply = await askDns(client, asked);
    const own = tcpIdleTimeoutMs / 100;
    assert.notEqual(own, serverTimeout);
    const wanted = concatBytes([whole.subarray(2, -2), Uint8Array.of(own >> 8, own & 255)]);
    assert.deepEqual(reply.bytes.subarray(2), wanted, 'all else is as the server sent it');
  });

  test('a second reply after the true one teaches nothing', async () => {
    const rule = { name, answers: [answer('A', '198.51.100.31')] };
    await dns.program([
      { ...rule, replies: [{}, { raw: forged(name), delayMs: 20 }] },
      { suffix, answers: [answer('A', '198.51.100.32')], replies: [{ delayMs: 100 }] },
    ]);
    const reply = await askDns(client, { server: clusterDns4, name });
    assert.deepEqual(reply.addresses, ['198.51.100.31']);
    await askDns(client, { server: clusterDns4, name: `later.${suffix}` });
    assert.ok(!isLearned(poison));
  });
});
