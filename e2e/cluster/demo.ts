// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Demonstration on a cluster: while the agents of all nodes are down at once, allowed names are still answered, known and new
 * ones, and denied names are still refused.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { waitForEqualCaches } from '../kit/admin.ts';
import { shippedPrivileges } from '../kit/shipped-privileges.ts';
import { demoNamespace, demoObjects } from './demo-objects.ts';
import { applyObjects, kubectl, kubectlTandem, tryKubectl } from './kubectl.ts';
import {
  type ClusterConfig,
  type Layout,
  nodeIndexes,
  nodeName,
  worldNewAddress,
  worldWwwAddress,
} from './layout.ts';
import { inNode, nodeInitPid } from './node.ts';
import { assertPrivileges } from './privileges.ts';
import {
  daemonSets,
  importProductImages,
  installProduct,
  productNamespace,
  rollout,
  testProduct,
} from './product.ts';
import { Steps } from './steps.ts';

const cachesTimeoutMs = 20_000;
const downTimeoutMs = 60_000;
const noImage = 'localhost/tandem/agent:cannot-start';

/** Values with which `helm test` also connects by a name. */
const helmTestValues = ['test.reachName=api.example.com', 'test.reachPort=80'];

/** On a cluster that is up. Gives the exit code: 0 when each step held. */
export async function demo(layout: Layout, config: ClusterConfig): Promise<number> {
  const demonstration = new Demonstration(layout, config);
  await demonstration.install();
  await demonstration.policyAtWork();
  await demonstration.withoutAgents();
  await demonstration.operatorsTools();
  return demonstration.end();
}

class Demonstration {
  readonly #layout: Layout;
  readonly #config: ClusterConfig;
  readonly #steps = new Steps();
  /** Pods of the demonstration, by their nodes. */
  #clients: ReadonlyMap<string, string> = new Map();
  #nextName = 1;

  constructor(layout: Layout, config: ClusterConfig) {
    this.#layout = layout;
    this.#config = config;
  }

  end(): number {
    process.stdout.write(`\n${this.#steps.summary()}\n`);
    return this.#steps.failed === 0 ? 0 : 1;
  }

  async install(): Promise<void> {
    this.#steps.title('Tandem, installed by Helm');
    await this.#steps.step('images of this checkout on each node', async () => {
      await importProductImages(this.#layout, this.#config);
      return '';
    });
    await this.#steps.step('helm install', async () => {
      await installProduct(this.#layout, helmTestValues);
      return `${Object.values(daemonSets).join(' and ')} are ready on each node`;
    });
    for (const index of nodeIndexes(this.#config)) {
      for (const [program, privileges] of Object.entries(shippedPrivileges)) {
        const what = `${nodeName(index)}: ${program} can do what it needs, no more`;
        await this.#steps.step(what, () =>
          assertPrivileges(this.#layout, index, program, privileges),
        );
      }
    }
  }

  async policyAtWork(): Promise<void> {
    this.#steps.title('A policy of names');
    await this.#steps.step('a client on each node, and a policy for them', async () => {
      await applyObjects(this.#layout, demoObjects);
      await rollout(this.#layout, demoNamespace, 'client');
      this.#clients = await this.#readClients();
      return [...this.#clients].map(([node, pod]) => `${pod} on ${node}`).join(', ');
    });
    await this.#checkNames();
    await this.#steps.step('helm test: a policy at work, and privileges', async () => {
      await testProduct(this.#layout);
      return '';
    });
  }

  async withoutAgents(): Promise<void> {
    this.#steps.title('All agents of all nodes down at once, by an image that cannot start');
    await this.#steps.step('no agent runs', async () => {
      await this.#setAgentImage();
      const isDown = async (): Promise<boolean> => (await this.#nodesWithAgent()).length === 0;
      await waitFor(isDown, { what: 'every agent to be down', timeoutMs: downTimeoutMs });
      return 'no process of it on any node';
    });
    await this.#checkNames();
    await this.#checkStatus(
      'kubectl tandem status: says why no agent runs, and that the DNS proxy serves',
      1,
      'degraded',
      'ErrImageNeverPull|ImagePullBackOff|ErrImagePull',
    );
    await this.#steps.step('no agent ran meanwhile', async () => {
      const nodes = await this.#nodesWithAgent();
      if (nodes.length > 0) throw new Error(`one runs on ${nodes.join(' and ')}`);
      return '';
    });
    this.#steps.title('The agents are back');
    await this.#steps.step('their image is there again', async () => {
      const agent = `daemonset/${daemonSets.agent}`;
      await this.#system('rollout', 'undo', agent);
      await this.#deleteAgents();
      await rollout(this.#layout, productNamespace, daemonSets.agent);
      return `${daemonSets.agent} is ready on each node`;
    });
    await this.#checkCaches();
    await this.#checkNames();
  }

  async operatorsTools(): Promise<void> {
    this.#steps.title("The operator's tools");
    await this.#checkStatus('kubectl tandem status: every node is healthy', 0, 'healthy', 'serves');
    await this.#policyValidate();
    await this.#connectivityTest();
    await this.#sysdump();
  }

  async #policyValidate(): Promise<void> {
    await this.#steps.step(
      'kubectl tandem policy validate: no policy of the cluster has an error',
      async () => {
        const { status, stdout, stderr } = await kubectlTandem(this.#layout, [
          'policy',
          'validate',
        ]);
        const [summary = ''] = stdout.trim().split('\n').slice(-1);
        if (status === 0 && / 1 valid policy: no errors/.test(summary)) return summary;
        throw new Error(`exit code ${status}: ${stderr} ${stdout}`.replaceAll('\n', ' | '));
      },
    );
  }

  /** The operator's own proof, with the images that are there already. */
  async #connectivityTest(): Promise<void> {
    await this.#steps.step(
      'kubectl tandem connectivity test: each of its tests passes',
      async () => {
        const args = ['connectivity', 'test', '--external=api.example.com:80'];
        const { status, stdout, stderr } = await kubectlTandem(this.#layout, args);
        const [summary = ''] = stdout.trim().split('\n').slice(-1);
        if (status === 0 && summary.endsWith('0 failed, 0 skipped')) return summary;
        throw new Error(`exit code ${status}: ${stderr} ${stdout}`.replaceAll('\n', ' | '));
      },
    );
  }

  /** Checks that a sysdump, which people send to others, does not name the cluster. */
  async #sysdump(): Promise<void> {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-sysdump-'));
    const target = join(directory, 'redacted');
    try {
      await this.#steps.step(
        'kubectl tandem sysdump --redact: no name of a pod in it',
        async () => {
          const args = ['sysdump', '--redact', `--directory=${target}`];
          const { status, stdout, stderr } = await kubectlTandem(this.#layout, args);
          if (status !== 0) throw new Error(stderr.trim());
          const named = ['api.example.com', demoNamespace, ...this.#clients.values()];
          const { status: found, stdout: lines } = await tryRun('grep', [
            ...['--recursive', '--fixed-strings', '--count', '--word-regexp'],
            ...named.map((name) => `--regexp=${name}`),
            target,
          ]);
          if (found !== 1) throw new Error(lines.replaceAll(/^.*:0\n/gm, ''));
          return stdout.trim();
        },
      );
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  /** Checks the health of each node, and the state of its agent in the table. */
  async #checkStatus(claim: string, code: number, health: string, agent: string): Promise<void> {
    await this.#steps.step(claim, async () => {
      const { status, stdout, stderr } = await kubectlTandem(this.#layout, ['status']);
      const rows = nodeIndexes(this.#config).map((index) =>
        new RegExp(`^${nodeName(index)} +${health} +(${agent}) +serves `, 'm').test(stdout),
      );
      if (status === code && rows.every((isThere) => isThere)) return `exit code ${status}`;
      throw new Error(`exit code ${status}: ${stderr} ${stdout}`.replaceAll('\n', ' | '));
    });
  }

  /** Checks that the agent has the names that the DNS proxy learned alone. */
  async #checkCaches(): Promise<void> {
    for (const index of nodeIndexes(this.#config)) {
      await this.#steps.step(
        `${nodeName(index)}: agent and DNS proxy know the same names`,
        async () => {
          const pid = await nodeInitPid(this.#layout, index);
          const runDirectory = `/proc/${pid}/root/run/tandem`;
          return `${await waitForEqualCaches({ runDirectory }, cachesTimeoutMs)} addresses`;
        },
      );
    }
  }

  async #checkNames(): Promise<void> {
    for (const [node, pod] of this.#clients) {
      const step = (claim: string, prove: () => Promise<string>): Promise<void> =>
        this.#steps.step(`${node}: ${claim}`, prove);
      const number = this.#nextName++;
      const name = `new-${number}.example.com`;
      await step('api.example.com, which the policy allows', () =>
        this.#reach(pod, 'api.example.com'),
      );
      await step(`${worldNewAddress(number)}, before its name was asked for`, () =>
        this.#refuse(pod, worldNewAddress(number), 'TIMEOUT'),
      );
      await step(`${name} has it, which a pattern of the policy allows`, () =>
        this.#reach(pod, name),
      );
      await step('www.example.com, which the policy does not allow', () =>
        this.#refuse(pod, 'www.example.com', 'DNS'),
      );
      await step(`${worldWwwAddress}, its address`, () =>
        this.#refuse(pod, worldWwwAddress, 'TIMEOUT'),
      );
    }
  }

  /** A DaemonSet that rolls would stop at the first pod that does not start: what is there is deleted. */
  async #setAgentImage(): Promise<void> {
    await this.#system('set', 'image', `daemonset/${daemonSets.agent}`, `agent=${noImage}`);
    await this.#deleteAgents();
  }

  async #deleteAgents(): Promise<void> {
    const selector = `app.kubernetes.io/name=${daemonSets.agent}`;
    await this.#system('delete', 'pods', '--selector', selector, '--wait=false');
  }

  /** Nodes on which a process of the agent lives: one that ends may serve until then. */
  async #nodesWithAgent(): Promise<readonly string[]> {
    const nodes: string[] = [];
    for (const index of nodeIndexes(this.#config)) {
      const search = ['pgrep', '--full', '/dist/agent\\.js'];
      const { status } = await tryRun(...(await inNode(this.#layout, index, search)));
      if (status === 0) nodes.push(nodeName(index));
    }
    return nodes;
  }

  #system(...args: readonly string[]): Promise<string> {
    return kubectl(this.#layout, ['-n', productNamespace, ...args]);
  }

  async #readClients(): Promise<ReadonlyMap<string, string>> {
    const template = '{range .items[*]}{.spec.nodeName} {.metadata.name}{"\\n"}{end}';
    const selector = ['get', 'pods', '-l', 'app=client', '-o', `jsonpath=${template}`];
    const text = await kubectl(this.#layout, ['-n', demoNamespace, ...selector]);
    const rows = text.trim().split('\n').toSorted();
    return new Map(rows.map((row) => row.split(' ') as [string, string]));
  }

  async #reach(pod: string, host: string): Promise<string> {
    const { status, stderr } = await this.#connect(pod, host);
    if (status !== 0) throw new Error(stderr.trim());
    return 'connected';
  }

  /** `how`: what agnhost calls it. Anything else is no refusal, but perhaps a fault of the demonstration. */
  async #refuse(pod: string, host: string, how: 'DNS' | 'TIMEOUT'): Promise<string> {
    const { status, stderr } = await this.#connect(pod, host);
    if (status === 0) throw new Error('connected');
    const [said = ''] = stderr.split('\n');
    if (!said.startsWith(how)) throw new Error(stderr.trim());
    return said;
  }

  #connect(pod: string, host: string): ReturnType<typeof tryKubectl> {
    const command = ['/agnhost', 'connect', '--timeout=2s', `${host}:80`];
    return tryKubectl(this.#layout, ['-n', demoNamespace, 'exec', pod, '--', ...command]);
  }
}
