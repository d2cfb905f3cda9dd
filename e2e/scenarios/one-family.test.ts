// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node with one address family: IPv6 switched off by sysctl as hardening guides ask, a kernel that
 * refuses AF_INET6 sockets (as the processes see it: no-ipv6.c), a node without IPv4 addresses. Both processes run and enforce, status is
 * healthy and says which families there are, and what a pod still sends over the other one is dropped.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import { hasIpv6 } from '@tandem/testing/namespace';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { tryRun } from '@tandem/testing/process';
import { patience, waitFor } from '@tandem/testing/wait';
import { tandemMain } from '../kit/built.ts';
import { withoutIpv6 } from '../kit/no-ipv6.ts';
import {
  dnsPolicy,
  namespaceObject,
  nodeObjects,
  podObject,
  serviceObjects,
} from '../kit/objects.ts';
import { clusterDns4, clusterDns6, standardRules } from '../kit/standard-node.ts';
import { TandemNode } from '../kit/tandem-node.ts';

const boundMs = 30_000 * patience;

interface Status {
  readonly health: string;
  readonly degraded: readonly { readonly code: string; readonly message: string }[];
  readonly notes: readonly string[];
}

interface CheckResult {
  readonly check: string;
  readonly status: string;
  readonly why: string;
  readonly fix: string | null;
}

interface Family {
  readonly number: 4 | 6;
  readonly dns: string;
  readonly any: string;
  readonly allowed: string;
  readonly other: string;
}

const ipv4: Family = {
  number: 4,
  dns: clusterDns4,
  any: '0.0.0.0',
  allowed: '198.18.0.1',
  other: '203.0.113.9',
};
const ipv6: Family = {
  number: 6,
  dns: clusterDns6,
  any: '::',
  allowed: '2001:db8:1::1',
  other: '2001:db8:ffff::9',
};

interface Options {
  /** Both processes, and the command line, see a kernel without IPv6. */
  readonly lacksIpv6?: boolean;
}

async function startNode(
  family: Family,
  ready: (node: TestNode) => Promise<void>,
  { lacksIpv6 = false }: Options = {},
): Promise<Lab> {
  const isIpv4 = family.number === 4;
  const absent = isIpv4 ? { ipv6: null } : { ipv4: null };
  const node = await createNode({
    pods: [
      { name: 'client', ...absent },
      { name: 'port', kind: 'bridge', ...absent },
      { name: 'dns', ...absent },
    ],
  });
  const { ipv4: dns4, ipv6: dns6 } = node.pod('dns');
  const server = (isIpv4 ? dns4 : dns6) ?? '';
  const services = (['udp', 'tcp'] as const).map((protocol) => ({
    clusterIp: family.dns,
    port: 53,
    protocol,
    backends: [{ address: server, port: 53 }],
  }));
  await node.setServices(services);
  const internet = node.own(Probe.start(node.upstream));
  await internet.listen({ protocol: 'tcp', address: family.any, port: 80 });
  node.own(
    await DnsServer.start(node.pod('dns').namespace, { addresses: [server], rules: standardRules }),
  );
  try {
    await ready(node);
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
  let environment: Readonly<Record<string, string>> = {};
  const tandem = await TandemNode.create(node, {
    options: { 'search-suffixes': '.' },
    environment: () => environment,
  });
  if (lacksIpv6 && hasIpv6) environment = withoutIpv6(tandem.directory);
  writeObjects(tandem, node, family, services);
  const client = node.own(Probe.start(node.pod('client').namespace));
  return new Lab(node, tandem, client, family, environment);
}

function writeObjects(
  tandem: TandemNode,
  node: TestNode,
  { number }: Family,
  services: readonly ServiceSpec[],
): void {
  const isKept = (address: string): boolean => address.includes(':') === (number === 6);
  const nodes = JSON.parse(JSON.stringify(nodeObjects())) as {
    spec: { podCIDRs: string[] };
    status: { addresses: { address: string }[] };
  }[];
  for (const { spec, status } of nodes) {
    spec.podCIDRs = spec.podCIDRs.filter(isKept);
    status.addresses = status.addresses.filter(({ address }) => isKept(address));
  }
  tandem.write('cluster.yaml', [
    namespaceObject('default'),
    namespaceObject('kube-system'),
    ...nodes,
    ...serviceObjects('kube-dns', 'kube-system', services),
    ...node.pods.map((pod) =>
      podObject(
        pod,
        pod.name === 'dns' ? { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } } : {},
      ),
    ),
  ]);
  const wanted = [{ matchPattern: '*.allowed.test' }];
  tandem.write('policy.yaml', [
    dnsPolicy({ name: 'client', selects: { app: 'client' }, dns: wanted, fqdns: wanted }),
    dnsPolicy({ name: 'port', selects: { app: 'port' }, dns: wanted, fqdns: wanted }),
  ]);
}

class Lab implements AsyncDisposable {
  readonly node: TestNode;
  readonly tandem: TandemNode;
  readonly client: Probe;
  readonly family: Family;
  readonly #environment: Readonly<Record<string, string>>;

  constructor(
    node: TestNode,
    tandem: TandemNode,
    client: Probe,
    family: Family,
    environment: Readonly<Record<string, string>>,
  ) {
    this.#environment = environment;
    this.node = node;
    this.tandem = tandem;
    this.client = client;
    this.family = family;
  }

  async reaches(probe: Probe, to: string): Promise<boolean> {
    try {
      await probe.tcp({ to, port: 80, data: 'x', want: 1, timeoutMs: 400 * patience });
      return true;
    } catch {
      return false;
    }
  }

  /** Names over UDP and TCP, at either process, and no address that policy does not name. */
  async assertEnforced(): Promise<void> {
    const { client, family } = this;
    for (const transport of ['udp', 'tcp'] as const) {
      for (let i = 0; i < 8; i++) {
        const asked = { server: family.dns, transport, timeoutMs: 2000 * patience };
        const type = family.number === 4 ? 'A' : 'AAAA';
        const yes = await askDns(client, { ...asked, name: 'n-1.allowed.test', type });
        assert.equal(yes.rcode, 'NOERROR', `${transport} ${this.tandem.logs()}`);
        const no = await askDns(client, { ...asked, name: 'n-1.denied.test', type });
        assert.equal(no.rcode, 'REFUSED', transport);
      }
    }
    assert.equal(await this.reaches(client, family.allowed), true, 'what was asked for');
    assert.equal(await this.reaches(client, family.other), false, 'another address');
    const port = this.node.own(Probe.start(this.node.pod('port').namespace));
    assert.equal(await this.reaches(port, family.other), false, 'from a pod on the bridge');
  }

  async status(): Promise<{ code: number | null; status: Status }> {
    const { status, stdout } = await this.cli('status');
    return { code: status, status: JSON.parse(stdout) as Status };
  }

  async checks(): Promise<ReadonlyMap<string, CheckResult>> {
    const { stdout } = await this.cli('doctor');
    const { checks } = JSON.parse(stdout) as { checks: CheckResult[] };
    return new Map(checks.map((each) => [each.check, each]));
  }

  async cli(command: string): ReturnType<typeof tryRun> {
    const { pinRoot, runDirectory, stateDirectory } = this.tandem;
    const flags = [
      `--bpffs-dir=${pinRoot}`,
      `--run-dir=${runDirectory}`,
      `--state-dir=${stateDirectory}`,
    ];
    const argv = [tandemMain, ...flags, command, '-o', 'json'];
    return tryRun(...this.node.node.enter(process.execPath, argv), {
      timeoutMs: boundMs,
      env: { ...process.env, ...this.#environment },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node[Symbol.asyncDispose]();
  }
}

const off = { 'net.ipv6.conf.all.disable_ipv6': 1, 'net.ipv6.conf.default.disable_ipv6': 1 };
const on = { 'net.ipv6.conf.all.disable_ipv6': 0, 'net.ipv6.conf.default.disable_ipv6': 0 };

test('IPv6 switched off by sysctl: healthy, enforced, and IPv6 of pods goes nowhere', async () => {
  await using lab = await startNode(ipv4, (node) => node.node.sysctl(off));
  const { node, tandem } = lab;
  await tandem.start();
  await lab.assertEnforced();

  const { code, status } = await lab.status();
  assert.equal(code, 0, JSON.stringify(status.degraded));
  assert.equal(status.health, 'healthy');
  assert.match(status.notes.join('\n'), /IPv6 is switched off on this node/);
  const checks = await lab.checks();
  assert.equal(checks.get('address-families')?.status, 'info');
  assert.match(checks.get('address-families')?.why ?? '', /IPv6 is switched off/);
  const failed = [...checks.values()].filter((each) => each.status === 'fail');
  assert.deepEqual(failed, [], 'nothing that an operator could mend');

  // A pod that has given itself an address all the same.
  const before = tandem.counters();
  for (const name of ['client', 'port'] as const) {
    const pod = node.pod(name);
    await pod.namespace.sysctl(on);
    await pod.namespace.ip([
      'addr add fd00:1:77::2/64 dev eth0 nodad',
      `neigh replace fd00:1:77::1 lladdr ${pod.gatewayMac} dev eth0 nud permanent`,
      'route add 2001:db8::/32 via fd00:1:77::1 dev eth0',
    ]);
    const probe = node.own(Probe.start(pod.namespace));
    assert.equal(await lab.reaches(probe, ipv6.other), false, name);
  }
  const after = tandem.counters();
  const dropped = (counters: Record<string, number>): number =>
    Object.entries(counters).reduce((n, [k, v]) => (k.startsWith('drop_') ? n + v : n), 0);
  assert.ok(dropped(after) > dropped(before), 'counted as dropped, not merely unanswered');

  // Switched on later: its rules come by themselves.
  await node.node.sysctl(on);
  await waitFor(async () => (await lab.checks()).get('routing6')?.status === 'pass' || null, {
    what: 'IPv6 rules',
    timeoutMs: 15_000,
  });
  assert.doesNotMatch((await lab.status()).status.notes.join('\n'), /IPv6 is switched off/);
});

// ./run test --kernels runs it by this name on a kernel that was booted with ipv6.disable=1.
test('a kernel that refuses sockets of IPv6: healthy and enforced, with each member alone too', async () => {
  // The addresses and rules of IPv6 are the kernel's own: there must be none.
  await using lab = await startNode(ipv4, (node) => node.node.sysctl(off), { lacksIpv6: true });
  const { tandem } = lab;
  await tandem.start();
  await lab.assertEnforced();

  const { code, status } = await lab.status();
  assert.equal(code, 0, JSON.stringify(status.degraded));
  assert.equal(status.health, 'healthy');
  const note = /^the kernel has no IPv6 \(ipv6\.disable=1\)/;
  assert.match(status.notes.join('\n'), note);
  const checks = await lab.checks();
  const families = checks.get('address-families');
  assert.equal(families?.status, 'info');
  assert.match(families?.why ?? '', note);
  const failed = [...checks.values()].filter((each) => each.status === 'fail');
  assert.deepEqual(failed, [], 'nothing that an operator could mend');
  assert.match(tandem.process('agent').stderr(), /the kernel has no IPv6/);

  // Each member alone, and a start on what the first one left.
  for (const name of ['agent', 'proxy'] as const) {
    await tandem.kill(name);
    await lab.assertEnforced();
    await tandem.startProcess(name);
    await tandem.waitForMembers(['agent', 'proxy']);
  }
  await lab.assertEnforced();
});

test('IPv6 switched off on the loopback interface alone is said, with a fix that works', async () => {
  await using lab = await startNode(ipv4, (node) =>
    node.node.sysctl({ 'net.ipv6.conf.lo.disable_ipv6': 1 }),
  );
  await lab.tandem.start();
  await lab.assertEnforced();
  const { status } = await lab.status();
  assert.deepEqual(
    status.degraded.map(({ code }) => code),
    ['ipv6-loopback-off'],
  );
  const fix = (await lab.checks()).get('address-families')?.fix ?? '';
  const [program = '', ...args] = fix.split(' ');
  await lab.node.node.run(program, args);
  await waitFor(async () => (await lab.status()).code === 0 || null, {
    what: 'a healthy node',
    timeoutMs: 15_000,
  });
});

test('a node without IPv4 addresses: healthy and enforced', async () => {
  await using lab = await startNode(ipv6, async (node) => {
    for (const { ifname } of (await node.node.ipJson(['link', 'show'])) as { ifname: string }[]) {
      await node.node.run('ip', ['-4', 'addr', 'flush', 'dev', ifname]);
    }
  });
  await lab.tandem.start();
  await lab.assertEnforced();
  const { code, status } = await lab.status();
  assert.equal(code, 0, JSON.stringify(status.degraded));
  const note = 'the node has no IPv4 address: IPv6 alone is served';
  assert.deepEqual(status.notes, [note]);
  const families = (await lab.checks()).get('address-families');
  assert.deepEqual([families?.status, families?.why], ['info', note]);
});
