// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The stage of devices.namespace.test.ts: known and unknown pods, point-to-point and on the bridge, and what is no
 * pod: another bridge with a container, a VXLAN, a veth pair of the host's own. The shipped programs are attached,
 * the known pods are endpoints without policy.
 */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Namespace } from '@tandem/testing/namespace';
import { createNode, type Pod, type TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import type { HookPlan, HookRequest } from './hook-process.ts';

const script = fileURLToPath(new URL('./hook-process.ts', import.meta.url));
export const port = 80;

export type Place =
  | 'world'
  | 'host'
  | 'ptp'
  | 'ptp2'
  | 'bridged'
  | 'bridged2'
  | 'new-ptp'
  | 'new-port'
  | 'container'
  | 'tunnel';
export type Addresses = readonly [ipv4: string, ipv6: string];
/** Where packets come from and go to: IPv4 and IPv6 address of each place. */
export const places: Readonly<Record<Place, Addresses>> = {
  world: ['203.0.113.10', '2001:db8::10'],
  host: [plan.nodeUpstream4, plan.nodeUpstream6],
  ptp: ['10.1.0.11', 'fd00:1::11'],
  ptp2: ['10.1.0.12', 'fd00:1::12'],
  bridged: ['10.1.2.11', 'fd00:1:2::11'],
  bridged2: ['10.1.2.12', 'fd00:1:2::12'],
  'new-ptp': ['10.1.0.13', 'fd00:1::13'],
  'new-port': ['10.1.2.13', 'fd00:1:2::13'],
  container: ['172.17.0.2', 'fd00:17::2'],
  tunnel: ['10.77.0.2', 'fd00:77::2'],
};

const known = ['ptp', 'ptp2', 'bridged', 'bridged2'] as const;
/** Pods bear the names of their places. */
const podSpecs = [
  { name: 'ptp' },
  { name: 'ptp2' },
  { name: 'new-ptp' },
  { name: 'bridged', kind: 'bridge' },
  { name: 'bridged2', kind: 'bridge' },
  { name: 'new-port', kind: 'bridge' },
] as const;

export class Stage implements AsyncDisposable {
  readonly node: TestNode;
  #child: ChildProcess | null = null;
  #lines: AsyncIterableIterator<string> | null = null;
  readonly #probes: ReadonlyMap<Place, Probe>;

  private constructor(node: TestNode, probes: ReadonlyMap<Place, Probe>) {
    this.node = node;
    this.#probes = probes;
  }

  /** Without the datapath: see attach(). */
  static async create(): Promise<Stage> {
    const node = await createNode({ name: 'devices', pods: podSpecs });
    const container = node.own(await Namespace.create('container'));
    await addContainer(node, container);
    await addTunnel(node);
    await node.node.ip([
      'link add hv0 type veth peer name hv1',
      'link set hv0 up',
      'link set hv1 up',
      'link add hp0 type veth peer name hp1',
      'link set hp0 up',
      'link set hp1 master docker0 up',
    ]);
    for (const pod of node.pods) await knowNeighbours(node, pod);
    return new Stage(node, await startProbes(node, container));
  }

  /** Attaches the programs; the known pods become endpoints. */
  async attach(): Promise<void> {
    const [command, args] = this.node.node.enter(process.execPath, [
      '--conditions=@tandem/source',
      script,
      JSON.stringify(await planOf(this.node)),
    ]);
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    assert.equal((await this.#lines.next()).value, '"ready"');
  }

  pod(place: Place): Pod {
    return this.node.pod(place);
  }

  probe(place: Place): Probe {
    const probe = this.#probes.get(place);
    assert.ok(probe !== undefined, place);
    return probe;
  }

  async ask(request: HookRequest): Promise<unknown> {
    assert.ok(this.#child !== null && this.#lines !== null, 'attached');
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    return JSON.parse((await this.#lines.next()).value as string);
  }

  async counters(): Promise<Record<string, number>> {
    return (await this.ask({ kind: 'counters' })) as Record<string, number>;
  }

  /** Runs `action` and waits until each of `counters` has moved; the counters that did. */
  async moving(counters: readonly string[], action: () => Promise<unknown>): Promise<Set<string>> {
    const earlier = await this.counters();
    await action();
    const moved = new Set<string>();
    await waitFor(
      async () => {
        for (const [name, value] of Object.entries(await this.counters())) {
          if (value > (earlier[name] ?? 0)) moved.add(name);
        }
        return counters.every((name) => moved.has(name));
      },
      { what: counters.join(', ') },
    );
    return moved;
  }

  /** One datagram and its answer; false without one. */
  async exchange(from: Place, to: Place, family: 4 | 6, timeoutMs: number): Promise<boolean> {
    const [address4, address6] = places[to];
    const source = places[from][family === 4 ? 0 : 1];
    const request = { to: family === 4 ? address4 : address6, port, data: 'x', timeoutMs };
    try {
      return (await this.probe(from).udp({ ...request, source })).replies.length > 0;
    } catch (error) {
      assert.match(String(error), /ETIMEDOUT|EHOSTUNREACH/);
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child !== null) {
      this.#child.stdin?.end();
      await once(this.#child, 'exit');
    }
    await this.node[Symbol.asyncDispose]();
  }
}

/** A bridge that is no CNI's, as Docker's, and a container on it. */
async function addContainer(node: TestNode, container: Namespace): Promise<void> {
  await node.node.ip([
    'link add docker0 type bridge',
    'link set docker0 up',
    'addr add 172.17.0.1/16 dev docker0',
    'addr add fd00:17::1/64 dev docker0 nodad',
    `link add vdocker type veth peer name eth0 netns ${container.name}`,
    'link set vdocker master docker0 up',
  ]);
  await container.ip([
    'link set eth0 up',
    'addr add 172.17.0.2/16 dev eth0',
    'addr add fd00:17::2/64 dev eth0 nodad',
    'route add default via 172.17.0.1',
    'route add default via fd00:17::1',
  ]);
}

async function addTunnel(node: TestNode): Promise<void> {
  const vxlan = (local: string, remote: string, device: string): string =>
    `link add vx0 type vxlan id 7 dstport 4789 local ${local} remote ${remote} dev ${device}`;
  await node.node.ip([
    vxlan(plan.nodeUpstream4, plan.upstream4, plan.upstreamUplink),
    'link set vx0 up',
    'addr add 10.77.0.1/24 dev vx0',
    'addr add fd00:77::1/64 dev vx0 nodad',
  ]);
  await node.upstream.ip([
    vxlan(plan.upstream4, plan.nodeUpstream4, 'eth0'),
    'link set vx0 up',
    'addr add 10.77.0.2/24 dev vx0',
    'addr add fd00:77::2/64 dev vx0 nodad',
    'route add 10.1.0.0/16 via 10.77.0.1 table 77',
    'route add fd00:1::/32 via fd00:77::1 table 77',
    'rule add from 10.77.0.2 table 77',
  ]);
  // of a rule's source `ip -batch` takes every family for IPv4
  await node.upstream.run('ip', ['-6', 'rule', 'add', 'from', 'fd00:77::2', 'table', '77']);
}

/**
 * New pods know the MAC of their gateway, and pods of the bridge each other's: what they say is to reach `judge`, not
 * to end at ARP and neighbour discovery.
 */
export async function knowNeighbours(node: TestNode, pod: Pod): Promise<void> {
  const isBridged = pod.kind === 'bridge';
  const others = isBridged
    ? node.pods.filter(({ kind, name }) => kind === 'bridge' && name !== pod.name)
    : [];
  const neighbours = others.flatMap(({ ipv4, ipv6, mac }) => [
    [ipv4, mac],
    [ipv6, mac],
  ]);
  const gateways = isBridged
    ? [plan.bridgeGateway4, plan.bridgeGateway6]
    : [plan.ptpGateway4, plan.ptpGateway6];
  for (const gateway of gateways) neighbours.push([gateway, pod.gatewayMac]);
  await pod.namespace.ip(
    neighbours.map(
      ([address, mac]) => `neigh replace ${address} lladdr ${mac} dev eth0 nud permanent`,
    ),
  );
}

async function planOf(node: TestNode): Promise<HookPlan> {
  const bridge = await node.ifindex(plan.bridge);
  return {
    endpoints: known.map((name, i) => {
      const pod = node.pod(name);
      const isBridged = pod.kind === 'bridge';
      return {
        addresses: [...places[name]],
        id: i + 1,
        policyId: i + 1,
        classId: 51 + i,
        ifindex: pod.hostIfindex,
        ...(isBridged ? { flags: ['BRIDGED'], l3Ifindex: bridge, macText: pod.mac } : {}),
      };
    }),
    classes: [
      [plan.bridgeGateway4, 32, 30, ['NODE', 'CLUSTER']],
      [plan.bridgeGateway6, 128, 30, ['NODE', 'CLUSTER']],
      [plan.nodeUpstream4, 32, 30, ['NODE', 'CLUSTER', 'HOST']],
      [plan.nodeUpstream6, 128, 30, ['NODE', 'CLUSTER', 'HOST']],
    ],
    policies: [],
    dnsServers: [],
    trusted: [await node.ifindex(plan.upstreamUplink), await node.ifindex(plan.remoteUplink)],
    bridges: [plan.bridge],
  };
}

async function startProbes(node: TestNode, container: Namespace): Promise<Map<Place, Probe>> {
  const upstream = node.own(Probe.start(node.upstream));
  const probes = new Map<Place, Probe>([
    ['world', upstream],
    ['tunnel', upstream],
    ['host', node.own(Probe.start(node.node))],
    ['container', node.own(Probe.start(container))],
  ]);
  for (const place of [...known, 'new-ptp', 'new-port'] as const) {
    probes.set(place, node.own(Probe.start(node.pod(place).namespace)));
  }
  for (const probe of new Set(probes.values())) {
    for (const address of ['0.0.0.0', '::']) await probe.listen({ protocol: 'udp', address, port });
  }
  return probes;
}
