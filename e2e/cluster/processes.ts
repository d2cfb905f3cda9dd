// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Programs that go on when the command that started them has ended: recorded, and ended by what was recorded. */

import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@tandem/testing/wait';
import type { Layout } from './layout.ts';

const graceMs = 1000;
const killTimeoutMs = 10_000;

interface ProcessRecord {
  readonly pid: number;
  /** In clock ticks since boot: a pid alone may be another process by now. */
  readonly startTime: string;
}

export interface DaemonSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** Its pid. Its output is in the cluster's log directory. */
export function startDaemon(layout: Layout, { name, command, args, env }: DaemonSpec): number {
  mkdirSync(layout.processes, { recursive: true });
  mkdirSync(layout.logs, { recursive: true });
  const log = openSync(join(layout.logs, `${name}.log`), 'a');
  const options = { detached: true, env: { ...process.env, ...env } };
  const child = spawn(command, args, { ...options, stdio: ['ignore', log, log] });
  closeSync(log);
  child.on('error', () => undefined);
  child.unref();
  const { pid } = child;
  if (pid === undefined) throw new Error(`${name}: ${command} could not be started`);
  giveOurWeight(pid);
  const record: ProcessRecord = { pid, startTime: startTimeOf(pid) ?? '' };
  writeFileSync(recordOf(layout, name), JSON.stringify(record));
  return pid;
}

/** A session of its own is a group of its own for the scheduler too (sched_autogroup), which does not inherit the weight of ours. */
function giveOurWeight(pid: number): void {
  const own = '/proc/self/autogroup';
  if (!existsSync(own)) return;
  const nice = /nice (-?\d+)/.exec(readFileSync(own, 'utf8'))?.[1];
  if (nice !== undefined && nice !== '0') writeFileSync(`/proc/${pid}/autogroup`, nice);
}

export function daemonNames(layout: Layout): readonly string[] {
  if (!existsSync(layout.processes)) return [];
  return readdirSync(layout.processes)
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, -'.json'.length));
}

/** Null when it does not run. */
export function daemonPid(layout: Layout, name: string): number | null {
  const file = recordOf(layout, name);
  if (!existsSync(file)) return null;
  const { pid, startTime } = JSON.parse(readFileSync(file, 'utf8')) as ProcessRecord;
  return startTimeOf(pid) === startTime ? pid : null;
}

/** SIGTERM, and after a second SIGKILL: an API server would serve its open streams for a minute. */
export async function stopDaemon(layout: Layout, name: string): Promise<void> {
  if (send(layout, name, 'SIGTERM')) {
    const isGone = (): boolean => daemonPid(layout, name) === null;
    try {
      await waitFor(isGone, { what: `${name} to end`, timeoutMs: graceMs });
    } catch {
      await killDaemon(layout, name);
    }
  }
}

export async function killDaemon(layout: Layout, name: string): Promise<void> {
  if (!send(layout, name, 'SIGKILL')) return;
  await waitFor(() => daemonPid(layout, name) === null, {
    what: `${name} to be gone`,
    timeoutMs: killTimeoutMs,
  });
}

/** Whether there was a process to send it to. */
function send(layout: Layout, name: string, signal: NodeJS.Signals): boolean {
  const pid = daemonPid(layout, name);
  if (pid === null) return false;
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

const recordOf = (layout: Layout, name: string): string => join(layout.processes, `${name}.json`);

/** Null: no such process, or one that is only waited for. */
export function startTimeOf(pid: number): string | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // after the name, which may have spaces: state is field 3, starttime field 22
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const isZombie = fields[0] === 'Z' || fields[0] === 'X';
  return isZombie ? null : (fields[19] ?? null);
}
