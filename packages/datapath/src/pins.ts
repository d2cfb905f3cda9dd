// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The files in a bpffs: their directories, whom they belong to, and how one replaces another. */

import {
  chmodSync,
  chownSync,
  existsSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { BpfProgram } from '@tandem/bpf-loader-node/program';
import { TD_MEMBERS_MAX } from './abi.gen.ts';
import { bpffsMountCommand, isInBpffs, makeDirectory } from './directories.ts';
import { type PinPaths, pinPaths, retiredMaps, sharedMaps } from './paths.ts';
import { pinnedVersions } from './schema.ts';

/** @throws Error when there is no bpffs: nothing is left on another file system */
export function makeDirectories(paths: PinPaths): void {
  const { root } = paths;
  if (!isInBpffs(root)) {
    throw new Error(
      `${root} lies in no bpffs, so nothing can be pinned: ${bpffsMountCommand(root)}`,
    );
  }
  for (const directory of [root, paths.shared, paths.version, paths.links]) {
    makeDirectory(directory);
  }
  for (let index = 0; index < TD_MEMBERS_MAX; index++) {
    makeDirectory(paths.member(index));
    makeDirectory(paths.waiting(index));
  }
  // A lock on it is the agent's index: no other user may open it.
  chmodSync(paths.member(0), 0o700);
}

/** Versions older than the kept one: no rollback leads to them. */
export function removeOlder(root: string, kept: number): void {
  for (const version of pinnedVersions(root)) {
    if (version < kept) rmSync(pinPaths(root, version).version, { recursive: true });
  }
}

/** Shared maps of former versions: members that map them live on without the pins. */
export function removeRetired(paths: PinPaths): void {
  for (const name of retiredMaps) rmSync(join(paths.shared, name), { force: true });
}

/** Group and modes of the pins, by path, that the DNS proxy opens; it owns none. The others are root's alone. */
export interface ProxyPins {
  readonly gid: number;
  readonly modes: ReadonlyMap<string, number>;
}

/** The proxy writes the shared maps and the position of the ring of events, reads two more, and runs two programs. */
export function proxyPins(paths: PinPaths, gid: number): ProxyPins {
  const written = [...sharedMaps, 'events' as const].map(paths.map);
  const read = (['endpoints', 'counters'] as const).map(paths.map);
  const run = (['learn', 'select_member'] as const).map(paths.program);
  const modes = new Map([...written, ...run].map((path) => [path, 0o660]));
  for (const path of read) modes.set(path, 0o640);
  return { gid, modes };
}

/**
 * A pin can't be overwritten, but renamed over: at no time is there none, nor one that is not shared yet. An agent
 * may be killed right after, and the proxy must be able to start without it.
 */
export function replacePin(object: BpfProgram | BpfMap, path: string, proxy: ProxyPins): void {
  const next = `${path}_next`;
  if (existsSync(next)) unlinkSync(next);
  object.pin(next);
  const mode = proxy.modes.get(path);
  try {
    if (mode !== undefined) sharePin(next, proxy.gid, mode);
  } catch {
    // Enforcement does not need it: shareWithProxy comes next, and says what is in the way.
  }
  renameSync(next, path);
}

function sharePin(path: string, gid: number, mode: number): void {
  chownSync(path, 0, gid);
  chmodSync(path, mode);
}

/**
 * systemd mounts /sys/fs/bpf with mode 700: a process of another user could not reach `root` in it. The group of
 * the proxy may search (not list) the directories above that are of the same bpffs and of the group root.
 */
export function shareSearch(root: string, gid: number): void {
  const { dev } = statSync(root);
  for (let directory = dirname(root); directory !== '/'; directory = dirname(directory)) {
    const status = statSync(directory);
    if (status.dev !== dev) return;
    if ((status.mode & 0o001) === 0 && status.gid === 0) {
      chownSync(directory, -1, gid);
      chmodSync(directory, (status.mode & 0o707) | 0o010);
    }
  }
}

/** Takes back what `shareSearch` gave, once `root` is gone: the group's right to search, which it alone used. */
export function unshareSearch(root: string, gid: number): void {
  const parent = dirname(root);
  if (!existsSync(parent)) return;
  const { dev } = statSync(parent);
  for (let directory = parent; directory !== '/'; directory = dirname(directory)) {
    const status = statSync(directory);
    if (status.dev !== dev) return;
    if ((status.mode & 0o071) !== 0o010 || status.gid !== gid) continue;
    chmodSync(directory, status.mode & 0o707);
    chownSync(directory, -1, 0);
  }
}

/** Lets the proxy search the directories and open the pins that are its business. @throws system errors */
export function shareWithProxy(paths: PinPaths, gid: number): void {
  const members = Array.from({ length: TD_MEMBERS_MAX }, (_, index) => paths.member(index));
  shareSearch(paths.root, gid);
  for (const directory of [paths.root, paths.shared, paths.version, ...members.slice(1)]) {
    chownSync(directory, 0, gid);
    chmodSync(directory, 0o750);
  }
  for (const [path, mode] of proxyPins(paths, gid).modes) sharePin(path, gid, mode);
}
