// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS proxy that root starts goes on as `proxyUid` with two capabilities: it reads what pods and
 * servers of the world send, and needs no files of others. What it will own is made before.
 */

import { realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Capability, executeAs, missingCapabilities } from '@tandem/dns-sockets/privileges';
import { TandemError } from '@tandem/runtime/tandem-error';
import type { MemberConfig } from './config.ts';
import { prepareRunDirectory } from './run-directory.ts';

/** NET_RAW: transparent sockets and their marks. BPF: maps, programs, and the filter of TCP listeners. */
export const proxyCapabilities: readonly Capability[] = ['NET_RAW', 'BPF'];

/**
 * Does nothing in a process that is not root's. Else it never returns: the program starts again as the
 * proxy's user.
 * @throws TandemError when that cannot be
 */
export function dropRoot(config: Pick<MemberConfig, 'runDir' | 'proxyUid'>): void {
  if (process.getuid?.() !== 0) return;
  const { proxyUid } = config;
  const missing = missingCapabilities(['SETUID', 'SETGID', ...proxyCapabilities]);
  if (missing.length > 0) {
    throw new TandemError(
      'TANDEM_PRIVILEGES',
      `the DNS proxy was started by root without ${missing.map((name) => `CAP_${name}`).join(', ')}, so it cannot go on as uid ${proxyUid}: ` +
        `grant them, or start it as uid ${proxyUid} with the ambient capabilities ${proxyCapabilities.join(', ')}`,
    );
  }
  try {
    prepareRunDirectory(config);
  } catch {
    // The agent makes it too, and says why it cannot.
  }
  for (const path of [process.execPath, process.argv[1] ?? '']) requireReadable(path, proxyUid);
  try {
    executeAs({ uid: proxyUid, gid: proxyUid, capabilities: proxyCapabilities });
  } catch (error) {
    throw new TandemError(
      'TANDEM_PRIVILEGES',
      `the DNS proxy cannot go on as uid ${proxyUid}: ${TandemError.from(error).message}`,
      { cause: error },
    );
  }
}

/** Node.js would only say that it finds no module. */
function requireReadable(program: string, uid: number): void {
  const path = realpathSync(program);
  const closed = [...ancestors(path)].find((directory) => !mayUse(directory, uid, 0o1));
  const place = closed ?? (mayUse(path, uid, 0o4) ? null : path);
  if (place === null) return;
  throw new TandemError(
    'TANDEM_PRIVILEGES',
    `uid ${uid}, as which the DNS proxy runs, may not read ${path}: ${place} is closed to it. Install Tandem where every user may read it, such as /opt/tandem`,
  );
}

function* ancestors(path: string): Generator<string> {
  for (let at = dirname(path); ; at = dirname(at)) {
    yield at;
    if (at === dirname(at)) return;
  }
}

/** By the mode alone: `right` as others have it, of a user whose only group has its own number. */
function mayUse(path: string, id: number, right: number): boolean {
  const { uid, gid, mode } = statSync(path);
  const shift = uid === id ? 6 : gid === id ? 3 : 0;
  return ((mode >> shift) & right) === right;
}
