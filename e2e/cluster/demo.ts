// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What Tandem does on a cluster that no peer does: all agents of all nodes are down at once, and allowed names go on, known
 * and new, while denied ones stay refused.
 */

import { waitFor } from '@tandem/testing/wait';
import { demoNamespace, demoObjects } from './demo-objects.ts';
import { applyObjects, kubectl, tryKubectl } from './kubectl.ts';
import { type ClusterConfig, type Layout, worldAddresses } from './layout.ts';
import {
  daemonSets,
  importProductImages,
  installProduct,
  productNamespace,
  rollout,
} from './product.ts';
import { Steps } from './steps.ts';

const [apiAddress, wwwAddress] = worldAddresses;
const downTimeoutMs = 60_000;
const noImage = 'localhost/tandem/agent:cannot-start';

/** On a cluster that is up. Gives the exit code: 0 when each step held. */
export async function demo(layout: Layout, config: ClusterConfig): Promise<number> {
  const demonstration = new Demonstration(layout);
  await demonstration.install(config);
  await demonstration.policyAtWork();
  await demonstration.withoutAgents();
  return demonstration.end();
}

class Demonstration {
  readonly #layout: Layout;
  readonly #steps = new Steps();
  /** Pods of the demonstration, by their nodes. */
  #clients: ReadonlyMap<string, string> = new Map();
  #nextName = 1;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  end(): number {
    process.stdout.write(`\n${this.#steps.summary()}\n`);
    return this.#steps.failed === 0 ? 0 : 1;
  }

  async install(config: ClusterConfig): Promise<void> {
    this.#steps.title('Tandem, installed by Helm');
    await this.#steps.step('images of this checkout on each node', async () => {
      await importProductImages(this.#layout, config);
      return '';
    });
    await this.#steps.step('helm install', async () => {
      await installProduct(this.#layout);
      return `${Object.values(daemonSets).join(' and ')} are ready on each node`;
    });
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
  }

  async withoutAgents(): Promise<void> {
    this.#steps.title('All agents of all nodes down at once, by an image that cannot start');
    await this.#steps.step('no agent runs', async () => {
      await this.#setAgentImage();
      const isDown = async (): Promise<boolean> => (await this.#agents('numberReady')) === 0;
      await waitFor(isDown, { what: 'every agent to be down', timeoutMs: downTimeoutMs });
      return `0 of ${this.#clients.size} ready`;
    });
    await this.#checkNames();
    this.#steps.title('The agents are back');
    await this.#steps.step('the image that there is', async () => {
      const agent = `daemonset/${daemonSets.agent}`;
      await this.#system('rollout', 'undo', agent);
      await this.#deleteAgents();
      await rollout(this.#layout, productNamespace, daemonSets.agent);
      return `${daemonSets.agent} is ready on each node`;
    });
    await this.#checkNames();
  }

  async #checkNames(): Promise<void> {
    for (const [node, pod] of this.#clients) {
      await this.#steps.step(`${node}: api.example.com, which the policy allows`, () =>
        this.#reach(pod, 'api.example.com'),
      );
      const name = `new-${this.#nextName++}.example.com`;
      await this.#steps.step(
        `${node}: ${name}, allowed by pattern and never asked for before`,
        () => this.#reach(pod, name),
      );
      await this.#steps.step(`${node}: www.example.com, which it does not allow`, () =>
        this.#refuse(pod, 'www.example.com'),
      );
      await this.#steps.step(`${node}: ${wwwAddress}, an address that no allowed name has`, () =>
        this.#refuse(pod, wwwAddress),
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

  async #agents(field: 'numberReady'): Promise<number> {
    const template = `jsonpath={.status.${field}}`;
    return Number(await this.#system('get', 'daemonset', daemonSets.agent, '-o', template));
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
    const { status, stdout, stderr } = await this.#get(pod, host);
    if (status !== 0) throw new Error(stderr.trim());
    if (!stdout.includes(apiAddress)) throw new Error(`answered by ${stdout.trim()}`);
    return stdout.trim();
  }

  async #refuse(pod: string, host: string): Promise<string> {
    const { status, stdout, stderr } = await this.#get(pod, host);
    if (status === 0) throw new Error(`it was answered: ${stdout.trim()}`);
    // anything else is a fault of the demonstration: kubectl could not run it
    const said = /wget: [^\n]*/.exec(stderr)?.[0];
    if (said === undefined) throw new Error(stderr.trim());
    return said;
  }

  async #get(pod: string, host: string): ReturnType<typeof tryKubectl> {
    const command = ['wget', '-q', '-O-', '-T', '3', `http://${host}/`];
    return tryKubectl(this.#layout, ['-n', demoNamespace, 'exec', pod, '--', ...command]);
  }
}
