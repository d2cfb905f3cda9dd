// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Other software on the node. Beside what policy cannot be enforced, the agent says so: in status and at /readyz;
 * with the rest pods work.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readPinnedSettings } from '@tandem/datapath/group-settings';
import { askDns } from '@tandem/testing/dns-query';
import { ownPrefix } from '@tandem/testing/namespace';
import type { TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket } from '@tandem/testing/packet';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { degradedOf, statusOf, waitForDegraded, waitForMended } from '../kit/admin.ts';
import { canConnect } from '../kit/attack.ts';
import { doctorOf } from '../kit/doctor.ts';
import { startForeignProgram } from '../kit/foreign-program.ts';
import { IpvsTable } from '../kit/ipvs-table.ts';
import { dnsPolicy, networkPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';

const metricsPort = 19_102;
const udpPort = 9001;
const tcpPort = 9000;
/** Packets a second of each pod. */
const rate = 200;
/** Looks of the watch and the time between them, and as much again. */
const watchMs = 40_000;

const agentOptions = { 'metrics-address': `127.0.0.1:${metricsPort}` };

/** "200 ok" or "503 what is wrong". */
async function readyz(host: Probe): Promise<string> {
  const { data } = await host.tcp({
    to: '127.0.0.1',
    port: metricsPort,
    data: 'GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n',
    untilEnd: true,
  });
  const text = Buffer.from(data).toString();
  return `${text.slice(9, 12)} ${text.slice(text.indexOf('\r\n\r\n') + 4).trim()}`;
}

/** Both pods send to each other until `isOver`, which is asked every second. */
async function talkUntil(
  { node }: StandardNode,
  [left, right]: readonly [Probe, Probe],
  isOver: () => Promise<boolean>,
): Promise<void> {
  const blast = { port: udpPort, data: 'compatibility', count: rate, rate };
  const [toLeft, toRight] = [node.pod('left').ipv4 ?? '', node.pod('right').ipv4 ?? ''];
  await waitFor(
    async () => {
      await Promise.all([
        left.blast({ ...blast, to: toRight }),
        right.blast({ ...blast, to: toLeft }),
      ]);
      return isOver();
    },
    { what: 'a change of judge-bypassed', timeoutMs: watchMs },
  );
}

test('pods whose packets another datapath delivers past netfilter: judge-bypassed, until judge sees them', async () => {
  await using standard = await startStandardNode({
    pods: [{ name: 'left' }, { name: 'right' }],
    policies: [
      networkPolicy({
        name: 'left',
        selects: { app: 'left' },
        egress: [{ toEndpoints: [{ matchLabels: { app: 'right' } }] }],
      }),
      networkPolicy({
        name: 'right',
        selects: { app: 'right' },
        egress: [{ toEndpoints: [{ matchLabels: { app: 'left' } }] }],
      }),
    ],
    agentOptions,
  });
  const { node, tandem } = standard;
  const [a, b, host] = [node.pod('left').namespace, node.pod('right').namespace, node.node].map(
    (namespace) => node.own(Probe.start(namespace)),
  ) as [Probe, Probe, Probe];
  for (const probe of [a, b]) {
    await probe.listen({ protocol: 'udp', address: '0.0.0.0', port: udpPort, mode: 'sink' });
  }
  const isBypassed = async (): Promise<boolean> =>
    (await degradedOf(tandem, 'agent')).has('judge-bypassed');
  await a.listen({ protocol: 'tcp', address: '0.0.0.0', port: tcpPort });
  assert.equal(await readyz(host), '200 ok');
  {
    const [left, right] = [node.pod('left').hostIfindex, node.pod('right').hostIfindex];
    await using _there = await startForeignProgram(node.node, left, right);
    await using _back = await startForeignProgram(node.node, right, left);
    const before = tandem.counters()['forwarded'];
    await using arriving = await b.capture({ contains: 'compatibility' });
    await talkUntil(standard, [a, b], async () => {
      // As the kubelet probes: what judge sees of the host does not hide it.
      await host.tcp({ to: node.pod('left').ipv4 ?? '', port: tcpPort, data: 'x', want: 1 });
      return isBypassed();
    });
    assert.match(await readyz(host), /^503 judge-bypassed: .*policy is NOT enforced/);
    assert.ok((await arriving.captured()).matched > rate, 'packets are delivered');
    assert.equal(tandem.counters()['forwarded'], before, 'and judge has seen none');
  }
  await talkUntil(standard, [a, b], async () => !(await isBypassed()));
  assert.equal(await readyz(host), '200 ok');
});

test('bridged pods without br_netfilter: bridge-netfilter of each family, with the fix, until the sysctl is set', async () => {
  await using standard = await startStandardNode({
    pods: [{ name: 'left', kind: 'bridge' }],
    node: { bridgeNetfilter: 0 },
    agentOptions,
  });
  const { node, tandem } = standard;
  const host = node.own(Probe.start(node.node));
  for (const [family, sysctl] of [
    ['ipv4', 'net.bridge.bridge-nf-call-iptables'],
    ['ipv6', 'net.bridge.bridge-nf-call-ip6tables'],
  ] as const) {
    const code = `bridge-netfilter-${family}`;
    assert.match(await waitForDegraded(tandem, 'agent', code), /reach each other without policy/);
    assert.match(await readyz(host), new RegExp(`^503 .*${code}: `, 's'));
    await node.node.run('sysctl', ['-qw', `${sysctl}=1`]);
    await waitForMended(tandem, 'agent', code);
  }
  assert.equal(await readyz(host), '200 ok');
});

test('kube-proxy in IPVS mode: ipvs in status, at /readyz and of doctor, until its Services are gone', async () => {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-ipvs-`));
  try {
    const ipvs = new IpvsTable(directory);
    await using standard = await startStandardNode({
      agentOptions,
      environment: (name) => (name === 'agent' ? ipvs.environment : {}),
    });
    const { node, tandem } = standard;
    const host = node.own(Probe.start(node.node));
    const ofDoctor = async (): Promise<readonly [number | null, string | undefined]> => {
      const { code, checks } = await doctorOf(tandem, ipvs.environment);
      return [code, checks.get('ipvs')?.status];
    };
    assert.equal(await readyz(host), '200 ok');
    assert.deepEqual(await ofDoctor(), [0, 'pass']);
    ipvs.fill();
    assert.match(await waitForDegraded(tandem, 'agent', 'ipvs'), /replies of Services .* dropped/);
    assert.match(await readyz(host), /^503 .*ipvs: kube-proxy runs in IPVS mode/s);
    assert.deepEqual(await ofDoctor(), [1, 'fail']);
    ipvs.remove();
    await waitForMended(tandem, 'agent', 'ipvs');
    assert.equal(await readyz(host), '200 ok');
    assert.deepEqual(await ofDoctor(), [0, 'pass']);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

/** Firewall and routing rules of others that a steered query meets, as these programs write them. */
const foreignRules = `
table inet firewalld {
  chain mangle_PREROUTING {
    type filter hook prerouting priority mangle + 10;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept;
    fib saddr . mark . iif oif missing drop;
  }
}
table inet wg-quick-wg0 {
  chain premangle { type filter hook prerouting priority mangle; meta l4proto udp meta mark set ct mark; }
  chain postmangle { type filter hook postrouting priority mangle; meta l4proto udp meta mark 0xca6c ct mark set meta mark; }
}
table inet talos {
  chain kubespan_prerouting {
    type filter hook prerouting priority filter;
    meta mark & 0x60 == 0x20 accept;
    ip daddr 10.99.0.0/16 meta mark set meta mark & 0xffffffdf | 0x40;
  }
}
`;

async function applyForeignRules({ node }: TestNode): Promise<void> {
  await node.run('nft', ['-f', '-'], foreignRules);
  await node.sysctl({ 'net.ipv4.conf.all.src_valid_mark': 1 });
  for (const [program, family] of [
    ['iptables', '-4'],
    ['ip6tables', '-6'],
  ] as const) {
    const nixos = '-t mangle -A PREROUTING -m rpfilter --validmark --invert -j DROP';
    await node.run(program, nixos.split(' '));
    for (const rule of [
      'not fwmark 0xca6c table 51820',
      'table main suppress_prefixlength 0',
      'pref 32500 fwmark 0x40/0x60 table 180',
    ]) {
      await node.run('ip', [family, 'rule', 'add', ...rule.split(' ')]);
    }
  }
}

const allowed = [{ matchPattern: '*.allowed.test' }];

test('rules of firewalld, NixOS, wg-quick and KubeSpan: pods get DNS and connections, and the agent has nothing to say', async () => {
  await using standard = await startStandardNode({
    pods: [{ name: 'bridged', kind: 'bridge' }],
    policies: [
      standardPolicy,
      dnsPolicy({ name: 'bridged', selects: { app: 'bridged' }, dns: allowed, fqdns: allowed }),
    ],
    prepare: applyForeignRules,
  });
  const { node, tandem, client } = standard;
  const bridged = node.own(Probe.start(node.pod('bridged').namespace));
  let name = 0;
  for (const pod of [client, bridged]) {
    for (const server of [clusterDns4, clusterDns6]) {
      for (const transport of ['udp', 'tcp'] as const) {
        const question = { server, transport, name: `n-${++name}.allowed.test` };
        const { rcode, addresses } = await askDns(pod, question);
        assert.equal(rcode, 'NOERROR');
        assert.ok(await canConnect(pod, addresses[0] ?? ''));
      }
    }
  }
  assert.equal(readPinnedSettings(tandem.pinRoot)?.mark, 0x1000);
  assert.deepEqual([...(await degradedOf(tandem, 'agent'))], []);
});

const token = 'by a pair of veths';

test('a veth at a bridge of pods with both ends on the node: nothing passes it, it is named, and let in by trustedInterfaces', async () => {
  const options = { pods: [{ name: 'left', kind: 'bridge' }] } as const;
  const prepare = async ({ node }: TestNode): Promise<void> =>
    void (await node.ip([
      'link add vethwe-bridge type veth peer name vethwe-dp',
      `link set vethwe-bridge master ${plan.bridge} up`,
      'link set vethwe-dp up',
    ]));
  for (const isTrusted of [false, true]) {
    const trusted: Record<string, string> = isTrusted
      ? { 'trusted-interfaces': 'vethwe-bridge' }
      : {};
    await using standard = await startStandardNode({ ...options, prepare, agentOptions: trusted });
    const { node, tandem } = standard;
    const { namespace, mac, ipv4 } = node.pod('left');
    const left = node.own(Probe.start(namespace));
    const host = node.own(Probe.start(node.node));
    await using arrived = await left.sight({
      pattern: Buffer.from(token.slice(0, -4)),
      family: 4,
      protocol: 17,
    });
    const frame = buildPacket({
      ethernet: { source: '02:00:00:00:77:01', destination: mac },
      ip: { source: '10.1.2.222', destination: ipv4 ?? '' },
      udp: { sourcePort: 9, destinationPort: 99 },
      payload: token,
    });
    const before = tandem.counters()['drop_unknown_pod'] ?? 0;
    await host.frame(frame, { interface: 'vethwe-dp' });
    await waitFor(
      async () =>
        isTrusted
          ? (await arrived.seen()).length > 0
          : (tandem.counters()['drop_unknown_pod'] ?? 0) > before,
      { what: 'the frame to arrive, or to be counted' },
    );
    const { diagnostics } = await statusOf(tandem, 'agent');
    const named = diagnostics.filter(({ code }) => code === 'interface-unknown');
    assert.equal(named.length, isTrusted ? 0 : 1);
    if (!isTrusted)
      assert.match(named[0]?.message ?? '', /all traffic of vethwe-bridge is dropped: /);
  }
});
