// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Degradations of the node, from the pinned maps alone: who serves, what is enforced, how full the maps are. Every process
 * builds its status with this, and so does `tandem status`, from the pins as it reads them itself: it then reports its own findings
 * and not those of the processes, whose reading is older.
 */

import type { DegradationCode } from '@tandem/core/codes/degradations';
import type { MemberStatus } from '@tandem/datapath/group';
import { type MemberName, memberNames } from '@tandem/datapath/member';
import { type Degradation, degradation } from './degradation.ts';
import type { MapFill } from './kernel-view.ts';
import { degradedFillRatio } from './limits.ts';

export interface NodeFacts {
  readonly members: readonly MemberStatus[];
  /** Revision that the agent requires of all members. */
  readonly requiredRevision: number;
  /** Revision that the datapath enforces; 0: none since the node was booted. */
  readonly appliedRevision: number;
  /** Whether `judge` is at all its hooks; null: the reader has no access to its links. */
  readonly isJudging: boolean | null;
  readonly maps: readonly MapFill[];
}

/** All codes that {@link nodeDegradations} returns. */
export const nodeCodes: ReadonlySet<string> = new Set<DegradationCode>([
  'no-member-serves',
  'agent-away',
  'proxy-away',
  'member-stale',
  'not-enforcing-yet',
  'judge-not-attached',
  'policy-not-applied',
  'map-nearly-full',
]);

/** A LIVE member without a heartbeat for so long was killed, most likely. */
const deadBeatMs = 1000;
const names = { agent: 'agent', 'dns-proxy': 'DNS proxy' } as const;

export function nodeDegradations(facts: NodeFacts): readonly Degradation[] {
  const isServed = facts.members.some(({ isServing }) => isServing);
  return [
    ...(isServed
      ? memberNames.flatMap((role) => memberProblem(facts, role))
      : [nobodyServes(facts)]),
    ...enforcementProblem(facts),
    ...facts.maps.filter(isNearlyFull).map(mapProblem),
  ];
}

function nobodyServes({ members }: NodeFacts): Degradation {
  const seen = members.map(({ role, state, pid }) => `${role} ${state}, pid ${pid}`).join('; ');
  return degradation('no-member-serves', {
    message: `no process answers DNS on the shared socket (${seen === '' ? 'none has joined since boot' : seen}): pods with DNS rules get no answers; policy in the kernel stays enforced`,
  });
}

/** The other member serves. */
function memberProblem({ members }: NodeFacts, role: MemberName): readonly Degradation[] {
  const own = members.filter((member) => member.role === role);
  if (own.some(({ isServing }) => isServing)) return [];
  const name = names[role];
  const rest =
    role === 'agent'
      ? 'the DNS proxy answers and learns new addresses alone; policy and endpoints do not change'
      : 'the agent answers DNS alone';
  const live = own.find(({ state }) => state === 'live');
  if (live !== undefined && live.beatAgeMs < deadBeatMs) {
    const age = Math.round(live.beatAgeMs);
    return [
      degradation('member-stale', {
        message: `the last heartbeat of the ${name} (pid ${live.pid}) is ${age} ms old, so the kernel gives it no queries: ${rest}`,
        fix: `if it lasts, check the CPU quota and the load of the ${name}, and whether it is stopped by a signal`,
      }),
    ];
  }
  const isDraining = own.some(({ state }) => state === 'drain');
  return [
    degradation(role === 'agent' ? 'agent-away' : 'proxy-away', {
      message: `the ${name} ${isDraining ? 'is stopping' : 'does not run, or hangs'}: ${rest}`,
    }),
  ];
}

/** A judge that is not attached before the first policy is as it should be. */
function enforcementProblem(facts: NodeFacts): readonly Degradation[] {
  const { requiredRevision, appliedRevision, isJudging } = facts;
  if (appliedRevision === 0) return [degradation('not-enforcing-yet')];
  return [
    ...(isJudging === false ? [degradation('judge-not-attached')] : []),
    ...(appliedRevision < requiredRevision
      ? [
          degradation('policy-not-applied', {
            message: `the datapath enforces policy revision ${appliedRevision}, and the agent has computed revision ${requiredRevision}`,
          }),
        ]
      : []),
  ];
}

function isNearlyFull({ entries, capacity }: MapFill): boolean {
  return entries > capacity * degradedFillRatio;
}

function mapProblem({ name, entries, capacity }: MapFill): Degradation {
  const effect =
    mapEffects[name] ?? 'entries that find no room will be refused, and their traffic denied';
  const message = `map ${name} has ${entries} of ${capacity} entries: ${effect}`;
  const fix = mapFixes[name];
  return degradation('map-nearly-full', fix === undefined ? { message } : { message, fix });
}

const mapEffects: Readonly<Record<string, string>> = {
  fqdn: 'namespaces with more than their share lose their oldest addresses to others',
};

const mapFixes: Readonly<Record<string, string>> = {
  fqdn: 'lower quotaNamespace, or fqdnIdleSeconds, which removes expired addresses earlier',
  fqdn_live: 'lower fqdnLiveIdleSeconds, so that addresses count as in use for less long',
  policy: 'use fewer or wider rules: CIDRs, ports and peers multiply',
  classes: 'use fewer CIDRs in policies',
  dns_servers: 'name fewer DNS servers in rules with toPorts.rules.dns',
};
