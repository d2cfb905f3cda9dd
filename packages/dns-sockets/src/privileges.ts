// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Privileges of a process, and the way in which it drops them for good. */

import { readFileSync } from 'node:fs';
import { attempt } from './errors.ts';
import { native } from './native.ts';

/** Source: include/uapi/linux/capability.h. */
export const capabilityNumbers = {
  CHOWN: 0,
  DAC_OVERRIDE: 1,
  DAC_READ_SEARCH: 2,
  FOWNER: 3,
  SETGID: 6,
  SETUID: 7,
  SETPCAP: 8,
  NET_ADMIN: 12,
  NET_RAW: 13,
  SYS_ADMIN: 21,
  PERFMON: 38,
  BPF: 39,
} as const;
export type Capability = keyof typeof capabilityNumbers;

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly capabilities: readonly Capability[];
}

/** The capabilities of `wanted` that the thread behind `status` does not have in effect. */
export function missingCapabilities(
  wanted: readonly Capability[],
  status: string = '/proc/thread-self/status',
): readonly Capability[] {
  const text = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(status, 'utf8'))?.[1] ?? '0';
  const effective = BigInt(`0x${text}`);
  return wanted.filter((name) => ((effective >> BigInt(capabilityNumbers[name])) & 1n) === 0n);
}

/** The set as the kernel writes it in CapEff. */
export function capabilitySet(names: readonly Capability[]): bigint {
  return names.reduce((set, name) => set | (1n << BigInt(capabilityNumbers[name])), 0n);
}

/**
 * Executes this program again, with the same arguments and environment, as this user with these capabilities
 * and no way to get others: in all threads, because it is a new image. Needs SETUID, SETGID and the
 * capabilities that are to be kept. Returns only by throwing, and then the process is of no use.
 * @throws DnsSocketError
 */
export function executeAs({ uid, gid, capabilities }: Identity): never {
  const set = capabilitySet(capabilities);
  const args = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const env = Object.entries(process.env).map(([name, value]) => `${name}=${value ?? ''}`);
  const [low, high] = [Number(set & 0xffff_ffffn), Number(set >> 32n)];
  return attempt(() => native.executeAs(uid, gid, low, high, process.execPath, args, env));
}
