// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The checks of `kubectl tandem connectivity test`, in their order: what must work without policy first, because a
 * denial says nothing where nothing would have come through.
 */

import type { Kubectl } from '../kubectl.ts';
import {
  type Client,
  clients,
  fqdnPolicy,
  ingressPolicy,
  serverName,
  serverPort,
} from './objects.ts';
import type { ClientPods, Seen } from './probe.ts';

export interface CheckContext {
  readonly pods: ClientPods;
  readonly kubectl: Kubectl;
  readonly namespace: string;
  readonly serverAddress: string;
  /** Name and port of something outside of the cluster. */
  readonly external: { readonly name: string; readonly port: number };
  readonly apply: (object: object) => Promise<void>;
  readonly withdraw: (object: object) => Promise<void>;
}

export interface Check {
  readonly name: string;
  readonly claim: string;
  /** Runs the check and returns its observation. @throws Error: it does not hold. @throws Skipped: it cannot be tried here. */
  readonly run: (context: CheckContext) => Promise<string>;
}

export interface CheckResult {
  readonly name: string;
  readonly outcome: 'PASS' | 'FAIL' | 'SKIP';
  readonly seen: string;
  readonly ms: number;
}

export class Skipped extends Error {}

/** How long a policy may take to be in force, and how often it is looked. */
const enforcedWithinMs = 15_000;
const lookAgainMs = 500;

const [near, far] = clients;
const cut = /^(ETIMEDOUT|EHOSTUNREACH|ECONNREFUSED)$/;

export const checks: readonly Check[] = [
  {
    name: 'cluster-dns',
    claim: 'a pod without policy resolves the API server by its short name',
    run: async ({ pods }) =>
      expectEach((client) => pods.connect(client, 'kubernetes.default', 443)),
  },
  {
    name: 'pod-to-pod',
    claim: 'without policy a pod reaches another, on its node and on another',
    run: async ({ pods, serverAddress }) =>
      expectEach((client) => pods.connect(client, serverAddress, serverPort)),
  },
  {
    name: 'pod-to-service',
    claim: 'without policy a pod reaches a Service by its name',
    run: async ({ pods }) => expectEach((client) => pods.connect(client, serverName, serverPort)),
  },
  {
    name: 'ingress-deny',
    claim: 'a NetworkPolicy without rules cuts off every client',
    run: (context) =>
      underPolicy(
        context,
        ingressPolicy(context.namespace, []),
        async ({ pods, serverAddress }) => {
          await untilCut(() => pods.connect(near, serverAddress, serverPort));
          return await untilCut(() => pods.connect(far, serverName, serverPort));
        },
      ),
  },
  {
    name: 'ingress-allow',
    claim: 'a NetworkPolicy admits the client that it names, and no other',
    run: (context) =>
      underPolicy(
        context,
        ingressPolicy(context.namespace, [far]),
        async ({ pods, serverAddress }) => {
          await untilCut(() => pods.connect(near, serverAddress, serverPort));
          return await untilConnected(() => pods.connect(far, serverAddress, serverPort));
        },
      ),
  },
  {
    name: 'kubelet-to-pod',
    claim: 'the probes of kubelet reach a pod that policy closes',
    run: (context) =>
      underPolicy(context, ingressPolicy(context.namespace, []), async (inside) => {
        await untilCut(() => inside.pods.connect(near, inside.serverAddress, serverPort));
        // Longer than the three failures of a probe that make a pod unready.
        await pause(8000);
        const where = [`--namespace=${inside.namespace}`, 'pod', serverName];
        const path = '--output=jsonpath={.status.containerStatuses[0].ready}';
        const { stdout } = await inside.kubectl.run(['get', ...where, path]);
        if (stdout !== 'true') throw new Error('the pod is not ready any more');
        return 'ready after 8 s';
      }),
  },
  {
    name: 'fqdn-allow',
    claim: 'a policy of names lets a pod resolve and reach the name that it allows',
    run: (context) =>
      withFqdns(context, async ({ pods, external }) =>
        untilConnected(() => pods.connect(near, external.name, external.port)),
      ),
  },
  {
    name: 'fqdn-deny-name',
    claim: 'another name is refused',
    run: (context) =>
      withFqdns(context, async ({ pods, external }) => {
        await untilConnected(() => pods.connect(near, external.name, external.port));
        const name = `not-allowed.${external.name}`;
        return await until(
          () => pods.resolve(near, name),
          ({ result }) => result === 'EREFUSED',
          'the answer to be REFUSED',
        );
      }),
  },
  {
    name: 'fqdn-deny-port',
    claim:
      'the address of the allowed name is closed at other ports, and the rest of the cluster with it',
    run: (context) =>
      withFqdns(context, async ({ pods, external, serverAddress }) => {
        await untilConnected(() => pods.connect(near, external.name, external.port));
        const other = external.port === 80 ? 443 : 80;
        await untilCut(() => pods.connect(near, external.name, other));
        return await untilCut(() => pods.connect(near, serverAddress, serverPort));
      }),
  },
];

/** Applies the policy, proves, and takes it away again. */
async function underPolicy(
  context: CheckContext,
  policy: object,
  prove: (context: CheckContext) => Promise<string>,
): Promise<string> {
  await context.apply(policy);
  try {
    return await prove(context);
  } finally {
    await context.withdraw(policy);
  }
}

async function withFqdns(
  context: CheckContext,
  prove: (context: CheckContext) => Promise<string>,
): Promise<string> {
  const { pods, kubectl, namespace, external } = context;
  const { code } = await kubectl.run([
    'get',
    'ciliumnetworkpolicies.cilium.io',
    `--namespace=${namespace}`,
  ]);
  if (code !== 0)
    throw new Skipped(
      'the cluster has no CiliumNetworkPolicy: install its CustomResourceDefinition',
    );
  const { result } = await pods.connect(far, external.name, external.port);
  if (result !== 'connected') {
    const place = `${external.name}:${external.port}`;
    throw new Skipped(
      `a pod without policy does not reach ${place} (${result}): choose another --external`,
    );
  }
  return await underPolicy(context, fqdnPolicy(namespace, external.name, external.port), prove);
}

async function expectEach(look: (client: Client) => Promise<Seen>): Promise<string> {
  const seen: string[] = [];
  for (const client of clients) {
    const { result, address } = await look(client);
    if (result !== 'connected') throw new Error(`${client}: ${result} ${address}`);
    seen.push(`${client} to ${address}`);
  }
  return seen.join(', ');
}

const untilCut = (look: () => Promise<Seen>): Promise<string> =>
  until(look, ({ result }) => cut.test(result), 'the connection to be cut off');
const untilConnected = (look: () => Promise<Seen>): Promise<string> =>
  until(look, ({ result }) => result === 'connected', 'the connection to be let through');

async function until(
  look: () => Promise<Seen>,
  holds: (seen: Seen) => boolean,
  what: string,
): Promise<string> {
  const startMs = performance.now();
  for (;;) {
    const seen = await look();
    if (holds(seen)) return `${seen.result} ${seen.address}`.trim();
    if (performance.now() - startMs > enforcedWithinMs) {
      throw new Error(`waited 15 s for ${what}: ${seen.result} ${seen.address}`);
    }
    await pause(lookAgainMs);
  }
}

async function pause(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, ms);
  await promise;
}
