// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What is measured: Tandem in its shapes, a bare relay as the floor, and Debian's DNS forwarders. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { askDns } from '@tandem/testing/dns-query';
import { type Namespace, ownPrefix } from '@tandem/testing/namespace';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { Unbound } from '@tandem/testing/unbound';
import { waitFor } from '@tandem/testing/wait';
import { namespaceObject, nodeObjects, podObject } from '../kit/objects.ts';
import { TandemNode } from '../kit/tandem-node.ts';

/** Where the load's upstream answers, in the upstream namespace. */
export const upstream = '203.0.113.53';

export interface Subject {
  readonly name: string;
  readonly patterns: number;
  readonly processes: number;
  /** Where the load comes from, and whom it asks. */
  readonly client: Namespace;
  readonly server: string;
  readonly port: number;
  pids(): readonly number[];
}

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
    ...node.upstream.enter(tool('upstream'), ['--address', upstream, '--port', '53']),
  );
  node.own(server);
  await waitFor(() => server.stdout().includes('ready'), { what: 'the upstream' });
  return node;
}

/** Tandem with so many patterns; with one process the agent is gone and the proxy serves alone. */
export async function tandemSubject(
  patterns: number,
  processes: 1 | 2,
): Promise<[Subject, TestNode]> {
  const node = await benchNode(`t${patterns}-${processes}`);
  const pod = node.pod('load');
  const tandem = await TandemNode.create(node, {
    // One pod is the whole load here.
    options: { 'queries-per-second': 10_000_000 },
    agentOptions: { 'cluster-resolvers': upstream },
  });
  const texts = Array.from({ length: patterns }, (_, i) => ({ matchPattern: patternOf(i) }));
  tandem.write('cluster.yaml', [namespaceObject('default'), ...nodeObjects(), podObject(pod)]);
  tandem.write('policy.yaml', [
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name: 'bench', namespace: 'default' },
      spec: {
        endpointSelector: { matchLabels: { app: 'load' } },
        egress: [
          {
            toCIDR: [`${upstream}/32`],
            toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: texts } }],
          },
          { toFQDNs: texts },
        ],
      },
    },
  ]);
  await tandem.start();
  if (processes === 1) await tandem.kill('agent');
  const names = processes === 1 ? (['proxy'] as const) : (['agent', 'proxy'] as const);
  const subject: Subject = {
    name: 'tandem',
    patterns,
    processes,
    client: pod.namespace,
    server: upstream,
    port: 53,
    pids: () => names.map((name) => tandem.process(name).pid),
  };
  return [subject, node];
}

/** The floor and the peers, all on one node, each on a port of the node's own address. */
export async function peerSubjects(): Promise<[Subject[], TestNode]> {
  const node = await benchNode('peers');
  const client = node.pod('load').namespace;
  const subjects: Subject[] = [];
  const add = (
    name: string,
    port: number,
    server: string,
    running: { readonly pid: number },
  ): void => {
    const pids = (): number[] => [running.pid];
    subjects.push({ name, patterns: 0, processes: 1, client, server, port, pids });
  };
  add('relay', 5301, plan.node4, await startRelay(node));
  add('unbound', 5302, plan.node4, node.own(await startUnbound(node)));
  add('dnsmasq', 5303, plan.node4, await startDnsmasq(node));
  add('dnsdist', 5304, plan.node4, await startDnsdist(node));
  const probe = node.own(Probe.start(client));
  for (const { name, server, port } of subjects) {
    const question = { server, port, name: nameOf(0), timeoutMs: 500 };
    await waitFor(async () => (await askDns(probe, question)).addresses.length > 0, {
      what: `${name} to answer`,
      timeoutMs: 15_000,
    });
  }
  return [subjects, node];
}

async function startRelay(node: TestNode): Promise<RunningProcess> {
  const args = ['--port', '5301', '--upstream', upstream];
  return node.own(startProcess(...node.node.enter(tool('relay'), args)));
}

function startUnbound(node: TestNode): Promise<Unbound> {
  return Unbound.start(node.node, {
    port: 5302,
    forwardTo: { address: upstream, port: 53 },
    // It must ask for every query, as the others do.
    extra: ['cache-max-ttl: 0', 'num-queries-per-thread: 4096', 'outgoing-range: 8192'],
  });
}

async function startDnsmasq(node: TestNode): Promise<RunningProcess> {
  const args = ['--keep-in-foreground', '--conf-file=/dev/null', '--no-resolv', '--no-hosts'];
  args.push('--port=5303', `--server=${upstream}`, '--cache-size=0', '--dns-forward-max=4096');
  args.push('--user=root', '--pid-file=');
  return node.own(startProcess(...node.node.enter('dnsmasq', args)));
}

async function startDnsdist(node: TestNode): Promise<RunningProcess> {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}dnsdist-`));
  const file = join(directory, 'dnsdist.conf');
  const lines = [
    'setLocal("0.0.0.0:5304")',
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
