// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A change of policy, in the order that keeps it safe (safety rule 12): members know the new revision
 * and the name cache has fed new selectors before any endpoint is judged by it; entries of old and new
 * policies are written for the new classes before classes change; then endpoints change to the new policies; last,
 * stale entries are removed. An interruption leaves the old policy or the new one in force, never less.
 */

import type { PolicyId, Revision } from '@tandem/core/ids';
import type { Compiled, CompiledPolicy } from '@tandem/core/policy/model/desired';
import { EndpointFlag } from '@tandem/core/policy/model/kernel-numbers';
import {
  TD_CLASSES_MAX,
  TD_DNS_SERVERS_MAX,
  TD_ENDPOINTS_MAX,
  TD_MEMBERS_MAX,
  TD_POLICY_MAX,
  tdDnsServerKey,
} from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import { type Entry, encodeDnsServer } from '@tandem/datapath/encode';
import { NodeGroup } from '@tandem/datapath/group';
import { comparedEntriesMax } from '../limits.ts';
import { addWhatFits } from './add-entries.ts';
import { heldEndpoint, policyOfEndpoint, policyOfKey } from './hold-endpoints.ts';
import { entryOf, type MapChange, mapChange, policyEntries } from './map-change.ts';

/** The part of the datapath that a change of policy writes. */
export type AppliedMaps = Pick<Datapath, 'map' | 'table'>;

export interface ApplyStep {
  readonly datapath: AppliedMaps;
  readonly compiled: Compiled;
  /** The exact content of the maps; null or absent: it is not known. */
  readonly former?: Compiled | null;
  /** Policies that may be in the kernel from before. */
  readonly retained: ReadonlyMap<PolicyId, CompiledPolicy>;
  readonly endpoints: readonly Entry[];
  /** Entries that the maps hold; default: those of the ABI. */
  readonly capacities?: Capacities;
}

export type Capacities = Readonly<Record<'policy' | 'dns_servers' | 'classes', number>>;

const appliedTables = ['policy', 'dns_servers', 'classes', 'endpoints'] as const;
export const abiCapacities: Capacities = {
  policy: TD_POLICY_MAX,
  dns_servers: TD_DNS_SERVERS_MAX,
  classes: TD_CLASSES_MAX,
};

/** Entries that the kernel refused. */
export interface Refused {
  readonly map: 'policy' | 'dns_servers' | 'classes' | 'endpoints';
  readonly entries: readonly Entry[];
  readonly reason: string;
  /** Policies that are incomplete without them: their endpoints are held. */
  readonly policies: ReadonlySet<PolicyId>;
}

/**
 * Writes policy, DNS servers, classes and endpoints, then removes what none of them names. Returns what
 * the kernel refused: endpoints of policies that miss an entry are held, all others are in force.
 */
export function applyToDatapath(step: ApplyStep): readonly Refused[] {
  const { datapath, compiled, endpoints, capacities = abiCapacities } = step;
  const servers = serverEntries(compiled.dnsServers);
  const change =
    changeThatFits(step, servers, capacities) ?? wholeChange(step, servers, capacities);
  const refused: Refused[] = [];
  const add = (
    map: Refused['map'],
    entries: readonly Entry[],
    policiesOf: (entries: readonly Entry[]) => ReadonlySet<PolicyId>,
  ): void => {
    const refusal = addWhatFits(datapath.table(map), entries);
    if (refusal !== null) refused.push({ map, ...refusal, policies: policiesOf(refusal.entries) });
  };
  add('policy', change.policy, (entries) => new Set(entries.map(({ key }) => policyOfKey(key))));
  // `judge` caches denials until this count changes, and the new entries may allow what it denied.
  if (change.policy.length > 0) groupOf(datapath).countPolicies();
  add('dns_servers', servers, (entries) => {
    return new Set(entries.map(({ key }) => policyOfKey(key, tdDnsServerKey.policy_id)));
  });
  const hold = (): ReadonlySet<PolicyId> => {
    const held = new Set(refused.flatMap(({ policies }) => [...policies]));
    if (held.size > 0) holdInKernel(datapath, (id) => held.has(id));
    return held;
  };
  // No endpoint is judged by new classes with a policy that is not whole.
  hold();
  // An address without a class of its own has that of the prefix around it, in every rule with peers.
  add('classes', change.classes, () => policiesWithPeers(compiled));
  const held = hold();
  end(datapath.table('classes'), change.classes, change.goneClasses);
  const isHeld = (entry: Entry): boolean => held.has(policyOfEndpoint(entry));
  flipEndpoints(
    datapath,
    endpoints.map((entry) => (isHeld(entry) ? heldEndpoint(entry) : entry)),
    (entries) => add('endpoints', entries, () => new Set()),
  );
  end(datapath.table('policy'), change.wantedPolicy, change.gonePolicy);
  datapath.table('dns_servers').prune(servers);
  return refused;
}

const encodedServers = new WeakMap<Compiled['dnsServers'], readonly Entry[]>();

/** Compilations that follow each other share the list while it is the same. */
function serverEntries(list: Compiled['dnsServers']): readonly Entry[] {
  const known = encodedServers.get(list);
  if (known !== undefined) return known;
  const entries = list.map(({ policyId, server, protocol, ruleSetId }) =>
    encodeDnsServer(policyId, server, protocol, ruleSetId),
  );
  encodedServers.set(list, entries);
  return entries;
}

interface Change extends MapChange {
  /** Entries of `policy` that stay; unused if `gonePolicy` lists the entries to remove. */
  readonly wantedPolicy: readonly Entry[];
}

/** The difference from the maps, if their content is known and has room beside the new one; else null. */
function changeThatFits(
  { datapath, compiled, former }: ApplyStep,
  servers: readonly Entry[],
  capacities: Capacities,
): Change | null {
  if (former == null || !compiled.isRetained) return null;
  const change = mapChange(former, compiled);
  if (change === null || !hasRoom(datapath, { ...change, servers }, capacities)) return null;
  return { ...change, wantedPolicy: [] };
}

/** Everything, whatever the maps hold. */
function wholeChange(
  { datapath, compiled, retained }: ApplyStep,
  servers: readonly Entry[],
  capacities: Capacities,
): Change {
  const wanted: Wanted = {
    policy: policyEntries(compiled.policies.values(), compiled.classTable),
    servers,
    classes: Array.from(compiled.classes, entryOf),
  };
  const former = [...retained.values()].filter(({ id }) => !compiled.policies.has(id));
  let policy: readonly Entry[] = [...policyEntries(former, compiled.classTable), ...wanted.policy];
  if (!hasRoom(datapath, { ...wanted, policy }, capacities)) {
    // The pods of former policies first lose them, and for as long as it takes all they had.
    makeRoom(datapath, compiled, wanted, capacities);
    policy = wanted.policy;
  }
  const { classes } = wanted;
  return { policy, classes, goneClasses: null, gonePolicy: null, wantedPolicy: wanted.policy };
}

function end(
  table: ReturnType<AppliedMaps['table']>,
  wanted: readonly Entry[],
  gone: readonly Entry[] | null,
): void {
  if (gone === null) table.prune(wanted);
  else table.remove(gone);
}

interface Wanted {
  readonly policy: readonly Entry[];
  readonly servers: readonly Entry[];
  readonly classes: readonly Entry[];
}

/** Whether the maps hold what is wanted beside what they hold now. */
function hasRoom(
  datapath: AppliedMaps,
  { policy, servers, classes }: Wanted,
  capacities: Capacities,
): boolean {
  const fits = (map: keyof Capacities, wanted: readonly Entry[]): boolean =>
    datapath.table(map).fits(wanted, capacities[map]);
  return fits('policy', policy) && fits('dns_servers', servers) && fits('classes', classes);
}

/** Holds the endpoints that the change would need more room for, and removes what only they had. */
function makeRoom(
  datapath: AppliedMaps,
  { policies }: Compiled,
  wanted: Wanted,
  capacities: Capacities,
): void {
  holdInKernel(datapath, (id) => !policies.has(id));
  const isNeeded = ([key]: readonly [Uint8Array, Uint8Array]): boolean =>
    policies.has(policyOfKey(key));
  const table = datapath.table('policy');
  table.prune([...table.entries()].filter(isNeeded).map(([key, value]) => ({ key, value })));
  if (hasRoom(datapath, wanted, capacities)) return;
  holdInKernel(datapath, () => true);
  datapath.table('policy').prune(wanted.policy);
  datapath.table('dns_servers').prune(wanted.servers);
  datapath.table('classes').prune(wanted.classes);
}

/** Endpoints in the kernel that have such a policy. */
function holdInKernel(datapath: AppliedMaps, isHeld: (policyId: PolicyId) => boolean): void {
  const table = datapath.table('endpoints');
  const present = [...table.entries()].map(([key, value]) => ({ key, value }));
  const entries = present.map((entry) => {
    return isHeld(policyOfEndpoint(entry)) ? heldEndpoint(entry) : entry;
  });
  flipEndpoints(datapath, entries, (changed) => table.add(changed));
}

function policiesWithPeers({ policies }: Compiled): ReadonlySet<PolicyId> {
  const found = [...policies.values()].filter(
    ({ peers, flags }) => peers.size > 0 || (flags & EndpointFlag.fqdn) !== 0,
  );
  return new Set(found.map(({ id }) => id));
}

/**
 * Compares a slice of each map with what was written into it. True: another process changed a map, which the
 * tables know now. Applying again restores it.
 */
export function findForeignChange(datapath: AppliedMaps): boolean {
  const changed = appliedTables.filter((name) => datapath.table(name).compare(comparedEntriesMax));
  return changed.length > 0;
}

function groupOf(datapath: AppliedMaps): NodeGroup {
  return new NodeGroup(datapath.map('group').mmap());
}

/**
 * While endpoints change, the generation is odd and members remember nothing of them; after it, it is
 * another than before. An agent that dies in between leaves it odd, and the next one ends the change.
 */
function flipEndpoints(
  datapath: AppliedMaps,
  endpoints: readonly Entry[],
  add: (endpoints: readonly Entry[]) => void,
): void {
  const table = datapath.table('endpoints');
  const group = groupOf(datapath);
  const isInterrupted = (group.generation & 1) !== 0;
  if (!isInterrupted && !table.differs(endpoints)) return;
  if (!isInterrupted) group.stepGeneration();
  // Pods that are gone make room for those that came.
  if (endpoints.length > TD_ENDPOINTS_MAX / 2) table.prune(endpoints);
  add(endpoints);
  table.prune(endpoints);
  group.stepGeneration();
}

/**
 * The newest revision that the datapath or a member knows, of this or a former run of the agent. The
 * saved snapshots may be older: a full disk does not stop policy.
 */
export function newestRevision(datapath: AppliedMaps): number {
  const group = groupOf(datapath);
  let newest = Math.max(group.appliedRevision, group.requiredRevision);
  for (let member = 0; member < TD_MEMBERS_MAX; member++) {
    newest = Math.max(newest, group.revisionOf(member));
  }
  return newest;
}

/** Ids of the policies that endpoints have in the kernel. */
export function policiesInUse(datapath: AppliedMaps): ReadonlySet<PolicyId> {
  const ids = new Set<PolicyId>();
  for (const [key, value] of datapath.map('endpoints').entries()) {
    ids.add(policyOfEndpoint({ key, value }));
  }
  return ids;
}

/** Says that the datapath enforces the revision: once programs are attached and `judge` is. */
export function announceApplied(datapath: AppliedMaps, revision: Revision): void {
  groupOf(datapath).appliedRevision = revision;
}

/** Members below it are passed over while another one is LIVE. */
export function requireRevision(datapath: AppliedMaps, revision: Revision): void {
  groupOf(datapath).requiredRevision = revision;
}
