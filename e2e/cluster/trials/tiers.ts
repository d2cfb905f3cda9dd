// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ClusterNetworkPolicy on a cluster whose API server learns the kind while agents run: a client and a server on each node, and what
 * each client reaches under rules of both tiers, with a NetworkPolicy between them and without.
 */

import { Probe } from '@tandem/testing/probe';
import { type Inside, ProbeError } from '@tandem/testing/probe-process';
import { waitFor } from '@tandem/testing/wait';
import { defineClusterNetworkPolicy } from '../conformance-suites.ts';
import { applyObjects, kubectl } from '../kubectl.ts';
import { talkerPid } from './talkers.ts';
import { type Trial, trialNamespace } from './trial.ts';

const ports = { named: 8080, other: 8081 } as const;
/** Longer than the kernel takes to send a SYN again: one packet that is lost is no denial. */
const connectTimeoutMs = 2500;
const inForceTimeoutMs = 30_000;
const definition = 'clusternetworkpolicies.policy.networking.k8s.io';

/** Whether each client reaches each server: on the port that rules name, and on another one. */
interface Wanted {
  readonly named: boolean;
  readonly other: boolean;
}

const open: Wanted = { named: true, other: true };
const closed: Wanted = { named: false, other: true };
/** Under a NetworkPolicy that allows the named port alone. */
const isolated: Wanted = { named: true, other: false };

export async function tiers(trial: Trial): Promise<void> {
  await using pods = new Pods(trial);
  const { layout, steps } = trial;
  const apply = (...objects: readonly object[]): Promise<void> => applyObjects(layout, objects);
  const remove = async (...names: readonly string[]): Promise<void> => {
    for (const name of names) await kubectl(layout, ['delete', name, '-n', trialNamespace]);
  };
  const step = (text: string, change: () => Promise<void>, wanted: Wanted): Promise<void> =>
    steps.step(text, async () => {
      await change();
      return pods.expect(wanted);
    });
  steps.title('A client and a server on each node');
  await step('each client reaches each server', () => pods.start(), open);

  steps.title('The Admin tier');
  await step(
    'the kind comes, then a Deny of one port, in force on both nodes',
    async () => {
      await defineClusterNetworkPolicy(layout);
      await apply(policy('deny', 'Admin', 20, ['Deny']));
    },
    closed,
  );
  await step('a NetworkPolicy opens nothing of it', () => apply(allowNamed), {
    named: false,
    other: false,
  });
  await step(
    'an Accept of a lower priority number is asked first',
    () => apply(policy('first', 'Admin', 10, ['Accept'])),
    isolated,
  );
  await step(
    'a Pass in its place leaves it to the NetworkPolicy',
    () => apply(policy('first', 'Admin', 10, ['Pass'])),
    isolated,
  );
  await step(
    'of two rules of an object the first decides',
    () => apply(policy('first', 'Admin', 10, ['Deny', 'Accept'])),
    { named: false, other: false },
  );

  steps.title('The Baseline tier');
  await step(
    'its Deny yields to a NetworkPolicy',
    async () => {
      await apply(policy('last', 'Baseline', 10, ['Deny']));
      await remove('clusternetworkpolicy/first', 'clusternetworkpolicy/deny');
    },
    isolated,
  );
  await step(
    'and decides where nothing else isolates',
    () => remove('networkpolicy/allow-named'),
    closed,
  );
  await step(
    'an Accept before it in its tier decides',
    () => apply(policy('before', 'Baseline', 5, ['Accept'])),
    open,
  );
  await step('alone again it denies', () => remove('clusternetworkpolicy/before'), closed);

  steps.title('Without the kind');
  await step(
    'its definition is deleted with its objects: everything is open, and stays so',
    () => remove(`customresourcedefinition/${definition}`),
    open,
  );
}

class Pods implements AsyncDisposable {
  readonly #trial: Trial;
  readonly #probes = new Map<string, Probe>();
  readonly #servers = new Map<string, string>();

  constructor(trial: Trial) {
    this.#trial = trial;
  }

  async start(): Promise<void> {
    for (const node of this.#trial.nodeNames) {
      await this.#startPod(`client-${node}`, node, 'client');
      const server = `server-${node}`;
      await this.#startPod(server, node, 'server');
      this.#servers.set(server, await this.#trial.podAddress(server));
      for (const port of Object.values(ports)) {
        await this.#probe(server).listen({ protocol: 'tcp', address: '0.0.0.0', port });
      }
    }
  }

  async #startPod(name: string, node: string, app: string): Promise<void> {
    await this.#trial.startTalker(name, { node, targets: [] }, app);
    const inPod = ['--target', `${await talkerPid(this.#trial.layout, name)}`, '--net'];
    const enter: Inside['enter'] = (command, args = []) => [
      'nsenter',
      [...inPod, command, ...args],
    ];
    this.#probes.set(name, Probe.start({ enter }));
  }

  /** Waits until it is so everywhere, then looks once more. Gives what was seen. */
  async expect(wanted: Wanted): Promise<string> {
    const differing = async (): Promise<readonly string[]> => {
      const pairs = this.#trial.nodeNames.flatMap((node) =>
        [...this.#servers].map(([server, address]) => ({ node, server, address })),
      );
      const seen = pairs.flatMap(({ node, server, address }) =>
        Object.entries(ports).map(async ([which, port]) => {
          const passed = await this.#connects(`client-${node}`, address, port);
          const isRight = passed === wanted[which as keyof Wanted];
          const word = passed ? 'reaches' : 'does not reach';
          return isRight ? [] : [`client-${node} ${word} ${server} port ${port}`];
        }),
      );
      return (await Promise.all(seen)).flat();
    };
    let last: readonly string[] = [];
    await waitFor(
      async () => {
        last = await differing();
        return last.length === 0;
      },
      { what: 'policy to be in force', timeoutMs: inForceTimeoutMs },
    ).catch((error: unknown) => {
      throw new Error(last.join(', '), { cause: error });
    });
    const after = await differing();
    if (after.length > 0) throw new Error(`and then ${after.join(', ')}`);
    const passes = (isWanted: boolean): string => (isWanted ? 'passes' : 'is denied');
    const { named, other } = ports;
    return `port ${named} ${passes(wanted.named)}, ${other} ${passes(wanted.other)}, on a node and between nodes`;
  }

  async #connects(client: string, to: string, port: number): Promise<boolean> {
    try {
      await this.#probe(client).tcp({ to, port, timeoutMs: connectTimeoutMs });
      return true;
    } catch (error) {
      if (error instanceof ProbeError && error.code === 'ETIMEDOUT') return false;
      throw error;
    }
  }

  #probe(name: string): Probe {
    const found = this.#probes.get(name);
    if (found === undefined) throw new Error(`${name} was not started`);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const probe of this.#probes.values()) await probe[Symbol.asyncDispose]();
  }
}

const labels = { client: { app: 'client' }, server: { app: 'server' } } as const;
const pods = (app: keyof typeof labels): object => ({
  pods: {
    namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': trialNamespace } },
    podSelector: { matchLabels: labels[app] },
  },
});

/** Policy for servers: these actions in this order, for clients on the named port. */
const policy = (
  name: string,
  tier: 'Admin' | 'Baseline',
  priority: number,
  actions: readonly ('Accept' | 'Deny' | 'Pass')[],
): object => ({
  apiVersion: 'policy.networking.k8s.io/v1beta1',
  kind: 'ClusterNetworkPolicy',
  metadata: { name },
  spec: {
    ...{ tier, priority, subject: pods('server') },
    ingress: actions.map((action) => ({
      action,
      from: [pods('client')],
      protocols: [{ tcp: { destinationPort: { number: ports.named } } }],
    })),
  },
});

const allowNamed: object = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'allow-named', namespace: trialNamespace },
  spec: {
    podSelector: { matchLabels: labels.server },
    policyTypes: ['Ingress'],
    ingress: [
      {
        from: [{ podSelector: { matchLabels: labels.client } }],
        ports: [{ protocol: 'TCP', port: ports.named }],
      },
    ],
  },
};
