// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Source of packets to a pod: for each path to a pod, the source address that the pod sees, and the entities by which a policy
 * admits it. Addresses of tunnels and bridges of other nodes belong to these nodes, although no object lists them.
 */

import { Probe } from '@tandem/testing/probe';
import { type Inside, ProbeError } from '@tandem/testing/probe-process';
import { waitFor } from '@tandem/testing/wait';
import { agnhostImage } from '../base-images.ts';
import { inControlPlane } from '../control-plane.ts';
import { applyObjects, kubectl } from '../kubectl.ts';
import { type CniKind, nodeAddress, nodeName, podCidr, worldWwwAddress } from '../layout.ts';
import { apiServerEntity } from './api-entity.ts';
import { talkerPid } from './talkers.ts';
import { type Trial, trialNamespace } from './trial.ts';

/** Each has a pod that it alone may reach; `open` has no policy. */
const doors = ['open', 'host', 'remote-node', 'cluster', 'world'] as const;
type Door = (typeof doors)[number];

const serverPort = 8080;
const firstHostPort = 18_080;
const firstNodePort = 31_080;
const readyTimeoutMs = 120_000;
/** Longer than the kernel takes to send a SYN again: one packet that is lost is no denial. */
const connectTimeoutMs = 2500;
const request = 'GET /clientip HTTP/1.0\r\n\r\n';

type Client = 'node' | 'other-node' | 'other-pod' | 'outside';

interface Way {
  readonly text: string;
  readonly client: Client;
  /** Bound by the client; default: the kernel's choice. */
  readonly from?: string;
  readonly to: 'pod' | 'service' | 'host-port' | 'node-port' | 'other-node-port';
  /** Entities that the client is. */
  readonly is: readonly Door[];
  /** Sources that the pod may see; with a masquerade the kernel chooses one. */
  readonly sources: (kind: CniKind) => readonly string[];
}

/** A pod is always reached by its own node: kubelet's probes come from there. */
const ownNode: readonly Door[] = ['host', 'remote-node', 'cluster', 'world'];
const otherNode: readonly Door[] = ['remote-node', 'cluster'];
const tunnelOf = (node: number): string => podCidr(node).replace('.0/24', '.0');
const bridgeOf = (node: number): string => podCidr(node).replace('.0/24', '.1');
const other = nodeAddress(2);
const whereverFrom =
  (...addresses: readonly string[]) =>
  (): readonly string[] =>
    addresses;
/** Sources of packets that leave n2 for a pod of n1. */
const leavesOther = (kind: CniKind): readonly string[] =>
  kind === 'flannel' ? [tunnelOf(2), bridgeOf(2)] : [other];
const ownAddresses = (): readonly string[] => [tunnelOf(1), bridgeOf(1), nodeAddress(1)];

const ways: readonly Way[] = [
  {
    text: `the host of ${nodeName(2)}, at the pod's address`,
    ...{ client: 'other-node', to: 'pod', is: otherNode },
    sources: (kind) => (kind === 'flannel' ? [tunnelOf(2)] : [other]),
  },
  {
    text: `the host of ${nodeName(2)}, with the address of its bridge`,
    ...{ client: 'other-node', from: bridgeOf(2), to: 'pod', is: otherNode },
    sources: whereverFrom(bridgeOf(2)),
  },
  {
    text: `the host of ${nodeName(2)}, by its Service`,
    ...{ client: 'other-node', to: 'service', is: otherNode, sources: leavesOther },
  },
  {
    text: `the host of ${nodeName(2)}, by the host port`,
    ...{ client: 'other-node', to: 'host-port', is: otherNode },
    sources: whereverFrom(other),
  },
  {
    text: 'its own host, at its address',
    ...{ client: 'node', to: 'pod', is: ownNode },
    sources: whereverFrom(bridgeOf(1)),
  },
  {
    text: 'its own host, by its Service',
    ...{ client: 'node', to: 'service', is: ownNode, sources: ownAddresses },
  },
  {
    text: `a pod of ${nodeName(2)}, at its address`,
    ...{ client: 'other-pod', to: 'pod', is: ['cluster'] },
    sources: (): readonly string[] => [],
  },
  {
    text: 'the outside, by the host port',
    ...{ client: 'outside', from: worldWwwAddress, to: 'host-port', is: ['world'] },
    sources: whereverFrom(worldWwwAddress),
  },
  {
    text: `the outside, by a NodePort of ${nodeName(1)}: judged before the node translates its source`,
    ...{ client: 'outside', from: worldWwwAddress, to: 'node-port', is: ['world'] },
    sources: ownAddresses,
  },
  {
    text: `the outside, by a NodePort of ${nodeName(2)}, which translates its source`,
    ...{ client: 'outside', from: worldWwwAddress, to: 'other-node-port', is: otherNode },
    sources: leavesOther,
  },
];

export async function sources(trial: Trial): Promise<void> {
  const { steps } = trial;
  if (trial.nodeNames.length < 2) throw new Error('trial sources needs two nodes');
  steps.title(`Servers on ${nodeName(1)}, each with a policy that lets one entity in`);
  let bed: Clients | null = null;
  await steps.step('each is ready, as are clients', async () => {
    await applyObjects(trial.layout, doors.flatMap(serverObjects));
    await waitFor(async () => (await trial.readyPods('server')).length === doors.length, {
      what: 'servers to be ready',
      timeoutMs: readyTimeoutMs,
    });
    await trial.startTalker('client', { node: nodeName(2), targets: [] }, 'free');
    bed = await Clients.start(trial);
    return doors.join(', ');
  });
  if (bed === null) return;
  await using clients: Clients = bed;
  for (const way of ways) {
    await steps.step(way.text, async () => {
      const seen = await Promise.all(doors.map((door) => clients.reach(way, door)));
      const expected = [...way.sources(trial.config.cni), ...clients.podAddresses(way.client)];
      const problems = doors.flatMap((door, place) => {
        const mayPass = door === 'open' || way.is.includes(door);
        const from = seen[place] ?? null;
        if (mayPass && from === null) return [`${door} was not reached`];
        if (!mayPass && from !== null) return [`${door} was reached, from ${from}`];
        return from !== null && !expected.includes(from) ? [`${door} saw ${from}`] : [];
      });
      if (problems.length > 0) throw new Error(problems.join('; '));
      const sourcesSeen = new Set(seen.filter((from) => from !== null));
      return `seen as ${[...sourcesSeen].join(', ')}; reaches ${['open', ...way.is].join(', ')}`;
    });
  }
  await apiServerEntity(trial);
}

/** Hands in the namespaces of the clients. */
class Clients implements AsyncDisposable {
  readonly #probes: Readonly<Record<Client, Probe>>;
  /** Addresses of each door's pod and of its Service. */
  readonly #addresses: ReadonlyMap<Door, { readonly pod: string; readonly service: string }>;
  readonly #podAddress: string;

  private constructor(
    probes: Readonly<Record<Client, Probe>>,
    addresses: ReadonlyMap<Door, { readonly pod: string; readonly service: string }>,
    podAddress: string,
  ) {
    this.#probes = probes;
    this.#addresses = addresses;
    this.#podAddress = podAddress;
  }

  static async start(trial: Trial): Promise<Clients> {
    const { layout } = trial;
    const pid = await talkerPid(layout, 'client');
    const at = (...enter: readonly string[]): Inside => ({
      enter: (command, args = []) => ['nsenter', [...enter, command, ...args]],
    });
    const outside: Inside = {
      enter: (command, args = []) => inControlPlane(layout, command, args),
    };
    const probes = {
      node: Probe.start(at(`--net=/run/netns/${layout.nodeNetns(1)}`)),
      'other-node': Probe.start(at(`--net=/run/netns/${layout.nodeNetns(2)}`)),
      'other-pod': Probe.start(at('--target', `${pid}`, '--net')),
      outside: Probe.start(outside),
    };
    const addresses = new Map<Door, { pod: string; service: string }>();
    for (const door of doors) {
      const query = [
        '-n',
        trialNamespace,
        'get',
        'service',
        door,
        '-o',
        'jsonpath={.spec.clusterIP}',
      ];
      addresses.set(door, {
        pod: await trial.podAddress(door),
        service: await kubectl(layout, query),
      });
    }
    return new Clients(probes, addresses, await trial.podAddress('client'));
  }

  /** Addresses of a client that is a pod. */
  podAddresses(client: Client): readonly string[] {
    return client === 'other-pod' ? [this.#podAddress] : [];
  }

  /** The source as the pod sees it; null: no packet of the connection came back. */
  async reach({ client, from, to }: Way, door: Door): Promise<string | null> {
    const { pod, service } = this.#addresses.get(door) ?? { pod: '', service: '' };
    const place = doors.indexOf(door);
    const target = {
      pod: { to: pod, port: serverPort },
      service: { to: service, port: serverPort },
      'host-port': { to: nodeAddress(1), port: firstHostPort + place },
      'node-port': { to: nodeAddress(1), port: firstNodePort + place },
      'other-node-port': { to: nodeAddress(2), port: firstNodePort + place },
    }[to];
    const source = from === undefined ? {} : { source: from };
    const options = { ...target, ...source, data: request, untilEnd: true };
    try {
      const { data } = await this.#probes[client].tcp({ ...options, timeoutMs: connectTimeoutMs });
      const body = Buffer.from(data).toString('latin1').split('\r\n\r\n')[1] ?? '';
      return body.slice(0, body.lastIndexOf(':')) || `"${body}"`;
    } catch (error) {
      if (error instanceof ProbeError && error.code === 'ETIMEDOUT') return null;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const probe of Object.values(this.#probes)) await probe[Symbol.asyncDispose]();
  }
}

function serverObjects(door: Door): readonly object[] {
  const place = doors.indexOf(door);
  const labels = { app: 'server', door };
  const metadata = { name: door, namespace: trialNamespace };
  const policy = {
    ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata },
    spec: { endpointSelector: { matchLabels: { door } }, ingress: [{ fromEntities: [door] }] },
  };
  const ports = [{ containerPort: serverPort, hostPort: firstHostPort + place }];
  const container = {
    ...{ name: 'server', image: agnhostImage, imagePullPolicy: 'Never', ports },
    args: ['netexec', `--http-port=${serverPort}`],
    readinessProbe: { httpGet: { path: '/', port: serverPort }, periodSeconds: 1 },
  };
  return [
    ...(door === 'open' ? [] : [policy]),
    {
      ...{ apiVersion: 'v1', kind: 'Pod', metadata: { ...metadata, labels } },
      spec: {
        nodeSelector: { 'kubernetes.io/hostname': nodeName(1) },
        terminationGracePeriodSeconds: 1,
        containers: [container],
      },
    },
    {
      ...{ apiVersion: 'v1', kind: 'Service', metadata },
      spec: {
        ...{ type: 'NodePort', selector: labels },
        ports: [{ port: serverPort, nodePort: firstNodePort + place }],
      },
    },
  ];
}
