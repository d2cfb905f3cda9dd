// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * State that the pinned maps have while no process of ours runs: the group, the fill of the maps, the endpoints in force.
 * Read only; everything that can be absent or forbidden is a value.
 */

import { BpfError } from '@tandem/bpf-loader-node/errors';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { err, ok, type Result } from '@tandem/core/result';
import { tdCounter, tdEndpointFlag } from '@tandem/datapath/abi.gen';
import { readCounter } from '@tandem/datapath/counters';
import { Datapath } from '@tandem/datapath/datapath';
import { decodeEndpoint, type EndpointValue } from '@tandem/datapath/encode';
import { type GroupSettings, type MemberStatus, NodeGroup } from '@tandem/datapath/group';
import { readPinnedSettings } from '@tandem/datapath/group-settings';
import { type MapName, pinPaths } from '@tandem/datapath/paths';

export interface GroupView {
  readonly abiVersion: number;
  /** Revision that the agent requires of all members. */
  readonly requiredRevision: number;
  /** Revision that the datapath enforces. */
  readonly appliedRevision: number;
  readonly members: readonly MemberStatus[];
}

export interface MapFill {
  readonly name: string;
  readonly entries: number;
  readonly capacity: number;
}

export interface PinnedEndpoint extends EndpointValue {
  /** 16 bytes. */
  readonly address: Uint8Array;
}

/** Maps whose fill says something, in the order in which it is shown. */
const filledMaps: readonly MapName[] = [
  'endpoints',
  'classes',
  'policy',
  'dns_servers',
  'fqdn',
  'fqdn_live',
  'learned_spaces',
];

/** The group as `select_member` sees it; the error says what to do. */
export function readGroup(bpffsDir: string): Result<GroupView, string> {
  return reading(bpffsDir, () => {
    using map = BpfMap.openPinned(pinPaths(bpffsDir).map('group'), { isReadOnly: true });
    const value = map.lookup(new Uint8Array(4)) ?? new Uint8Array(map.valueBytes);
    // After the read: a beat that is newer than the clock would have a negative age.
    const nowNs = Number(process.hrtime.bigint());
    const group = NodeGroup.copyOf(value);
    const { abiVersion, requiredRevision, appliedRevision } = group;
    return { abiVersion, requiredRevision, appliedRevision, members: group.members(nowNs) };
  });
}

/** Settings with which the programs in force were loaded; null: their version does not record them. */
export function readGroupSettings(bpffsDir: string): Result<GroupSettings | null, string> {
  return reading(bpffsDir, () => readPinnedSettings(bpffsDir));
}

/** Entries of the maps, counted one by one. Maps that cannot be read are left out. */
export function readMapFill(bpffsDir: string): readonly MapFill[] {
  const paths = pinPaths(bpffsDir);
  const fills: MapFill[] = [];
  for (const name of filledMaps) {
    const counted = reading(bpffsDir, () => {
      using map = BpfMap.openPinned(paths.map(name), { isReadOnly: true });
      let entries = 0;
      for (const _entry of map.entries()) entries += 1;
      return { name, entries, capacity: map.maxEntries };
    });
    if (counted.ok) fills.push(counted.value);
  }
  return fills;
}

/** The endpoints that the kernel enforces policy for. */
export function readPinnedEndpoints(bpffsDir: string): Result<readonly PinnedEndpoint[], string> {
  return reading(bpffsDir, () => {
    using map = BpfMap.openPinned(pinPaths(bpffsDir).map('endpoints'), { isReadOnly: true });
    return [...map.entries()].map(([key, value]) => ({
      address: key.slice(),
      ...decodeEndpoint(value),
    }));
  });
}

/** Whether `judge` is at all its hooks; an error when the links cannot be asked. */
export function readIsJudging(bpffsDir: string): Result<boolean, string> {
  return reading(bpffsDir, () => {
    using datapath = Datapath.open(bpffsDir);
    return datapath.isJudging();
  });
}

/** Counters of the kernel about pods' queries, since the maps are pinned. */
export interface LaneCounters {
  readonly selected: number;
  readonly selectedHeavy: number;
  readonly queriesRefused: number;
  readonly connectionsRefused: number;
}

export function readLaneCounters(bpffsDir: string): Result<LaneCounters, string> {
  return reading(bpffsDir, () => {
    using datapath = Datapath.open(bpffsDir);
    const of = (index: number): number => readCounter(datapath, index);
    return {
      selected: of(tdCounter.SELECTED) + of(tdCounter.SELECTED_STALE),
      selectedHeavy: of(tdCounter.SELECTED_HEAVY),
      queriesRefused: of(tdCounter.DROP_QUERY_RATE),
      connectionsRefused: of(tdCounter.DROP_CONNECT_RATE),
    };
  });
}

/** Names of td_endpoint_flags: "enforce-egress". */
export function endpointFlagNames(flags: number): readonly string[] {
  return Object.entries(tdEndpointFlag)
    .filter(([, bit]) => (flags & bit) !== 0)
    .map(([name]) => name.toLowerCase().replaceAll('_', '-'));
}

function reading<T>(bpffsDir: string, read: () => T): Result<T, string> {
  try {
    return ok(read());
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    if (error.code === 'TANDEM_BPF_NOT_FOUND') {
      return err(
        `nothing of Tandem is pinned in ${bpffsDir}: the agent has not run since boot, or --bpffs-dir is another`,
      );
    }
    if (error.code === 'TANDEM_BPF_PERMISSION') {
      return err(`the pins in ${bpffsDir} may not be read: run it as root`);
    }
    return err(error.message);
  }
}
