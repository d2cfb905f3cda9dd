// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Subjects of the benchmark: Tandem in its shapes, a bare relay as the floor, and Debian's DNS forwarders. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { askDns } from '@tandem/testing/dns-query';
import { type Namespace, ownPrefix } from '@tandem/testing/namespace';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { type RunningProcess, runShort, startProcess, tryRun } from '@tandem/testing/process';
import { Unbound } from '@tandem/testing/unbound';
import { waitFor } from '@tandem/testing/wait';
import { namespaceObject, nodeObjects, podObject } from '../kit/objects.ts';
import { TandemNode } from '../kit/tandem-node.ts';

/** Where the load's upstream answers, in the upstream namespace. */
const upstream = '203.0.113.53';

/** How it is asked: over TCP on connections that stay, or on a connection for each query. */
export type Transport = 'udp' | 'tcp' | 'tcp-single';

/** A subject to be measured, not started yet. */
export interface SubjectSpec {
  readonly name: string;
  /** 0: it has no policy. */
  readonly patterns: number;
  readonly processes: 1 | 2;
  readonly transport: Transport;
}

export interface Subject extends SubjectSpec {
  /** Every name that it is asked is a new one. */
  readonly isFresh: boolean;
  /** Where the load comes from, and whom it asks. */
  readonly client: Namespace;
  readonly server: string;
  readonly port: number;
  /** The first is the one whose memory is of interest. */
  pids(): readonly number[];
}

const freshName = 'tandem-fresh';
const patternsPerObject = 1000;

export const subjectSpecs: readonly SubjectSpec[] = [
  { name: 'relay', patterns: 0, processes: 1, transport: 'udp' },
  { name: 'unbound', patterns: 0, processes: 1, transport: 'udp' },
  { name: 'dnsmasq', patterns: 0, processes: 1, transport: 'udp' },
  { name: 'dnsdist', patterns: 0, processes: 1, transport: 'udp' },
  { name: 'tandem', patterns: 100, processes: 1, transport: 'udp' },
  { name: 'tandem', patterns: 100, processes: 2, transport: 'udp' },
  { name: 'tandem', patterns: 10_000, processes: 1, transport: 'udp' },
  { name: 'tandem', patterns: 10_000, processes: 2, transport: 'udp' },
  { name: freshName, patterns: 100, processes: 1, transport: 'udp' },
  { name: 'dnsdist', patterns: 0, processes: 1, transport: 'tcp' },
  { name: 'tandem', patterns: 100, processes: 1, transport: 'tcp' },
  { name: 'dnsdist', patterns: 0, processes: 1, transport: 'tcp-single' },
  { name: 'tandem', patterns: 100, processes: 1, transport: 'tcp-single' },
];

export const tool = (name: string): string =>
  fileURLToPath(new URL(`native/build/${name}`, import.meta.url));

/** Names of the load: each matches one pattern of every policy, spread over the first 100. */
export const nameOf = (index: number): string =>
  `n-${index}.p${String(index % 100).padStart(4, '0')}.bench.example.net`;
const patternOf = (index: number): string =>
  `*.p${String(index).padStart(4, '0')}.bench.example.net`;

/** A node whose upstream answers every name by its number, at once. */
async function benchNode(name: string): Promise<TestNode> {
  const node = await createNode({ name, pods: [{ name: 'load' }], kubeProxy: 'iptables' });
  const server = startProcess(
    ...node.upstream.enter(tool('upstream'), ['--address', upstream, '--port', '53', '--tcp']),
  );
  node.own(server);
  // A connection for each query leaves one port each in TIME_WAIT: there are not enough of them for a minute.
  for (const namespace of [node.node, node.pod('load').namespace]) {
    await runShort(...namespace.enter('sh', ['-c', 'echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse']));
  }
  await waitFor(() => server.stdout().includes('ready'), { what: 'the upstream' });
  return node;
}

/**
 * The same processes, asked in another way. Those of UDP are asked nothing else: memory that TCP takes stays.
 */
export function sameProcesses(spec: SubjectSpec, subjects: readonly Subject[]): Subject | null {
  const { name, patterns, processes, transport } = spec;
  const started = subjects.find(
    (subject) =>
      subject.name === name &&
      subject.patterns === patterns &&
      subject.processes === processes &&
      (subject.transport === 'udp') === (transport === 'udp'),
  );
  return started === undefined ? null : { ...started, transport };
}

/** The programs that these subjects need and the machine does not have. */
export async function missingPrograms(specs: readonly SubjectSpec[]): Promise<string[]> {
  const missing: string[] = [];
  for (const name of ['unbound', 'dnsmasq', 'dnsdist']) {
    if (!specs.some((spec) => spec.name === name)) continue;
    const { status } = await tryRun('sh', ['-c', 'command -v "$1"', 'sh', name]);
    if (status !== 0) missing.push(name);
  }
  return missing;
}

/** Tandem with so many patterns; with one process the agent is gone and the proxy serves alone. */
export async function startTandem(spec: SubjectSpec, nodes: TestNode[]): Promise<Subject> {
  const { name, patterns, processes } = spec;
  const kind = spec.transport === 'udp' ? '' : 't';
  const node = await benchNode(`t${patterns}-${processes}${name === freshName ? 'f' : kind}`);
  nodes.push(node);
  const pod = node.pod('load');
  const tandem = await TandemNode.create(node, {
    // One pod is the whole load here; the grace is the product's default.
    options: { 'queries-per-second': 10_000_000, 'fqdn-grace-seconds': 30 },
    agentOptions: { 'cluster-resolvers': upstream, 'tcp-connects-per-second': 10_000_000 },
  });
  tandem.write('cluster.yaml', [namespaceObject('default'), ...nodeObjects(), podObject(pod)]);
  tandem.write('policy.yaml', policies(patterns));
  await tandem.start();
  if (processes === 1) await tandem.kill('agent');
  const names = processes === 1 ? (['proxy'] as const) : (['proxy', 'agent'] as const);
  const isFresh = name === freshName;
  const pids = (): number[] => names.map((process) => tandem.process(process).pid);
  const subject = { ...spec, isFresh, client: pod.namespace, server: upstream, port: 53, pids };
  try {
    await waitForAnswer(node.own(Probe.start(pod.namespace)), subject);
  } catch (error) {
    throw new Error(`tandem with ${patterns} patterns: ${tandem.logs()}`, { cause: error });
  }
  return subject;
}

/** One object has room for some thousand patterns. */
function policies(patterns: number): object[] {
  const objects: object[] = [];
  for (let from = 0; from < patterns; from += patternsPerObject) {
    const length = Math.min(patternsPerObject, patterns - from);
    const texts = Array.from({ length }, (_, i) => ({ matchPattern: patternOf(from + i) }));
    const toPorts = [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: texts } }];
    objects.push({
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name: `bench-${from}`, namespace: 'default' },
      spec: {
        endpointSelector: { matchLabels: { app: 'load' } },
        egress: [{ toCIDR: [`${upstream}/32`], toPorts }, { toFQDNs: texts }],
      },
    });
  }
  return objects;
}

async function waitForAnswer(
  probe: Probe,
  { name, server, port }: Pick<Subject, 'name' | 'server' | 'port'>,
): Promise<void> {
  const question = { server, port, name: nameOf(0), timeoutMs: 500 };
  await waitFor(async () => (await askDns(probe, question)).addresses.length > 0, {
    what: `${name} to answer`,
    timeoutMs: 15_000,
  });
}

interface Peer {
  readonly port: number;
  start(node: TestNode, port: number): Promise<{ readonly pid: number }>;
}

const peers: Readonly<Record<string, Peer>> = {
  relay: { port: 5301, start: startRelay },
  unbound: { port: 5302, start: startUnbound },
  dnsmasq: { port: 5303, start: startDnsmasq },
  dnsdist: { port: 5304, start: startDnsdist },
};

/** The floor and the peers, all on one node, each on a port of the node's own address. TCP goes on as TCP. */
export async function startPeers(
  specs: readonly SubjectSpec[],
  nodes: TestNode[],
): Promise<Subject[]> {
  const chosen = specs.filter(({ name }) => name in peers);
  if (chosen.length === 0) return [];
  const node = await benchNode('peers');
  nodes.push(node);
  const client = node.pod('load').namespace;
  const probe = node.own(Probe.start(client));
  const subjects: Subject[] = [];
  for (const spec of chosen) {
    const started = subjects.find(({ name }) => name === spec.name);
    if (started !== undefined) {
      subjects.push({ ...started, transport: spec.transport });
      continue;
    }
    const { port, start } = peers[spec.name] as Peer;
    const { pid } = await start(node, port);
    const pids = (): number[] => [pid];
    const subject = { ...spec, isFresh: false, client, server: plan.node4, port, pids };
    await waitForAnswer(probe, subject);
    subjects.push(subject);
  }
  return subjects;
}

async function startRelay(node: TestNode, port: number): Promise<RunningProcess> {
  const args = ['--port', String(port), '--upstream', upstream];
  return node.own(startProcess(...node.node.enter(tool('relay'), args)));
}

async function startUnbound(node: TestNode, port: number): Promise<Unbound> {
  const unbound = await Unbound.start(node.node, {
    port,
    forwardTo: { address: upstream, port: 53 },
    // It must ask for every query, as the others do.
    extra: ['cache-max-ttl: 0', 'num-queries-per-thread: 4096', 'outgoing-range: 8192'],
  });
  return node.own(unbound);
}

async function startDnsmasq(node: TestNode, port: number): Promise<RunningProcess> {
  const args = ['--keep-in-foreground', '--conf-file=/dev/null', '--no-resolv', '--no-hosts'];
  args.push(`--port=${port}`, `--server=${upstream}`, '--cache-size=0', '--dns-forward-max=4096');
  args.push('--user=root', '--pid-file=');
  return node.own(startProcess(...node.node.enter('dnsmasq', args)));
}

async function startDnsdist(node: TestNode, port: number): Promise<RunningProcess> {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}dnsdist-`));
  const file = join(directory, 'dnsdist.conf');
  const lines = [
    `setLocal("0.0.0.0:${port}")`,
    'setACL({"0.0.0.0/0"})',
    `newServer({address="${upstream}:53", healthCheckMode="up", sockets=16})`,
    'setSecurityPollSuffix("")',
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  const running = startProcess(
    ...node.node.enter('dnsdist', ['--supervised', '--disable-syslog', '-C', file]),
  );
  void running.exited.finally(() => rmSync(directory, { recursive: true, force: true }));
  return node.own(running);
}
