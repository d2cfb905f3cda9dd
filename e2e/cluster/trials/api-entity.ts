// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Egress of pods to the API server: the entity kube-apiserver admits it, at its address and by its Service, and neither other
 * nodes nor the outside; remote-node admits the other node and not the API server.
 */

import { Probe } from '@tandem/testing/probe';
import { type Inside, ProbeError } from '@tandem/testing/probe-process';
import { applyObjects, kubectl } from '../kubectl.ts';
import { controlPlaneAddress, nodeAddress, nodeName, worldWwwAddress } from '../layout.ts';
import { talkerPid } from './talkers.ts';
import { type Trial, trialNamespace } from './trial.ts';

const entities = ['kube-apiserver', 'remote-node'] as const;
type Entity = (typeof entities)[number];

const kubeletPort = 10_250;
const connectTimeoutMs = 2500;
/** Servers of TLS answer it with an error, in plain text. */
const request = 'GET / HTTP/1.0\r\n\r\n';

interface Target {
  readonly text: string;
  readonly to: string;
  readonly port: number;
  readonly is: Entity | null;
}

export async function apiServerEntity(trial: Trial): Promise<void> {
  const { steps } = trial;
  steps.title(`Clients on ${nodeName(1)}, each with a policy that lets it out to one entity`);
  const targets: Target[] = [];
  await steps.step('each is ready', async () => {
    await applyObjects(trial.layout, entities.map(policyOf));
    for (const entity of entities) {
      await trial.startTalker(`to-${entity}`, { node: nodeName(1), targets: [] }, `to-${entity}`);
    }
    const query = ['-n', 'default', 'get', 'service', 'kubernetes', '-o'];
    const service = await kubectl(trial.layout, [...query, 'jsonpath={.spec.clusterIP}']);
    const api = 'kube-apiserver';
    targets.push(
      { text: 'the API server', to: controlPlaneAddress, port: 6443, is: api },
      { text: 'the API server by its Service', to: service, port: 443, is: api },
      {
        text: `the host of ${nodeName(2)}`,
        to: nodeAddress(2),
        port: kubeletPort,
        is: 'remote-node',
      },
      { text: 'the outside', to: worldWwwAddress, port: 80, is: null },
    );
    return entities.join(', ');
  });
  for (const entity of entities) {
    await steps.step(`${entity}: nothing else is reached`, async () => {
      const pid = await talkerPid(trial.layout, `to-${entity}`);
      const inside: Inside = {
        enter: (command, args = []) => [
          'nsenter',
          ['--target', `${pid}`, '--net', command, ...args],
        ],
      };
      await using probe = Probe.start(inside);
      const seen = await Promise.all(targets.map((target) => isReached(probe, target)));
      const wrong = targets.filter(({ is }, place) => (is === entity) !== seen[place]);
      if (wrong.length > 0) {
        throw new Error(
          wrong.map(({ text, is }) => `${text}: ${is === entity ? 'not ' : ''}reached`).join('; '),
        );
      }
      return `reached: ${targets
        .filter(({ is }) => is === entity)
        .map(({ text }) => text)
        .join(', ')}`;
    });
  }
}

function policyOf(entity: Entity): object {
  return {
    ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy' },
    metadata: { name: `to-${entity}`, namespace: trialNamespace },
    spec: {
      endpointSelector: { matchLabels: { app: `to-${entity}` } },
      egress: [{ toEntities: [entity] }],
    },
  };
}

async function isReached(probe: Probe, { to, port }: Target): Promise<boolean> {
  try {
    const options = { to, port, data: request, untilEnd: true, timeoutMs: connectTimeoutMs };
    const { data } = await probe.tcp(options);
    return Buffer.from(data).toString('latin1').startsWith('HTTP/1.');
  } catch (error) {
    if (error instanceof ProbeError && error.code === 'ETIMEDOUT') return false;
    throw error;
  }
}
