// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Each step of the agent's start fails in turn, on a fresh node and, there, once that agent was killed (in the short tier
 * only the failures that status names, and one of a kind). No pod that a policy names is open afterwards: neither one that was enforced, nor one that came while no agent
 * ran. Only a datapath that cannot be loaded ends the agent, and then it says whether anything is enforced; nothing is half
 * attached then, under a policy of 15,000 CIDRs.
 */

import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { exitCodes } from '@tandem/runtime/lifecycle';
import { Probe } from '@tandem/testing/probe';
import { run, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { waitForDegraded, waitForMended } from '../kit/admin.ts';
import { MemoryCgroup } from '../kit/memory-cgroup.ts';
import {
  otherAddress,
  StartLab,
  type StartPod,
  type StartStage,
  settleMs,
} from '../kit/start-lab.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const port = 10_053;
const mendMs = 30_000;
/** Policy of the pods whose agent cannot start. */
const large = { cidrs: 15_000 };

interface Failure {
  /** Which step fails, and how. */
  readonly what: string;
  readonly flags?: Readonly<Record<string, string | number>>;
  /** Before the agent starts; what it returns takes the failure away again. */
  readonly inject: (stage: StartStage) => Promise<() => Promise<void> | void>;
  /** In status, while the admin socket can be asked. */
  readonly degraded?: string;
  /** A pod's allowed names are answered, the failure notwithstanding. */
  readonly answers: boolean;
  /** Pins keep it from happening. */
  readonly isFreshOnly?: boolean;
  /** It is a setting: only a restart takes it away. */
  readonly isLasting?: boolean;
  /** In the long tier alone: the agent goes the same way as after another failure. */
  readonly isLikeAnother?: boolean;
}

const heal =
  ({ fakes }: StartStage): (() => void) =>
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
    isLikeAnother: true,
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
    isLikeAnother: true,
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
    isLikeAnother: true,
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
  readonly inject: (stage: StartStage) => Promise<() => Promise<void>>;
  /** Limit of its memory. */
  readonly memoryBytes?: number;
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
  {
    what: 'the memory limit leaves no room for the maps',
    memoryBytes: 96 << 20,
    inject: () => Promise.resolve(() => Promise.resolve()),
    isFreshOnly: true,
    says: /raise the memory limit of the agent, now 96 MiB \(\/sys\/fs\/cgroup\/.*\), or free memory on the node: .*ENOMEM/s,
  },
];

/** Half of a case is waiting for the next reconciliation. */
describe('a step of the start fails', { concurrency: 2 }, () => {
  for (const failure of failures) {
    if (failure.isLikeAnother === true && !isFull) continue;
    test(`${failure.what}: no pod under policy is open`, async (t) => {
      await using lab = await StartLab.create();
      const timeout = 120_000;
      await t.test('on a fresh node', { timeout }, () => startWith(lab, failure, 'late'));
      if (failure.isFreshOnly === true || (failure.degraded === undefined && !isFull)) return;
      await t.test('after a killed agent', { timeout }, async () => {
        await lab.killAgent();
        await startWith(lab, failure, 'later');
      });
    });
  }
});

/** `newcomer` is the pod that came while no agent ran. */
async function startWith(
  lab: StartLab,
  failure: Failure,
  newcomer: 'late' | 'later',
): Promise<void> {
  const { stage, tandem } = lab;
  const pods: readonly StartPod[] = ['client', 'late', ...(newcomer === 'later' ? [newcomer] : [])];
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
    await using lab = await StartLab.create(large);
    lab.writeObjects(['client', 'late']);
    const mend = await failure.inject(lab.stage);
    try {
      const { memoryBytes } = failure;
      using limit = memoryBytes === undefined ? null : new MemoryCgroup(memoryBytes);
      const { status, stderr } = await lab.endedAgent(failure.flags, (pid) => limit?.add(pid));
      assert.equal(status, exitCodes.nothingEnforced, stderr);
      assert.match(stderr, /NO POLICY IS ENFORCED on this node/);
      assert.match(stderr, failure.says ?? /./);
      // As it says: nothing half attached cuts off the pods that run.
      assert.deepEqual(await lab.leftovers(), []);
      for (const name of ['client', 'late'] as const) {
        assert.equal(await lab.reaches(name, otherAddress), true, name);
        await lab.assertAnswered(name);
      }
    } finally {
      await mend();
    }
  });

  if (failure.isFreshOnly === true) continue;
  test(`${failure.what}, after a killed agent: the pinned programs enforce on, and it says so`, async () => {
    await using lab = await StartLab.create(large);
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
