// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A change of policy, in the order that keeps it safe (safety rule 12): members know the new revision
 * and the name cache has fed new selectors before any endpoint is judged by it; entries of old and new
 * policies hold for the new classes before classes change; only then endpoints flip, and only after that
 * is what is stale removed. Whatever is interrupted leaves the old policy or the new, never less.
 */

import { type ClassTable, type Compiled, type CompiledPolicy } from '@tandem/core/policy/desired';
import { expandPolicy } from '@tandem/core/policy/expand';
import {
  TD_MEMBERS_MAX,
  TD_POLICY_MAX,
  tdEndpoint,
  tdGroup,
  tdMember,
} from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import { type Entry, encodeClass, encodeDnsServer, encodePolicy } from '@tandem/datapath/encode';
import { TandemError } from '@tandem/runtime/tandem-error';

/** What of the datapath a change of policy touches. */
export type AppliedMaps = Pick<Datapath, 'map' | 'table'>;

export interface ApplyStep {
  readonly datapath: AppliedMaps;
  readonly compiled: Compiled;
  /** Policies that may be in the kernel from before. */
  readonly retained: ReadonlyMap<number, CompiledPolicy>;
  readonly endpoints: readonly Entry[];
}

/** Writes policy, DNS servers, classes and endpoints, then removes what none of them names. */
export function applyToDatapath({ datapath, compiled, retained, endpoints }: ApplyStep): void {
  const policies = new Map([...retained, ...compiled.policies]);
  const transition = policyEntries(policies.values(), compiled.classTable);
  if (transition.length > TD_POLICY_MAX) {
    throw new TandemError(
      'TANDEM_POLICY_TOO_LARGE',
      `the change needs ${transition.length} policy entries, the kernel's map has room for ${TD_POLICY_MAX}: use fewer or wider rules`,
    );
  }
  const servers = compiled.dnsServers.map(({ policyId, server, protocol, ruleSetId }) =>
    encodeDnsServer(policyId, server, protocol, ruleSetId),
  );
  const classes = compiled.classes.map(({ prefix, classId, flags }) =>
    encodeClass(prefix.address, prefix.bits, classId, flags),
  );
  datapath.table('policy').add(transition);
  datapath.table('dns_servers').add(servers);
  datapath.table('classes').add(classes);
  datapath.table('classes').prune(classes);
  flipEndpoints(datapath, endpoints);
  datapath.table('policy').prune(policyEntries(compiled.policies.values(), compiled.classTable));
  datapath.table('dns_servers').prune(servers);
  Atomics.store(groupWords(datapath), tdGroup.applied_revision / 4, compiled.members.revision);
}

function groupWords(datapath: AppliedMaps): Uint32Array {
  return new Uint32Array(datapath.map('group').mmap());
}

/**
 * While endpoints change, the generation is odd and members remember nothing of them; after it, it is
 * another than before. An agent that dies in between leaves it odd, and the next one ends the change.
 */
function flipEndpoints(datapath: AppliedMaps, endpoints: readonly Entry[]): void {
  const table = datapath.table('endpoints');
  const words = groupWords(datapath);
  const word = tdGroup.generation / 4;
  const isInterrupted = (Atomics.load(words, word) & 1) !== 0;
  if (!isInterrupted && !table.differs(endpoints)) return;
  if (!isInterrupted) Atomics.add(words, word, 1);
  table.add(endpoints);
  table.prune(endpoints);
  Atomics.add(words, word, 1);
}

/**
 * The newest revision that the datapath or a member has heard of, of this or a former life of the agent. The
 * snapshot on disk may be older: a full disk does not stop policy.
 */
export function newestRevision(datapath: Datapath): number {
  const words = groupWords(datapath);
  const at = (offset: number): number => words[offset / 4] as number;
  let newest = Math.max(at(tdGroup.applied_revision), at(tdGroup.required_revision));
  for (let member = 0; member < TD_MEMBERS_MAX; member++) {
    const base = tdGroup.member + member * tdMember.size;
    newest = Math.max(newest, at(base + tdMember.revision));
  }
  return newest;
}

/** Ids of the policies that endpoints have in the kernel. */
export function policiesInUse(datapath: AppliedMaps): ReadonlySet<number> {
  const ids = new Set<number>();
  for (const [, value] of datapath.map('endpoints').entries()) {
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    ids.add(view.getUint32(tdEndpoint.policy_id, true));
  }
  return ids;
}

/** Members below it are passed over while another one is LIVE. */
export function requireRevision(datapath: AppliedMaps, revision: number): void {
  Atomics.store(groupWords(datapath), tdGroup.required_revision / 4, revision);
}

function policyEntries(policies: Iterable<CompiledPolicy>, classes: ClassTable): Entry[] {
  const entries: Entry[] = [];
  for (const policy of policies) {
    for (const entry of expandPolicy(policy, classes)) entries.push(encodePolicy(entry));
  }
  return entries;
}
