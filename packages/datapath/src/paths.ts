// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where BPF objects of one node are pinned. `shared` holds the maps that both members use across
 * versions (frozen layouts, group-writable); `v<ABI>` what only the agent writes, and programs and links.
 */

import { join } from 'node:path';
import { TD_ABI_VERSION } from './abi.gen.ts';

export const sharedMaps = [
  'group',
  'journal',
  'fqdn',
  'quotas',
  'listeners',
  'learn_requests',
] as const;
export const agentMaps = [
  'endpoints',
  'classes',
  'policy',
  'dns_servers',
  'events',
  'counters',
  'judge_slot',
] as const;
export type MapName = (typeof sharedMaps)[number] | (typeof agentMaps)[number];

export const programNames = [
  'from_pod',
  'to_pod',
  'select_member',
  'judge_root',
  'judge',
  'learn',
  'guard_port4',
  'guard_port6',
] as const;
export type ProgramName = (typeof programNames)[number];

export interface PinPaths {
  readonly root: string;
  readonly shared: string;
  readonly version: string;
  readonly links: string;
  /** Directory that the process with this index in the group locks. */
  member(index: number): string;
  map(name: MapName): string;
  program(name: ProgramName): string;
  link(name: string): string;
}

/** `root`: the node's directory in a bpffs. */
export function pinPaths(root: string): PinPaths {
  const shared = join(root, 'shared');
  const version = join(root, `v${TD_ABI_VERSION}`);
  const links = join(version, 'links');
  const isShared = (name: MapName): boolean => (sharedMaps as readonly string[]).includes(name);
  return {
    root,
    shared,
    version,
    links,
    member: (index) => join(shared, `member_${index}`),
    map: (name) => join(isShared(name) ? shared : version, name),
    program: (name) => join(version, `program_${name}`),
    link: (name) => join(links, name),
  };
}
