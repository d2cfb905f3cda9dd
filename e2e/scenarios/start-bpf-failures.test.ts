// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Each call of bpf(2) that an agent's start makes fails in turn, or the agent is killed in its place: on a node that is
 * enforced by the pins of a killed agent, and on a fresh one. What was enforced stays enforced and what is allowed stays
 * reachable, a proxy that starts serves, a pod that no policy names is never cut off, and the next start mends everything.
 *
 * The long tier tries every call that changes something; the short one a call of a few commands. BPF_FAULTS repeats cases, or
 * all of a command: BTF_LOAD:5:EINVAL,OBJ_PIN:3:KILL,LINK_CREATE.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { exitCodes } from '@tandem/runtime/lifecycle';
import { waitFor } from '@tandem/testing/wait';
import type { BpfCommand, BpfFault, BpfFaults } from '../kit/bpf-faults.ts';
import { otherAddress, StartLab } from '../kit/start-lab.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
/** Commands of bpf(2) that change the kernel, and the opening of pins. */
const commands: readonly BpfCommand[] = [
  'BTF_LOAD',
  'MAP_CREATE',
  'MAP_FREEZE',
  'PROG_LOAD',
  'OBJ_PIN',
  'OBJ_GET',
  'MAP_UPDATE_ELEM',
  'MAP_UPDATE_BATCH',
  'LINK_CREATE',
  'LINK_UPDATE',
];
/** Opening a pin changes nothing, and there are many: of those one in so many. */
const pinsStep = 12;
type ShortCases = Partial<Record<BpfCommand, BpfFault['how']>>;
/** In the short tier: the middle call of each of these commands. */
const shortEnforced: ShortCases = {
  PROG_LOAD: 'EINVAL',
  LINK_UPDATE: 'KILL',
};
const shortFresh: ShortCases = {
  OBJ_PIN: 'KILL',
  // While the entries of a large policy are written.
  MAP_UPDATE_BATCH: 'KILL',
  LINK_CREATE: 'KILL',
};
/** Without the object's BTF the verifier walks its functions at each call of them, for half a minute, before it gives up. */
const endMs = 90_000;
/** Two rounds of the reconciliation, on a busy machine. */
const againMs = 30_000;
/** Until a proxy serves, on a busy machine. */
const startMs = 30_000;
const chosen = process.env['BPF_FAULTS'];

function parsed(text: string): BpfFault {
  const [command, nth, how] = text.split(':') as [BpfCommand, string, BpfFault['how']];
  return { command, nth: Number(nth), how };
}

/** `counts`: calls of a start without faults. */
function faultsOf(
  counts: ReturnType<BpfFaults['counts']>,
  shortCases: ShortCases,
): readonly BpfFault[] {
  const hows = (command: BpfCommand): readonly BpfFault['how'][] => [
    command === 'OBJ_PIN' || command === 'MAP_CREATE' ? 'ENOSPC' : 'EINVAL',
    'KILL',
  ];
  const allOf = (command: BpfCommand): readonly BpfFault[] => {
    const step = command === 'OBJ_GET' ? pinsStep : 1;
    const calls = Array.from(
      { length: Math.ceil(counts[command] / step) },
      (_, index) => 1 + index * step,
    );
    return calls.flatMap((nth) => hows(command).map((how) => ({ command, nth, how })));
  };
  if (chosen !== undefined) {
    return chosen
      .split(',')
      .flatMap((text) => (text.includes(':') ? [parsed(text)] : allOf(text as BpfCommand)));
  }
  if (isFull) return commands.flatMap(allOf);
  return commands.flatMap((command) => {
    const count = counts[command];
    const short = shortCases[command];
    return short === undefined || count === 0
      ? []
      : [{ command, nth: (count >> 1) + 1, how: short }];
  });
}

/** Keeps what is learned in one case for the next ones. */
const labOptions = { withBpfFaults: true, options: { 'fqdn-grace-seconds': 7200 } };

const freshOptions = { ...labOptions, cidrs: 15_000 };

function faultsOfLab(lab: StartLab): BpfFaults {
  assert.ok(lab.stage.bpf !== null);
  return lab.stage.bpf;
}

/** Until the agent has ended by the fault, or policy is in force in spite of it. */
async function settled(lab: StartLab): Promise<'ended' | 'running'> {
  const { tandem } = lab;
  const earlier = lab.revision();
  const running = await tandem.startProcess('agent');
  const isOver = (): boolean =>
    !tandem.isAlive('agent') || (lab.revision() > earlier && / running$/m.test(running.stderr()));
  await waitFor(isOver, {
    what: 'policy in force, or the end of the agent',
    timeoutMs: endMs,
  }).catch((error: Error) => {
    throw new Error(`${error.message}: ${lab.tandem.logs()}`, { cause: error });
  });
  return tandem.isAlive('agent') ? 'running' : 'ended';
}

/** A proxy that starts with the agent dead serves, and ends again. */
async function assertProxyServes(lab: StartLab): Promise<void> {
  const { tandem } = lab;
  await tandem.startProcess('proxy');
  await tandem.waitForMembers(['proxy'], startMs, { mayLag: true });
  await lab.assertAnswered('client');
  await tandem.kill('proxy');
}

async function endAgent(lab: StartLab): Promise<void> {
  if (lab.tandem.isAlive('agent')) await lab.killAgent();
}

describe('a call of bpf(2) fails in the start', () => {
  describe('on a node that is enforced', () => {
    let lab: StartLab;
    before(async () => {
      lab = await StartLab.create(labOptions);
    });
    after(async () => {
      await lab[Symbol.asyncDispose]();
    });

    test('enforcement and what is allowed outlast it, and the next start mends all', async (t) => {
      lab.writeObjects(['client']);
      await lab.tandem.startProcess('agent');
      await lab.tandem.waitForMembers(['agent']);
      await lab.assertAnswered('client');
      await lab.killAgent();
      const bpf = faultsOfLab(lab);
      bpf.set(null);
      await settled(lab);
      const counts = bpf.counts();
      await lab.assertAnswered('client');
      await endAgent(lab);
      t.diagnostic(`calls of a start: ${JSON.stringify(counts)}`);
      for (const fault of faultsOf(counts, shortEnforced)) {
        const what = `${fault.command} ${fault.nth} of ${counts[fault.command]}: ${fault.how}`;
        await t.test(what, async () => {
          try {
            bpf.set(fault);
            lab.writeObjects(['client', 'late']);
            const outcome = await settled(lab);
            if (fault.how === 'KILL') assert.equal(outcome, 'ended');
            await lab.assertClosed();
            assert.ok(
              await lab.reaches('client', '198.18.0.1'),
              `what was learned: ${lab.tandem.logs()}`,
            );
            if (outcome === 'ended' && fault.how !== 'KILL') {
              const running = lab.tandem.process('agent');
              assert.equal((await running.exited).status, exitCodes.startFailed, running.stderr());
              assert.match(
                running.stderr(),
                /the pinned programs go on enforcing policy revision \d+/,
              );
            }
            // The agent may be dead for long: what it left must do for a proxy that starts now.
            if (outcome === 'ended') await assertProxyServes(lab);
            await endAgent(lab);
            bpf.set(null);
            await settled(lab);
            await Promise.all([lab.assertAnswered('client'), lab.assertAnswered('late')]);
            await lab.assertClosed();
          } finally {
            lab.writeObjects(['client']);
            await endAgent(lab);
          }
        });
      }
    });
  });

  describe('on a fresh node, under a policy of 15,000 CIDRs', () => {
    test('nothing is half attached, and the next start enforces', async (t) => {
      const counts = await (async () => {
        await using lab = await StartLab.create(freshOptions);
        lab.writeObjects(['client', 'late']);
        await settled(lab);
        return faultsOfLab(lab).counts();
      })();
      t.diagnostic(`calls of a start: ${JSON.stringify(counts)}`);
      for (const fault of faultsOf(counts, shortFresh)) {
        const what = `${fault.command} ${fault.nth} of ${counts[fault.command]}: ${fault.how}`;
        await t.test(what, async () => {
          await using lab = await StartLab.create(freshOptions);
          const bpf = faultsOfLab(lab);
          bpf.set(fault);
          lab.writeObjects(['client', 'late'], ['later']);
          const outcome = await settled(lab);
          const logs = (): string => lab.tandem.logs();
          // A pod whose own programs could not be attached is dropped until that is tried again (reconcileIntervalMs).
          const isReached = (): Promise<boolean> => lab.reaches('later', otherAddress);
          if (outcome === 'ended') assert.ok(await isReached(), `without policy: ${logs()}`);
          else await waitFor(isReached, { what: 'a pod without policy', timeoutMs: againMs });
          if (outcome === 'running') await lab.assertClosed();
          if (outcome === 'ended' && fault.how === 'KILL') {
            // docs/operations.md: judge is attached last, and before it nothing is enforced.
            const links = await lab.leftovers();
            const isJudging = links.includes('link judge_postRouting_ipv4');
            for (const name of ['client', 'late'] as const) {
              const isOpen = await lab.reaches(name, otherAddress);
              assert.equal(isOpen, !isJudging, `${name}: ${links.join(', ')}`);
            }
          }
          if (outcome === 'ended' && fault.how !== 'KILL') {
            const running = lab.tandem.process('agent');
            const { status } = await running.exited;
            assert.equal(status, exitCodes.nothingEnforced, logs());
            assert.match(running.stderr(), /NO POLICY IS ENFORCED on this node/);
            // A DNS worker begins when the programs are loaded: port P is guarded then, which is in no packet's way.
            const isWorkers = /the DNS worker cannot start/.test(running.stderr());
            const left = (await lab.leftovers()).filter(
              (each) => !isWorkers || !each.startsWith('link guard_port'),
            );
            assert.deepEqual(left, []);
            assert.ok(await lab.reaches('client', otherAddress), 'as it says');
          }
          await endAgent(lab);
          bpf.set(null);
          await settled(lab);
          await Promise.all([lab.assertAnswered('client'), lab.assertAnswered('late')]);
          await lab.assertClosed();
          assert.ok(
            await lab.reaches('later', otherAddress),
            `a pod without policy: ${lab.tandem.logs()}`,
          );
        });
      }
    });
  });
});
