// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The links that are the node's and no pod's: the roots at netfilter's hooks, and the guard of port P at a cgroup. */

import { existsSync } from 'node:fs';
import { attachCgroup, attachNetfilter, BpfLink } from '@tandem/bpf-loader-node/link';
import type { BpfObject } from '@tandem/bpf-loader-node/object';
import type { BpfProgram } from '@tandem/bpf-loader-node/program';
import { ipv6State } from './address-families.ts';
import { findCgroup2 } from './cgroup.ts';
import { namedHookTaken } from './hook-taken.ts';
import { judgeHooks, netfilterSlots, type PinPaths, type ProgramName } from './paths.ts';

/** The programs that are to be attached, and where their links are pinned. */
export interface HookPrograms {
  readonly paths: PinPaths;
  program(name: ProgramName): BpfProgram;
}

const families = ['ipv4', 'ipv6'] as const;

export const guardLinks = [
  ['guard_port4', 'bind4'],
  ['guard_port6', 'bind6'],
] as const;

export type JudgeLink = Pick<(typeof judgeHooks)[number], 'root' | 'hook' | 'priority'> & {
  readonly name: string;
  readonly family: (typeof families)[number];
};

/** One for each hook and family. */
export function judgeLinks(): readonly JudgeLink[] {
  return judgeHooks.flatMap((each) =>
    families.map((family) => ({ ...each, name: `${each.name}_${family}`, family })),
  );
}

/** No packet of a family that the kernel does not have reaches a hook. */
export function isAbsent(family: (typeof families)[number]): boolean {
  return family === 'ipv6' && ipv6State() === 'absent';
}

/** The pinned link; null: there is none. */
export function openLink(paths: PinPaths, name: string): BpfLink | null {
  const path = paths.link(name);
  return existsSync(path) ? BpfLink.openPinned(path) : null;
}

/** Netfilter links have no update: a root stays attached, its tail call was swapped already. */
export function attachJudge(programs: HookPrograms): void {
  for (const { name, root, hook, priority, family } of judgeLinks()) {
    using present = openLink(programs.paths, name);
    if (present !== null) continue;
    const program = programs.program(root);
    try {
      using link = attachNetfilter({ program, family, hook, priority });
      link.pin(programs.paths.link(name));
    } catch (error) {
      if (!isAbsent(family)) throw namedHookTaken(error, programs.paths.root);
    }
  }
}

/** Fills the slots, whose programs the roots call from now on. */
export function fillSlots(object: BpfObject): void {
  for (const { slot, program } of netfilterSlots) {
    const value = new Uint8Array(4);
    new DataView(value.buffer).setUint32(0, object.program(program).fd, true);
    object.map(slot).update(new Uint8Array(4), value);
  }
}

/** The cgroup of the guard. @throws when the node has no cgroup v2 */
export function guardPlace(cgroupPath: string): string {
  const place = cgroupPath === 'auto' ? findCgroup2() : cgroupPath;
  if (place === null) throw new Error('no cgroup v2 is mounted on this node');
  return place;
}

export function attachGuard(programs: HookPrograms, cgroupPath: string): void {
  for (const [name, attachType] of guardLinks) {
    using present = openLink(programs.paths, name);
    if (present !== null) {
      present.update(programs.program(name));
      continue;
    }
    using link = attachCgroup({ program: programs.program(name), cgroupPath, attachType });
    link.pin(programs.paths.link(name));
  }
}
