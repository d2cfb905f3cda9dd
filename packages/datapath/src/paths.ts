// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where BPF objects of one node are pinned. `shared` holds the maps that both members use across
 * versions (frozen layouts, group-writable); `v<ABI>` what only the agent writes, and programs; `links`
 * what is attached, whatever its version: a link stays while programs are swapped in it.
 */

import { join } from 'node:path';
import { TD_ABI_VERSION } from './abi.gen.ts';

export const sharedMaps = [
  'group',
  'journal2',
  'fqdn',
  'fqdn_live',
  'fqdn_live_counters',
  'learned_order',
  'learned_pairs',
  'learned_spaces',
  'quotas',
  'listeners',
  'learn_requests',
  'heavy_listeners',
] as const;
/** Maps of former versions, whose layout could not be kept: a map of another name has their place. */
export const retiredMaps = ['journal'] as const;
export const agentMaps = [
  'endpoints',
  'pod_devices',
  'trusted_devices',
  'pod_macs',
  'pod_bridges',
  'tunnel_ports',
  'classes',
  'policy',
  'dns_servers',
  'events',
  'counters',
  'judge_slot',
  'guard_entry_slot',
] as const;
/** Maps that agents before them do not pin: members work without. */
export const laterMaps = [
  'fqdn_live',
  'fqdn_live_counters',
  'learned_order',
  'learned_pairs',
  'learned_spaces',
  'pod_devices',
  'trusted_devices',
  'pod_macs',
  'pod_bridges',
  'tunnel_ports',
  'guard_entry_slot',
  'heavy_listeners',
] as const;
export type LaterMapName = (typeof laterMaps)[number];
export type AgentMapName = (typeof agentMaps)[number];
export type MapName = (typeof sharedMaps)[number] | AgentMapName;

export const programNames = [
  'from_pod',
  'to_pod',
  'select_member',
  'judge_root',
  'judge',
  'guard_entry_root',
  'guard_entry',
  'guard_exit',
  'learn',
  'share',
  'guard_port4',
  'guard_port6',
] as const;
export type ProgramName = (typeof programNames)[number];
/** Programs that agents before them do not pin: members work without. */
export const laterPrograms: readonly ProgramName[] = [
  'guard_entry_root',
  'guard_entry',
  'guard_exit',
];
/**
 * Netfilter links: `judge` after NAT and filtering, before masquerading; `guard_entry` before conntrack. Each calls the
 * program that is in the slot of its root.
 */
export const judgeHooks = [
  { name: 'guard_entry', root: 'guard_entry_root', hook: 'preRouting', priority: -250 },
  { name: 'judge_postRouting', root: 'judge_root', hook: 'postRouting', priority: 90 },
  { name: 'judge_localIn', root: 'judge_root', hook: 'localIn', priority: 112 },
] as const;
export const netfilterSlots = [
  { slot: 'judge_slot', program: 'judge' },
  { slot: 'guard_entry_slot', program: 'guard_entry' },
] as const;

export interface PinPaths {
  readonly root: string;
  readonly shared: string;
  readonly version: string;
  readonly links: string;
  /** Directory that the process with this index in the group locks. */
  member(index: number): string;
  /** Directory that a process locks while it waits for that index. */
  waiting(index: number): string;
  map(name: MapName): string;
  program(name: ProgramName): string;
  link(name: string): string;
}

/** `root`: the node's directory in a bpffs. `abi`: whose maps and programs. */
export function pinPaths(root: string, abi: number = TD_ABI_VERSION): PinPaths {
  const shared = join(root, 'shared');
  const version = join(root, `v${abi}`);
  const links = join(root, 'links');
  const isShared = (name: MapName): boolean => (sharedMaps as readonly string[]).includes(name);
  return {
    root,
    shared,
    version,
    links,
    member: (index) => join(shared, `member_${index}`),
    waiting: (index) => join(shared, `waiting_${index}`),
    map: (name) => join(isShared(name) ? shared : version, name),
    program: (name) => join(version, `program_${name}`),
    link: (name) => join(links, name),
  };
}
