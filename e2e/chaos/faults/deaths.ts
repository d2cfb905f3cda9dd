// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Deaths and hangs of one process, of both, and of the one that stands in for the other. */

import { setTimeout as delay } from 'node:timers/promises';
import type { ProcessName } from '../../kit/tandem-node.ts';
import type { RunContext } from '../run.ts';
import { otherOf, processes } from '../stage.ts';
import { usualDelayMs } from '../upstream.ts';
import type { Fault } from './fault.ts';

const bothStoppedMs = 300;
/** The upstream's delay when both die: so many queries are in flight then. */
const heldMs = 300;
/** Queries received so shortly before both die may be unread; they end with the sockets, which no process holds any more. */
const unreadMs = 50;
/** A stopped member is left out after 100 ms: within this its work is being taken over. */
const takeoverMs = { from: 95, to: 140 } as const;
const secondFaultMs = 300;

async function restart(context: RunContext, name: ProcessName): Promise<void> {
  context.restarted(await context.stage.restart(name));
}

/**
 * No process runs between the deaths and the first member that serves again; what was asked before, which
 * is much because the upstream is slow just then, must be answered all the same.
 */
async function killBoth(context: RunContext): Promise<void> {
  const { tandem, upstream } = context.stage;
  await upstream.setDelay(heldMs);
  await delay(heldMs - usualDelayMs);
  context.mark('both die');
  await context.silent(unreadMs, async () => {
    await Promise.all(processes.map((name) => tandem.kill(name)));
    for (const name of processes) await tandem.startProcess(name);
    const started = performance.now();
    await Promise.race(processes.map((name) => tandem.waitForMembers([name])));
    context.restarted(performance.now() - started);
  });
  await upstream.setDelay(usualDelayMs);
  await tandem.waitForMembers(processes);
}

/** Two that are told to end at once: one must wait until the other is back. */
async function terminateBoth(context: RunContext): Promise<void> {
  const { stage } = context;
  for (const name of processes) stage.tandem.signal(name, 'SIGTERM');
  const first = await Promise.race(
    processes.map(async (name) => {
      await stage.ended(name);
      return name;
    }),
  );
  context.mark(`${first} ended`);
  await restart(context, first);
  await stage.ended(otherOf(first));
  context.mark(`${otherOf(first)} ended`);
  await restart(context, otherOf(first));
}

async function stopBoth(context: RunContext): Promise<void> {
  const { stage } = context;
  for (const name of processes) stage.tandem.signal(name, 'SIGSTOP');
  await delay(bothStoppedMs);
  for (const name of processes) stage.tandem.signal(name, 'SIGCONT');
  context.mark('SIGCONT');
}

/** The survivor dies with the other's work in its hands; the other comes back. */
async function killSurvivor(context: RunContext, victim: string): Promise<void> {
  const { tandem, random } = context.stage;
  const name = victim as ProcessName;
  tandem.signal(name, 'SIGSTOP');
  await delay(random.between(takeoverMs.from, takeoverMs.to));
  context.mark('SIGKILL of the other');
  await tandem.kill(otherOf(name));
  tandem.signal(name, 'SIGCONT');
  context.mark('SIGCONT');
}

/** The survivor hangs as soon as it knows of the other's death. */
async function stopSurvivor(context: RunContext, victim: string): Promise<void> {
  const { tandem, random } = context.stage;
  const name = victim as ProcessName;
  await tandem.kill(name);
  await delay(random.between(0, 20));
  context.mark('SIGSTOP of the other');
  tandem.signal(otherOf(name), 'SIGSTOP');
  await delay(secondFaultMs);
  tandem.signal(otherOf(name), 'SIGCONT');
  context.mark('SIGCONT');
}

export const deaths: readonly Fault[] = [
  {
    name: 'SIGKILL and restart',
    what: 'killed, and started again at once',
    victims: processes,
    inject: async (context, victim) => {
      await context.stage.tandem.kill(victim as ProcessName);
      await restart(context, victim as ProcessName);
    },
  },
  {
    name: 'both SIGKILL',
    what: 'both killed at once and started again; silence until the first serves',
    victims: ['both'],
    mayBeLate: true,
    inject: killBoth,
  },
  {
    name: 'both SIGTERM',
    what: 'both told to end at once and started again: one waits for the other',
    victims: ['both'],
    inject: terminateBoth,
  },
  {
    name: 'both SIGSTOP',
    what: `both stopped for ${bothStoppedMs} ms`,
    victims: ['both'],
    inject: stopBoth,
  },
  {
    name: 'survivor SIGKILL',
    what: 'stopped, and the other killed while it takes over; the first goes on then',
    victims: processes,
    inject: killSurvivor,
  },
  {
    name: 'survivor SIGSTOP',
    what: `killed, and the other stopped for ${secondFaultMs} ms while it takes over`,
    victims: processes,
    inject: stopSurvivor,
  },
];
