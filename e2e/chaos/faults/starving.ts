// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One process gets no CPU, or a thread of it runs in circles. */

import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, runShort, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import type { ProcessName } from '../../kit/tandem-node.ts';
import { processes, type Stage } from '../stage.ts';
import type { Fault } from './fault.ts';

const starvedMs = 1000;
const blockedMs = 400;

/** Sets the scheduling of all threads of a process: only when no other thread wants to run, or as usual. */
const schedule = (pid: number, policy: '--idle' | '--other'): Promise<string> =>
  runShort('chrt', ['--all-tasks', policy, '--pid', '0', String(pid)]);

function burning(): RunningProcess {
  const tool = fileURLToPath(new URL('../../bench/native/build/burn', import.meta.url));
  return startProcess(tool, ['--percent', '100']);
}

const starved: Fault = {
  name: 'starved',
  what: `scheduled only when nobody else runs, beside a busy loop on each CPU, for ${starvedMs} ms`,
  victims: processes,
  // The busy loops starve everything else on the machine, the load and the upstream too.
  mayBeLate: true,
  inject: async (context, victim) => {
    const { pid } = context.stage.tandem.process(victim as ProcessName);
    await using burn = burning();
    await waitFor(() => burn.stdout().includes('ready'), { what: 'the busy loops' });
    await schedule(pid, '--idle');
    await delay(starvedMs);
    await schedule(pid, '--other');
    context.mark('scheduled again');
  },
};

/** Attached to a process before the load starts; the block itself comes with the fault. */
class Blocker implements AsyncDisposable {
  readonly #child: RunningProcess;
  readonly #lines: string[] = [];

  constructor(stage: Stage, victim: ProcessName, thread: 'main' | 'worker') {
    const script = fileURLToPath(new URL('./inspect-child.ts', import.meta.url));
    const args = ['--disable-warning=ExperimentalWarning', script];
    args.push(String(stage.tandem.process(victim).pid), thread);
    const command = stage.standard.node.node.enter(process.execPath, args);
    this.#child = startProcess(...command, { onLine: (line) => this.#lines.push(line) });
  }

  async seen(line: string): Promise<void> {
    await waitFor(() => this.#lines.includes(line), { what: `"${line}": ${this.#child.stderr()}` });
  }

  async block(ms: number): Promise<void> {
    this.#child.stdin.write(`${ms}\n`);
    await this.seen('over');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await this.#child.exited;
  }
}

const blockers = new WeakMap<Stage, Blocker>();

function blocked(thread: 'main' | 'worker', what: string): Fault {
  return {
    name: `${thread} blocked`,
    what: `${what} computes for ${blockedMs} ms`,
    victims: processes,
    prepare: async (stage, victim) => {
      const blocker = new Blocker(stage, victim as ProcessName, thread);
      await blocker.seen('ready');
      blockers.set(stage, blocker);
      return blocker;
    },
    inject: async (context) => {
      await blockers.get(context.stage)?.block(blockedMs);
      context.mark('goes on');
    },
  };
}

export const starving: readonly Fault[] = [
  starved,
  blocked('worker', 'the event loop that serves DNS'),
  blocked('main', 'the main event loop'),
];
