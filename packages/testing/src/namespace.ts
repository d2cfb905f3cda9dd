// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Network namespaces named td<pid in base 36>-<number>-<what>, so that test processes do not meet and
 * what a killed one left can be told by its dead pid and removed.
 */

import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isProcessAlive, runShort, tryRun } from './process.ts';

const directory = '/run/netns';
const ownedName = /^td([0-9a-z]+)-(\d+|unbound)-/;

/** "td<pid>-": the start of the name of everything that this process makes on the machine. */
export const ownPrefix: string = `td${process.pid.toString(36)}-`;

/** False with `ipv6.disable=1`: there what belongs to IPv6 is left out. */
export const hasIpv6: boolean = existsSync('/proc/sys/net/ipv6');
/** Whether a command has an IPv6 address; a MAC address has no two colons in a row. */
const isIpv6 = (command: string): boolean => command.includes('::');

let nextNumber = 0;
let cleaned: Promise<unknown> | null = null;

export class Namespace implements AsyncDisposable {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  /** Makes a namespace with `lo` up. The first one of a process removes what dead processes left. */
  static async create(what: string): Promise<Namespace> {
    cleaned ??= cleanupLeftovers();
    await cleaned;
    const namespace = new Namespace(`${ownPrefix}${nextNumber++}-${what}`);
    await runShort('ip', ['netns', 'add', namespace.name]);
    await namespace.ip(['link set lo up']);
    return namespace;
  }

  get path(): string {
    return `${directory}/${this.name}`;
  }

  /** The command line that runs `command` inside. `ip netns exec` would hide /sys/fs/bpf. */
  enter(command: string, args: readonly string[] = []): [string, string[]] {
    return ['nsenter', [`--net=${this.path}`, command, ...args]];
  }

  /** Runs a short command inside and returns its output. */
  async run(command: string, args: readonly string[], input = ''): Promise<string> {
    return runShort(...this.enter(command, args), input);
  }

  /** Runs `ip` commands, each without the word "ip", in one process; addresses tell the family. */
  async ip(commands: readonly string[]): Promise<void> {
    const possible = hasIpv6 ? commands : commands.filter((command) => !isIpv6(command));
    await runShort('ip', ['-n', this.name, '-batch', '-'], `${possible.join('\n')}\n`);
  }

  async ipJson(args: readonly string[]): Promise<unknown> {
    return JSON.parse(await runShort('ip', ['-n', this.name, '-j', ...args]));
  }

  /** Sets sysctls of this namespace; net.* alone are per namespace. */
  async sysctl(values: Readonly<Record<string, number | string>>): Promise<void> {
    for (const key of Object.keys(values)) {
      if (!key.startsWith('net.')) throw new TypeError(`${key} is not a sysctl of a namespace`);
    }
    const settings = Object.entries(values)
      .filter(([key]) => hasIpv6 || !key.startsWith('net.ipv6.'))
      .map(([key, value]) => `${key}=${value}`);
    if (settings.length === 0) return;
    await this.run('sysctl', ['-qw', ...settings]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await tryRun('ip', ['netns', 'del', this.name]);
  }
}

/** Removes namespaces and temporary directories of test processes that no longer run; their names. */
export async function cleanupLeftovers(): Promise<string[]> {
  const removed: string[] = [];
  for (const name of listNames(directory).filter(isLeftover)) {
    await tryRun('ip', ['netns', 'del', name]);
    removed.push(name);
  }
  for (const name of listNames(tmpdir()).filter(isLeftover)) {
    await unmountBelow(join(tmpdir(), name));
    rmSync(join(tmpdir(), name), { recursive: true, force: true });
    removed.push(name);
  }
  return removed;
}

async function unmountBelow(parent: string): Promise<void> {
  const points = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point.startsWith(`${parent}/`));
  for (const point of points.toReversed()) await tryRun('umount', [point]);
}

function isLeftover(name: string): boolean {
  const pid = Number.parseInt(ownedName.exec(name)?.[1] ?? '', 36);
  if (!Number.isInteger(pid)) return false;
  // What bears our own pid before we made anything is left by an earlier process of that pid.
  return pid === process.pid ? nextNumber === 0 : !isProcessAlive(pid);
}

/** Names of the namespaces that this process has now; empty after good tests. */
export function ownNamespaces(): string[] {
  return listNames(directory).filter((name) => name.startsWith(ownPrefix));
}

function listNames(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    // /run/netns appears with the first namespace of the machine.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
