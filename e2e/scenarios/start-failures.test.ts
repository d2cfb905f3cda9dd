// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Each step of the agent's start fails in turn, on a fresh node and, there, once that agent was killed. No pod
 * that a policy names is open afterwards: neither one that was enforced, nor one that came while no agent
 * ran. Only a datapath that cannot be loaded ends the agent, and then it says whether anything is enforced.
 */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { pinPaths } from '@tandem/datapath/paths';
import { exitCodes } from '@tandem/runtime/lifecycle';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { createNode, type TestNode } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { run, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { waitForDegraded, waitForMended } from '../kit/admin.ts';
import { FakePrograms } from '../kit/fake-programs.ts';
import {
  dnsPolicy,
  namespaceObject,
  nodeObjects,
  podObject,
  serviceObjects,
} from '../kit/objects.ts';
import { clusterDns4, standardRules } from '../kit/standard-node.ts';
import { TandemNode } from '../kit/tandem-node.ts';

const other = '203.0.113.9';
const port = 10_053;
const rulePriority = 9;
const settleMs = 30_000;
const mendMs = 30_000;

interface Stage {
  readonly node: TestNode;
  readonly tandem: TandemNode;
  readonly fakes: FakePrograms;
}

interface Failure {
  /** Which step fails, and how. */
  readonly what: string;
  readonly flags?: Readonly<Record<string, string | number>>;
  /** Before the agent starts; what it returns takes the failure away again. */
  readonly inject: (stage: Stage) => Promise<() => Promise<void> | void>;
  /** In status, while the admin socket can be asked. */
  readonly degraded?: string;
  /** A pod's allowed names are answered, the failure notwithstanding. */
  readonly answers: boolean;
  /** What is pinned keeps it from happening. */
  readonly isFreshOnly?: boolean;
  /** It is a setting: only a restart takes it away. */
  readonly isLasting?: boolean;
}

const heal =
  ({ fakes }: Stage): (() => void) =>
  () =>
    fakes.heal();

/** A file where a directory should be: no directory can be made there, by root either. */
function block(path: string): () => void {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { recursive: true, force: true });
  writeFileSync(path, '');
  return () => rmSync(path);
}

/** A directory with something in it where a socket should be. */
function occupy(path: string): () => void {
  rmSync(path, { force: true });
  mkdirSync(join(path, 'occupied'), { recursive: true });
  return () => rmSync(path, { recursive: true });
}

function programFails(program: string): Failure['inject'] {
  return async (stage) => {
    stage.fakes.fail(program);
    return heal(stage);
  };
}

const failures: readonly Failure[] = [
  {
    what: 'the loopback interface is down, so that routes over it are refused',
    inject: async ({ node }) => {
      await node.node.ip(['link set lo down']);
      return () => node.node.ip(['link set lo up']);
    },
    degraded: 'network-rules',
    answers: false,
  },
  { what: 'nft fails', inject: programFails('nft'), degraded: 'network-rules', answers: true },
  {
    what: 'port P is taken',
    inject: async ({ node }) => {
      const probe = await Probe.start(node.node);
      await probe.listen({ protocol: 'udp', address: '0.0.0.0', port });
      return () => probe[Symbol.asyncDispose]();
    },
    degraded: 'listeners-closed',
    answers: false,
    isFreshOnly: true,
  },
  {
    what: 'the run directory cannot be made',
    inject: async ({ tandem }) => block(tandem.runDirectory),
    answers: true,
  },
  {
    what: 'the state directory cannot be made',
    inject: async ({ tandem }) => block(tandem.stateDirectory),
    degraded: 'snapshot-not-written',
    answers: true,
  },
  {
    what: 'the snapshot is garbage',
    inject: async ({ tandem }) => {
      mkdirSync(tandem.stateDirectory, { recursive: true });
      writeFileSync(join(tandem.stateDirectory, 'policy.snapshot'), 'garbage');
      return () => undefined;
    },
    answers: true,
  },
  {
    what: 'the sync socket cannot be made',
    inject: async ({ tandem }) => occupy(join(tandem.runDirectory, 'agent-sync.sock')),
    degraded: 'sync-unavailable',
    answers: true,
  },
  {
    what: 'the admin socket cannot be made',
    inject: async ({ tandem }) => occupy(join(tandem.runDirectory, 'agent-admin.sock')),
    answers: true,
  },
  {
    what: 'the link of the members cannot listen',
    inject: async ({ tandem }) => occupy(join(tandem.runDirectory, 'peer.sock')),
    answers: true,
  },
  {
    what: 'the metrics port is taken',
    flags: { 'metrics-address': '127.0.0.1:19100' },
    inject: async ({ node }) => {
      const probe = await Probe.start(node.node);
      await probe.listen({ protocol: 'tcp', address: '127.0.0.1', port: 19_100 });
      return () => probe[Symbol.asyncDispose]();
    },
    degraded: 'metrics-unavailable',
    answers: true,
  },
  {
    what: 'the path of cgroup v2 is none',
    flags: { 'cgroup-path': '/tmp' },
    inject: async () => () => undefined,
    degraded: 'port-unguarded',
    answers: true,
    isFreshOnly: true,
    isLasting: true,
  },
];

interface FatalFailure {
  readonly what: string;
  readonly flags?: Readonly<Record<string, string>>;
  readonly inject: (stage: Stage) => Promise<() => Promise<void>>;
  /** Not tried on a node with pins. */
  readonly isFreshOnly?: boolean;
  /** In the message. */
  readonly says?: RegExp;
}

const fatalFailures: readonly FatalFailure[] = [
  {
    what: 'the BPF object is missing',
    flags: { 'bpf-object': '/absent.bpf.o' },
    inject: () => Promise.resolve(() => Promise.resolve()),
  },
  {
    what: 'no bpffs is mounted at bpffsDir',
    flags: { 'bpffs-dir': '/proc/tandem' },
    isFreshOnly: true,
    inject: () => Promise.resolve(() => Promise.resolve()),
    says: /lies in no bpffs, so nothing can be pinned: mkdir -p \/proc\/tandem && mount -t bpf bpf/,
  },
  {
    what: 'the bpffs is read-only',
    isFreshOnly: true,
    inject: async ({ tandem }) => {
      mkdirSync(tandem.pinRoot, { recursive: true });
      await run('mount', ['--bind', tandem.pinRoot, tandem.pinRoot]);
      await run('mount', ['-o', 'remount,bind,ro', tandem.pinRoot]);
      return async () => {
        await tryRun('umount', [tandem.pinRoot]);
      };
    },
  },
];

type Name = 'client' | 'late' | 'later';

/** A node with three pods that policy may name, and a web server at every address of the internet. */
class Lab implements AsyncDisposable {
  readonly stage: Stage;
  readonly #probes: Readonly<Record<Name, Probe>>;
  /** Of the agents that are asked, from 1: what pods learned from one tells nothing of the next. */
  #life = 1;

  private constructor(stage: Stage, probes: Readonly<Record<Name, Probe>>) {
    this.stage = stage;
    this.#probes = probes;
  }

  static async create(): Promise<Lab> {
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
    const tandem = await TandemNode.create(node, {
      environment: () => fakes?.environment ?? {},
    });
    fakes = new FakePrograms(tandem.directory);
    tandem.write('cluster.yaml', [
      namespaceObject('default'),
      namespaceObject('kube-system'),
      ...nodeObjects(),
      ...serviceObjects('kube-dns', 'kube-system', services),
      podObject(node.pod('dns'), { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }),
    ]);
    return new Lab({ node, tandem, fakes }, probes);
  }

  get tandem(): TandemNode {
    return this.stage.tandem;
  }

  writeObjects(names: readonly Name[]): void {
    const { node, tandem } = this.stage;
    const wanted = [{ matchPattern: '*.allowed.test' }];
    tandem.write(
      'pods.yaml',
      names.flatMap((name) => [
        podObject(node.pod(name)),
        dnsPolicy({ name, selects: { app: name }, dns: wanted, fqdns: wanted }),
      ]),
    );
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
  ): Promise<{ status: number | null; stderr: string }> {
    await using running = await this.tandem.startBeside('agent', { flags });
    const { status } = await running.exited;
    return { status, stderr: running.stderr() };
  }

  /** What of ours is in the way of packets: links, routing rules, tables. */
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
    const tables = (await node.node.run('nft', ['list', 'tables'])).split('\n');
    return [
      ...links.map((name) => `link ${name}`),
      ...ours.map((rule) => `rule ${JSON.stringify(rule)}`),
      ...tables.filter((line) => line === 'table inet tandem'),
    ];
  }

  async reaches(name: Name, to: string): Promise<boolean> {
    try {
      await this.#probes[name].tcp({ to, port: 80, data: 'x', want: 1, timeoutMs: 400 });
      return true;
    } catch {
      return false;
    }
  }

  async assertClosed(names: readonly Name[] = ['client', 'late']): Promise<void> {
    await Promise.all(
      names.map(async (name) => {
        const isOpen = await this.reaches(name, other);
        assert.equal(isOpen, false, `${name} is open: ${this.tandem.logs()}`);
      }),
    );
  }

  /** An allowed name of the pod is answered, and its address is reached then. */
  async assertAnswered(name: Name, timeoutMs = settleMs): Promise<void> {
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

/** Half of a case is waiting for the next reconciliation. */
describe('a step of the start fails', { concurrency: 2 }, () => {
  for (const failure of failures) {
    test(`${failure.what}: no pod under policy is open`, async (t) => {
      await using lab = await Lab.create();
      const timeout = 120_000;
      await t.test('on a fresh node', { timeout }, () => startWith(lab, failure, 'late'));
      if (failure.isFreshOnly === true) return;
      await t.test('after a killed agent', { timeout }, async () => {
        await lab.killAgent();
        await startWith(lab, failure, 'later');
      });
    });
  }
});

/** `newcomer` is the pod that came while no agent ran. */
async function startWith(lab: Lab, failure: Failure, newcomer: 'late' | 'later'): Promise<void> {
  const { stage, tandem } = lab;
  const pods: readonly Name[] = ['client', 'late', ...(newcomer === 'later' ? [newcomer] : [])];
  const mend = await failure.inject(stage);
  lab.writeObjects(pods);
  const before = lab.revision();
  await tandem.startProcess('agent', { flags: failure.flags ?? {} });
  await waitFor(() => lab.revision() > before, {
    what: 'policy in force',
    timeoutMs: settleMs,
  });
  await lab.assertClosed(pods);
  assert.ok(tandem.isAlive('agent'), tandem.logs());
  if (failure.degraded !== undefined) await waitForDegraded(tandem, 'agent', failure.degraded);
  if (failure.answers) await lab.assertAnswered('client');
  await mend();
  await Promise.all([lab.assertAnswered('client', mendMs), lab.assertAnswered(newcomer, mendMs)]);
  await lab.assertClosed(pods);
  if (failure.degraded === undefined || failure.isLasting === true) return;
  await waitForMended(tandem, 'agent', failure.degraded);
}

for (const failure of fatalFailures) {
  test(`${failure.what}, on a fresh node: the exit code and the message say that nothing is enforced`, async () => {
    await using lab = await Lab.create();
    lab.writeObjects(['client', 'late']);
    const mend = await failure.inject(lab.stage);
    try {
      const { status, stderr } = await lab.endedAgent(failure.flags);
      assert.equal(status, exitCodes.nothingEnforced, stderr);
      assert.match(stderr, /NO POLICY IS ENFORCED on this node/);
      assert.match(stderr, failure.says ?? /./);
      // As it says: nothing half attached cuts off the pods that run.
      assert.deepEqual(await lab.leftovers(), []);
      for (const name of ['client', 'late'] as const) {
        assert.equal(await lab.reaches(name, other), true, name);
        await lab.assertAnswered(name);
      }
    } finally {
      await mend();
    }
  });

  if (failure.isFreshOnly === true) continue;
  test(`${failure.what}, after a killed agent: the pinned programs enforce on, and it says so`, async () => {
    await using lab = await Lab.create();
    await lab.runAndKillAgent();
    lab.writeObjects(['client', 'late']);
    const mend = await failure.inject(lab.stage);
    try {
      const { status, stderr } = await lab.endedAgent(failure.flags);
      assert.equal(status, exitCodes.startFailed, stderr);
      assert.match(stderr, /the pinned programs go on enforcing policy revision \d+/);
      await lab.assertClosed();
    } finally {
      await mend();
    }
  });
}
