// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Where starts of an agent fail: a node with pods that a policy names, and what must hold for them afterwards. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pinPaths } from '@tandem/datapath/paths';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { BpfFaults } from './bpf-faults.ts';
import { FakePrograms } from './fake-programs.ts';
import {
  dnsPolicy,
  manyCidrs,
  namespaceObject,
  networkPolicy,
  nodeObjects,
  podObject,
  serviceObjects,
} from './objects.ts';
import { clusterDns4, standardRules } from './standard-node.ts';
import { TandemNode } from './tandem-node.ts';

/** An address of the internet that no policy allows. */
export const otherAddress = '203.0.113.9';
const rulePriority = 9;
export const settleMs = 30_000;

export interface StartLabOptions {
  readonly withBpfFaults?: boolean;
  /** Policy of `client` allows it this many addresses beside its names. */
  readonly cidrs?: number;
  /** Options of the agent, by flag. */
  readonly options?: Readonly<Record<string, string | number>>;
}

export interface StartStage {
  readonly node: TestNode;
  readonly tandem: TandemNode;
  readonly fakes: FakePrograms;
  /** When they were asked for. */
  readonly bpf: BpfFaults | null;
}

/** Pods that policy may name. */
export type StartPod = 'client' | 'late' | 'later';

/** A node with three pods that policy may name, and a web server at every address of the internet. */
export class StartLab implements AsyncDisposable {
  readonly stage: StartStage;
  readonly #probes: Readonly<Record<StartPod, Probe>>;
  /** Number of the agent that is asked, from 1: what pods learned from one tells nothing of the next. */
  #life = 1;

  private constructor(stage: StartStage, probes: Readonly<Record<StartPod, Probe>>) {
    this.stage = stage;
    this.#probes = probes;
  }

  static async create(options: StartLabOptions = {}): Promise<StartLab> {
    const node = await createNode({
      pods: [
        { name: 'client' },
        { name: 'late', kind: 'bridge' },
        { name: 'later', kind: 'bridge' },
        { name: 'dns' },
      ],
    });
    const dns = node.pod('dns').ipv4 ?? '';
    const services = (['udp', 'tcp'] as const).map((protocol) => ({
      clusterIp: clusterDns4,
      port: 53,
      protocol,
      backends: [{ address: dns, port: 53 }],
    }));
    await node.setServices(services);
    const internet = node.own(Probe.start(node.upstream));
    await internet.listen({ protocol: 'tcp', address: '0.0.0.0', port: 80 });
    node.own(
      await DnsServer.start(node.pod('dns').namespace, { addresses: [dns], rules: standardRules }),
    );
    const probes = {
      client: node.own(Probe.start(node.pod('client').namespace)),
      late: node.own(Probe.start(node.pod('late').namespace)),
      later: node.own(Probe.start(node.pod('later').namespace)),
    };
    let fakes: FakePrograms | null = null;
    let bpf: BpfFaults | null = null;
    const tandem = await TandemNode.create(node, {
      options: options.options ?? {},
      environment: () => ({ ...fakes?.environment, ...bpf?.environment }),
    });
    fakes = new FakePrograms(tandem.directory);
    if (options.withBpfFaults === true) bpf = new BpfFaults(tandem.directory);
    tandem.write('cluster.yaml', [
      namespaceObject('default'),
      namespaceObject('kube-system'),
      ...nodeObjects(),
      ...serviceObjects('kube-dns', 'kube-system', services),
      podObject(node.pod('dns'), { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }),
    ]);
    if (options.cidrs !== undefined) {
      tandem.write('cidrs.yaml', [
        networkPolicy({
          name: 'client-cidrs',
          selects: { app: 'client' },
          egress: manyCidrs(options.cidrs),
        }),
      ]);
    }
    return new StartLab({ node, tandem, fakes, bpf }, probes);
  }

  get tandem(): TandemNode {
    return this.stage.tandem;
  }

  /** `free`: pods that no policy names. */
  writeObjects(names: readonly StartPod[], free: readonly StartPod[] = []): void {
    const { node, tandem } = this.stage;
    const wanted = [{ matchPattern: '*.allowed.test' }];
    tandem.write('pods.yaml', [
      ...names.flatMap((name) => [
        podObject(node.pod(name)),
        dnsPolicy({ name, selects: { app: name }, dns: wanted, fqdns: wanted }),
      ]),
      ...free.map((name) => podObject(node.pod(name))),
    ]);
  }

  /** Leaves the pins of an agent that enforced `client` and did not know `late`. */
  async runAndKillAgent(): Promise<void> {
    this.writeObjects(['client']);
    await this.tandem.startProcess('agent');
    await this.tandem.waitForMembers(['agent']);
    await this.tandem.kill('agent');
  }

  /** Leaves the pins of an agent that enforced `client` and `late`, and did not know `later`. */
  async killAgent(): Promise<void> {
    await this.tandem.kill('agent');
    this.#life += 1;
  }

  /** The revision that the datapath enforces; 0 while there is none. */
  revision(): number {
    return existsSync(join(this.tandem.pinRoot, 'shared', 'group'))
      ? this.tandem.appliedRevision()
      : 0;
  }

  async endedAgent(
    flags: Readonly<Record<string, string>> = {},
    onStarted: (pid: number) => void = () => undefined,
  ): Promise<{ status: number | null; stderr: string }> {
    await using running = await this.tandem.startBeside('agent', { flags });
    onStarted(running.pid);
    const { status } = await running.exited;
    return { status, stderr: running.stderr() };
  }

  /**
   * Parts of Tandem in the way of packets: links, routing rules, tables, and what it makes for pods behind a bridge,
   * permanent neighbours and sticky forwarding entries.
   */
  async leftovers(): Promise<readonly string[]> {
    const { node, tandem } = this.stage;
    const paths = pinPaths(tandem.pinRoot);
    const links = existsSync(paths.links) ? readdirSync(paths.links) : [];
    const rules = await Promise.all(
      (['-4', '-6'] as const).map((family) => node.node.ipJson([family, 'rule', 'show'])),
    );
    const ours = (rules.flat() as { readonly priority: number }[]).filter(
      ({ priority }) => priority === rulePriority,
    );
    const neighbours = (await node.node.ipJson(['neigh', 'show', 'nud', 'permanent'])) as readonly {
      readonly dst: string;
    }[];
    const forwarding = JSON.parse(
      await node.node.run('bridge', ['-j', 'fdb', 'show', 'br', plan.bridge]),
    ) as readonly { readonly mac: string; readonly flags?: readonly string[] }[];
    const sticky = forwarding.filter(({ flags = [] }) => flags.includes('sticky'));
    const tables = (await node.node.run('nft', ['list', 'tables'])).split('\n');
    return [
      ...links.map((name) => `link ${name}`),
      ...ours.map((rule) => `rule ${JSON.stringify(rule)}`),
      ...neighbours.map(({ dst }) => `neighbour ${dst}`),
      ...sticky.map(({ mac }) => `forwarding ${mac}`),
      ...tables.filter((line) => line === 'table inet tandem'),
    ];
  }

  async reaches(name: StartPod, to: string): Promise<boolean> {
    try {
      await this.#probes[name].tcp({ to, port: 80, data: 'x', want: 1, timeoutMs: 400 });
      return true;
    } catch {
      return false;
    }
  }

  async assertClosed(names: readonly StartPod[] = ['client', 'late']): Promise<void> {
    await Promise.all(
      names.map(async (name) => {
        const isOpen = await this.reaches(name, otherAddress);
        assert.equal(isOpen, false, `${name} is open: ${this.tandem.logs()}`);
      }),
    );
  }

  /** An allowed name of the pod is answered, and its address is reached then. */
  async assertAnswered(name: StartPod, timeoutMs: number = settleMs): Promise<void> {
    const question = `n-${this.#life}.allowed.test`;
    const address = `198.18.0.${this.#life}`;
    const options = { server: clusterDns4, name: question, timeoutMs: 1000 };
    await waitFor(
      async () => {
        const answer = await askDns(this.#probes[name], options).catch(() => null);
        return answer?.rcode === 'NOERROR' && (await this.reaches(name, address));
      },
      { what: `answers to ${name}: ${this.tandem.logs()}`, timeoutMs },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stage.node[Symbol.asyncDispose]();
  }
}
