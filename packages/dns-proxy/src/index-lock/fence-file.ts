// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The pipe by which the process that has an index can be killed (`@tandem/dns-sockets/fence`), in a directory that only
 * its user can write to. Its name has the time at which it was made, so that a pipe is of one run: a process that
 * found that run hung cannot kill the next one.
 */

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { MemberIndex } from '@tandem/datapath/member';
import { armFence, fireFence } from '@tandem/dns-sockets/fence';

const prefixOf = (index: MemberIndex): string => `fence-${index}-`;

/** Lets this process be killed by it, and removes those of former runs. The index must be ours. @throws DnsSocketError */
export function armFenceFile(directory: string, index: MemberIndex, boottimeNs: number): void {
  for (const { path } of fenceFiles(directory, index)) rmSync(path, { force: true });
  armFence(join(directory, `${prefixOf(index)}${boottimeNs}`));
}

/** When the newest one was made, CLOCK_BOOTTIME ns; null: there is none, or the directory cannot be read. */
export function fenceArmedNs(directory: string, index: MemberIndex): number | null {
  return fenceFiles(directory, index).reduce<number | null>(
    (newest, { armedNs }) => (newest === null || armedNs > newest ? armedNs : newest),
    null,
  );
}

/** Kills the run that armed it then. False: it cannot be, or is gone. */
export function fireFenceFile(directory: string, index: MemberIndex, armedNs: number): boolean {
  return fireFence(join(directory, `${prefixOf(index)}${armedNs}`));
}

function fenceFiles(
  directory: string,
  index: MemberIndex,
): readonly { readonly path: string; readonly armedNs: number }[] {
  const prefix = prefixOf(index);
  let names: readonly string[];
  try {
    names = readdirSync(directory);
  } catch {
    return [];
  }
  return names
    .filter((name) => name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length)))
    .map((name) => ({ path: join(directory, name), armedNs: Number(name.slice(prefix.length)) }));
}
