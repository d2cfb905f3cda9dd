// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What Tandem does on a cluster that no peer does: all agents of all nodes are down at once, and allowed names go on, known
 * and new, while denied ones stay refused.
 */

import { join } from 'node:path';
import { isRunning, readRecord, type Say, up } from './cluster.ts';
import { demoNamespace, demoObjects } from './demo-objects.ts';
import { helm, kubectl, kubectlApply } from './kubectl.ts';
import { until } from './processes.ts';
import { type ClusterSpec, root, worldAddresses } from './settings.ts';
import { Steps } from './steps.ts';

const release = 'tandem';
const system = 'kube-system';
const daemonSets = ['tandem-agent', 'tandem-dns-proxy'] as const;
const [apiAddress, wwwAddress] = worldAddresses;
let nextName = 1;

/** Gives the exit code: 0 when each step held. */
export async function demo(spec: ClusterSpec, say: Say): Promise<number> {
  const record = readRecord();
  if (
    record === null ||
    !isRunning(record) ||
    record.cni !== spec.cni ||
    record.nodes !== spec.nodes
  )
    await up(spec, say);
  const steps = new Steps();
  await install(steps);
  steps.title('A policy of names');
  await steps.step('a client on each node, and a policy for them', () => {
    kubectlApply(demoObjects);
    return rollout(demoNamespace, 'client');
  });
  const clients = clientsByNode();
  await checkNames(steps, clients);
  await withoutAgents(steps, clients);
  process.stdout.write(`\n${steps.summary()}\n`);
  return steps.failed === 0 ? 0 : 1;
}

async function install(steps: Steps): Promise<void> {
  steps.title('Tandem, installed by Helm');
  await steps.step('helm install', () => {
    const chart = join(root, 'charts/tandem');
    helm(
      ...['upgrade', '--install', release, chart, '--namespace', system],
      ...['--set', 'image.pullPolicy=Never', '--wait', '--timeout', '150s'],
    );
    return daemonSets.map((name) => rollout(system, name)).join(', ');
  });
}

async function checkNames(steps: Steps, clients: ReadonlyMap<string, string>): Promise<void> {
  for (const [node, pod] of clients) {
    await steps.step(`${node}: api.example.com, a name that the policy allows`, () =>
      fetch(pod, 'api.example.com'),
    );
    await steps.step(`${node}: a name that was never asked for`, () =>
      fetch(pod, `new-${nextName++}.example.com`),
    );
    await steps.step(`${node}: www.example.com, a name that it does not`, () =>
      refused(pod, 'www.example.com'),
    );
    await steps.step(`${node}: ${wwwAddress}, an address without a name`, () =>
      refused(pod, wwwAddress),
    );
  }
}

async function withoutAgents(steps: Steps, clients: ReadonlyMap<string, string>): Promise<void> {
  steps.title('All agents of all nodes down at once, by an image that cannot start');
  const [agent] = daemonSets;
  await steps.step('no agent runs', async () => {
    kubectl(
      ...['-n', system, 'set', 'image', `daemonset/${agent}`],
      'agent=localhost/tandem/agent:cannot-start',
    );
    kubectl(
      '-n',
      system,
      'delete',
      'pods',
      '-l',
      `app.kubernetes.io/name=${agent}`,
      '--wait=false',
    );
    const areDown = await until(() => readyAgents() === 0, 60_000);
    if (!areDown) throw new Error(`${readyAgents()} are ready still`);
    return `0 of ${clients.size} ready`;
  });
  await checkNames(steps, clients);
  steps.title('The agents are back');
  await steps.step('helm upgrade', () => {
    kubectl('-n', system, 'rollout', 'undo', `daemonset/${agent}`);
    kubectl(
      '-n',
      system,
      'delete',
      'pods',
      '-l',
      `app.kubernetes.io/name=${agent}`,
      '--wait=false',
    );
    return rollout(system, agent);
  });
  await checkNames(steps, clients);
}

function readyAgents(): number {
  const text = kubectl(
    ...['-n', system, 'get', 'daemonset', daemonSets[0], '-o', 'jsonpath={.status.numberReady}'],
  );
  return Number(text);
}

function rollout(namespace: string, name: string): string {
  kubectl('-n', namespace, 'rollout', 'status', `daemonset/${name}`, '--timeout=120s');
  return `${name} is ready`;
}

/** Pods of the demonstration, by their nodes. */
function clientsByNode(): ReadonlyMap<string, string> {
  const text = kubectl(
    ...['-n', demoNamespace, 'get', 'pods', '-l', 'app=client', '-o'],
    'jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name}{"\\n"}{end}',
  );
  return new Map(
    text
      .trim()
      .split('\n')
      .map((line) => line.split(' ') as [string, string])
      .sort(),
  );
}

function fetch(pod: string, host: string): string {
  const text = ask(pod, host);
  if (!text.includes(apiAddress)) throw new Error(`answered by ${text}`);
  return text.trim();
}

function refused(pod: string, host: string): string {
  let text: string;
  try {
    text = ask(pod, host);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const said = /wget: [^\n]*/.exec(reason)?.[0];
    if (said === undefined) throw error;
    return said;
  }
  throw new Error(`it was answered: ${text.trim()}`);
}

function ask(pod: string, host: string): string {
  return kubectl(
    ...['-n', demoNamespace, 'exec', pod, '--', 'wget', '-q', '-O-', '-T', '2', `http://${host}/`],
  );
}
