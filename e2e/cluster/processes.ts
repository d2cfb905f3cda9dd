// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Programs of the cluster that go on when the command that started them has ended. */

import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { logDirectory, prefix } from './settings.ts';

export const controlPlaneNamespace: string = `${prefix}-cp`;

/** Starts `command` in a network namespace, its output in a log of its name; gives the pid. */
export function startDetached(
  name: string,
  namespace: string,
  command: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): number {
  mkdirSync(logDirectory, { recursive: true });
  const log = openSync(join(logDirectory, `${name}.log`), 'a');
  const child = spawn('nsenter', [`--net=/run/netns/${namespace}`, ...command], {
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, ...environment },
  });
  child.unref();
  if (child.pid === undefined) throw new Error(`${name} could not be started`);
  return child.pid;
}

/** Runs a command in a network namespace to its end. */
export function runIn(namespace: string, ...command: readonly string[]): string {
  return execFileSync('nsenter', [`--net=/run/netns/${namespace}`, ...command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Commands of ip -batch. */
export function ipIn(namespace: string, ...commands: readonly string[]): void {
  execFileSync('nsenter', [`--net=/run/netns/${namespace}`, 'ip', '-batch', '-'], {
    input: `${commands.join('\n')}\n`,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
}

export function isAlive(pid: number): boolean {
  try {
    // A process that ended and was not waited for is there still.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** SIGTERM, and SIGKILL when that does not end it within `graceMs`. */
export async function endProcess(pid: number, graceMs = 2000): Promise<void> {
  for (const [signal, waitMs] of [
    ['SIGTERM', graceMs],
    ['SIGKILL', 5000],
  ] as const) {
    try {
      process.kill(pid, signal);
    } catch {
      return;
    }
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    if (await until(() => !isAlive(pid), waitMs)) return;
  }
}

/** Whether `condition` came true in time. An error of it counts as not yet. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  do {
    try {
      // oxlint-disable-next-line no-await-in-loop -- polling
      if (await condition()) return true;
    } catch {
      // Not yet.
    }
    // oxlint-disable-next-line no-await-in-loop
    await delay(100);
  } while (performance.now() < deadline);
  return false;
}
