// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pods with addresses of both families: a policy of names and a NetworkPolicy hold over each of them, with agents and, for names,
 * without; a name that was asked for in one family opens nothing in the other.
 */

import { formatAddress } from '@tandem/core/net/ip';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { type Inside, ProbeError } from '@tandem/testing/probe-process';
import { waitFor } from '@tandem/testing/wait';
import { endpointsOf } from '../../kit/admin.ts';
import { inControlPlane } from '../control-plane.ts';
import { applyObjects, kubectl } from '../kubectl.ts';
import {
  dnsServiceAddress,
  ipv6,
  nodeName,
  worldApiAddress,
  worldCidr,
  worldNewAddress,
  worldNewNumberMax,
  worldWwwAddress,
} from '../layout.ts';
import { nodeInitPid } from '../node.ts';
import { agentsAreBack, agentsCannotStart } from './agents.ts';
import { talkerPid } from './talkers.ts';
import { type Trial, trialNamespace } from './trial.ts';

const serverPort = 8080;
/** Longer than the kernel takes to send a SYN again: one packet that is lost is no denial. */
const connectTimeoutMs = 2500;
const endpointsTimeoutMs = 20_000;

interface Family {
  readonly name: 'IPv4' | 'IPv6';
  readonly type: 'A' | 'AAAA';
  readonly dns: string;
  readonly api: string;
  readonly www: string;
  readonly newAddress: (number: number) => string;
  readonly worldCidr: string;
}

const families: readonly Family[] = [
  {
    ...{ name: 'IPv4', type: 'A', dns: dnsServiceAddress, worldCidr },
    ...{ api: worldApiAddress, www: worldWwwAddress, newAddress: worldNewAddress },
  },
  {
    ...{ name: 'IPv6', type: 'AAAA', dns: ipv6.dnsServiceAddress, worldCidr: ipv6.worldCidr },
    ...{ api: ipv6.worldApiAddress, www: ipv6.worldWwwAddress, newAddress: ipv6.worldNewAddress },
  },
];
const otherThan = (family: Family): Family => families.find((each) => each !== family) as Family;
const isOf = (family: Family, address: string): boolean =>
  address.includes(':') === (family.name === 'IPv6');

export async function bothFamilies(trial: Trial): Promise<void> {
  if (!trial.config.isDualStack) throw new Error('trial families needs a cluster of --dual-stack');
  await using pods = new Pods(trial);
  const { steps } = trial;
  steps.title('Pods with addresses of both families');
  await steps.step('a client on each node, a server, and one who is no client', () => pods.start());
  for (const name of pods.clients) {
    await steps.step(`${name}: the agent knows both of its addresses at one interface`, () =>
      pods.checkEndpoints(name),
    );
  }
  steps.title('A NetworkPolicy');
  for (const family of families) await pods.checkServer(family);
  steps.title('A policy of names');
  for (const family of families) await pods.checkNames(family);
  steps.title('A policy of names, while no agent runs');
  await steps.step('no agent runs', async () => {
    await agentsCannotStart(trial);
    return '';
  });
  for (const family of families) await pods.checkNames(family);
  await steps.step('the agents are back', async () => {
    await agentsAreBack(trial);
    return '';
  });
}

class Pods implements AsyncDisposable {
  readonly clients: readonly string[];
  readonly #trial: Trial;
  readonly #probes = new Map<string, Probe>();
  readonly #addresses = new Map<string, readonly string[]>();
  #services: readonly string[] = [];
  #nextName = firstNumber();

  constructor(trial: Trial) {
    this.#trial = trial;
    this.clients = trial.nodeNames.map((node) => `client-${node}`);
  }

  async start(): Promise<string> {
    const { layout } = this.#trial;
    await applyObjects(layout, objects);
    for (const [place, node] of this.#trial.nodeNames.entries()) {
      await this.#startPod(this.clients[place] ?? '', node, 'client');
    }
    await this.#startPod('server', nodeName(1), 'server');
    await this.#startPod('other', nodeName(1), 'other');
    for (const address of ['0.0.0.0', '::']) {
      await this.#probe('server').listen({ protocol: 'tcp', address, port: serverPort });
    }
    const outside: Inside = {
      enter: (command, args = []) => inControlPlane(layout, command, args),
    };
    this.#probes.set('outside', Probe.start(outside));
    const query = ['get', 'service', 'server', '-o', 'jsonpath={.spec.clusterIPs[*]}'];
    this.#services = (await kubectl(layout, ['-n', trialNamespace, ...query])).split(' ');
    return [...this.#addresses].map(([name, all]) => `${name} ${all.join(' and ')}`).join(', ');
  }

  async #startPod(name: string, node: string, app: string): Promise<void> {
    const { layout } = this.#trial;
    await this.#trial.startTalker(name, { node, targets: [] }, app);
    const query = ['get', 'pod', name, '-o', 'jsonpath={.status.podIPs[*].ip}'];
    const addresses = (await kubectl(layout, ['-n', trialNamespace, ...query])).split(' ');
    if (addresses.length !== 2) throw new Error(`${name} has ${addresses.join(', ')}`);
    this.#addresses.set(name, addresses);
    const inPod = ['--target', `${await talkerPid(layout, name)}`, '--net'];
    const enter: Inside['enter'] = (command, args = []) => [
      'nsenter',
      [...inPod, command, ...args],
    ];
    this.#probes.set(name, Probe.start({ enter }));
  }

  async checkEndpoints(name: string): Promise<string> {
    const index = this.clients.indexOf(name) + 1;
    const pid = await nodeInitPid(this.#trial.layout, index);
    const node = { runDirectory: `/proc/${pid}/root/run/tandem` };
    const wanted = [...(this.#addresses.get(name) ?? [])].toSorted().join(' ');
    const isKnown = async (): Promise<string | null> => {
      const entries = await endpointsOf(node, 'agent', `${trialNamespace}/${name}`);
      const found = entries.map(({ address }) => formatAddress(address)).toSorted();
      const interfaces = new Set(entries.map((entry) => entry.vethName));
      if (found.join(' ') !== wanted || interfaces.size !== 1) return null;
      return `${found.join(' and ')} at ${[...interfaces].join(' ')}`;
    };
    return waitFor(isKnown, { what: `${name} with ${wanted}`, timeoutMs: endpointsTimeoutMs });
  }

  async checkServer(family: Family): Promise<void> {
    const { steps } = this.#trial;
    const server = this.#address('server', family);
    const service = this.#services.find((address) => isOf(family, address)) ?? '';
    for (const client of this.clients) {
      await steps.step(
        `${family.name}: ${client} reaches the server, by its Service too`,
        async () => {
          await this.#expect(client, server, serverPort, true);
          await this.#expect(client, service, serverPort, true);
          return `${server}, ${service}`;
        },
      );
    }
    await steps.step(`${family.name}: who is no client does not`, async () => {
      await this.#expect('other', server, serverPort, false);
      await this.#expect('other', service, serverPort, false);
      return '';
    });
    await steps.step(
      `${family.name}: the block of the outside does, its exception not`,
      async () => {
        await this.#expect('outside', server, serverPort, true, family.api);
        await this.#expect('outside', server, serverPort, false, family.www);
        return `${family.api}, ${family.www}`;
      },
    );
  }

  async checkNames(family: Family): Promise<void> {
    const { steps } = this.#trial;
    const other = otherThan(family);
    for (const client of this.clients) {
      const number = this.#nextName++;
      const name = `new-${number}.example.com`;
      const address = family.newAddress(number);
      await steps.step(`${family.name}: ${client} reaches ${name} once it has asked`, async () => {
        await this.#expect(client, address, 80, false);
        await this.#ask(client, family, name, [address]);
        await this.#expect(client, address, 80, true);
        await this.#expect(client, other.newAddress(number), 80, false);
        return `${address}; not ${other.newAddress(number)}, which it did not ask for`;
      });
      await steps.step(`${family.name}: ${client} does not reach www.example.com`, async () => {
        await this.#ask(client, family, 'www.example.com', null);
        await this.#expect(client, family.www, 80, false);
        return `REFUSED; ${family.www}`;
      });
    }
  }

  /** @throws Error when the answer has other addresses; null: when it is not refused */
  async #ask(
    client: string,
    { dns, type }: Family,
    name: string,
    expected: readonly string[] | null,
  ): Promise<void> {
    const reply = await askDns(this.#probe(client), { server: dns, name, type });
    const seen = reply.rcode === 'NOERROR' ? reply.addresses.join(', ') : reply.rcode;
    if (seen !== (expected?.join(', ') ?? 'REFUSED')) throw new Error(`${name}: ${seen}`);
  }

  async #expect(
    client: string,
    to: string,
    port: number,
    mayPass: boolean,
    source?: string,
  ): Promise<void> {
    const options = { to, port, timeoutMs: connectTimeoutMs };
    const passed = await this.#probe(client)
      .tcp(source === undefined ? options : { ...options, source })
      .then(() => true)
      .catch((error: unknown) => {
        if (error instanceof ProbeError && error.code === 'ETIMEDOUT') return false;
        throw error;
      });
    if (passed === mayPass) return;
    const from = source === undefined ? client : source;
    throw new Error(`${from} ${passed ? 'reached' : 'did not reach'} ${to} port ${port}`);
  }

  #probe(name: string): Probe {
    const found = this.#probes.get(name);
    if (found === undefined) throw new Error(`${name} was not started`);
    return found;
  }

  #address(name: string, family: Family): string {
    return this.#addresses.get(name)?.find((address) => isOf(family, address)) ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const probe of this.#probes.values()) await probe[Symbol.asyncDispose]();
  }
}

/**
 * Numbers of names that no recent run has resolved: an address stays in use for ten minutes (docs/adr/0010-addresses-in-use.md).
 * The demo takes the first numbers, and another run most likely takes others.
 */
function firstNumber(): number {
  const demoNumbersMax = 30;
  const namesMax = 12;
  const sets = Math.floor((worldNewNumberMax - demoNumbersMax) / namesMax);
  return demoNumbersMax + 1 + namesMax * (Math.floor(Date.now() / 1000) % sets);
}

const metadataOf = (name: string): object => ({ name, namespace: trialNamespace });
const names = [{ matchName: 'api.example.com' }, { matchPattern: 'new-*.example.com' }];
const dnsPods = {
  'k8s:io.kubernetes.pod.namespace': 'kube-system',
  'k8s:k8s-app': 'kube-dns',
};

const objects: readonly object[] = [
  {
    ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata: metadataOf('client') },
    spec: {
      endpointSelector: { matchLabels: { app: 'client' } },
      egress: [
        {
          toEndpoints: [{ matchLabels: dnsPods }],
          toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: names } }],
        },
        { toFQDNs: names, toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
        { toEndpoints: [{ matchLabels: { app: 'server' } }] },
      ],
    },
  },
  {
    ...{
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: metadataOf('server'),
    },
    spec: {
      podSelector: { matchLabels: { app: 'server' } },
      policyTypes: ['Ingress'],
      ingress: [
        {
          from: [
            { podSelector: { matchLabels: { app: 'client' } } },
            ...families.map((family) => ({
              ipBlock: {
                cidr: family.worldCidr,
                except: [`${family.www}/${family.name === 'IPv4' ? 32 : 128}`],
              },
            })),
          ],
          ports: [{ protocol: 'TCP', port: serverPort }],
        },
      ],
    },
  },
  {
    ...{ apiVersion: 'v1', kind: 'Service', metadata: metadataOf('server') },
    spec: {
      ...{ ipFamilyPolicy: 'RequireDualStack', selector: { app: 'server' } },
      ports: [{ port: serverPort }],
    },
  },
];
