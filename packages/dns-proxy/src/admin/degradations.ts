// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Promises that do not hold at present, from plain facts: what is the case, what still works, what to do. */

import type { MemberStatus } from '@tandem/datapath/group';
import { type MemberName, memberNames } from '@tandem/datapath/member';
import type { Logger } from '@tandem/runtime/log';
import type { MapFill } from './kernel-view.ts';
import { degradedFillRatio } from './limits.ts';

export interface Degradation {
  /** API: scripts look at it. */
  readonly code: string;
  readonly message: string;
  readonly fix: string;
}

export type PolicyOrigin = 'agent' | 'snapshot' | 'none';

export interface NodeFacts {
  /** Who is asked. */
  readonly role: MemberName;
  readonly members: readonly MemberStatus[];
  readonly requiredRevision: number;
  readonly policy: { readonly revision: number; readonly origin: PolicyOrigin };
  readonly isExchangeConnected: boolean;
  readonly maps: readonly MapFill[];
  readonly errors: number;
  readonly warnings: number;
}

/** A LIVE member without a heartbeat for so long was killed, most likely. */
const awayMs = 1000;
const names = { agent: 'agent', 'dns-proxy': 'DNS proxy' } as const;

export function degradationsOf(facts: NodeFacts): Degradation[] {
  const serving = facts.members.filter(({ isServing }) => isServing);
  return [
    ...memberNames.flatMap((role) => memberProblem(facts, role)),
    ...(serving.length === 0 ? [nobodyServes] : []),
    ...policyProblems(facts),
    ...exchangeProblem(facts),
    ...facts.maps.filter(isNearlyFull).map(mapProblem),
    ...inputProblems(facts),
  ];
}

const nobodyServes: Degradation = {
  code: 'no-member-serves',
  message: 'no process answers DNS on the shared socket: pods with DNS rules get no answers',
  fix: 'start the agent or the DNS proxy',
};

function memberProblem(facts: NodeFacts, role: MemberName): Degradation[] {
  const members = facts.members.filter((member) => member.role === role);
  if (members.some(({ isServing }) => isServing)) return [];
  const name = names[role];
  const rest =
    role === 'agent'
      ? 'the DNS proxy answers and learns new addresses alone; policy and pods stay as they are'
      : 'the agent answers DNS alone';
  const live = members.find(({ state }) => state === 'live');
  if (live !== undefined && live.beatAgeMs < awayMs) {
    const age = Math.round(live.beatAgeMs);
    return [
      {
        code: 'member-stale',
        message: `the ${name} (pid ${live.pid}) gave its last heartbeat ${age} ms ago and is passed over: ${rest}`,
        fix: `if it lasts, look at the CPU that the ${name} gets, and whether it is stopped`,
      },
    ];
  }
  const isDraining = members.some(({ state }) => state === 'drain');
  return [
    {
      code: role === 'agent' ? 'agent-away' : 'proxy-away',
      message: `the ${name} ${isDraining ? 'is stopping' : 'does not run, or hangs'}: ${rest}`,
      fix: `start the ${name}, or see its log`,
    },
  ];
}

function policyProblems(facts: NodeFacts): Degradation[] {
  const { role, policy, requiredRevision } = facts;
  if (policy.revision === 0) {
    return [
      {
        code: 'no-policy',
        message: 'this process has no policy yet and does not serve',
        fix:
          role === 'agent'
            ? 'see the diagnostics and the log of the agent'
            : 'start the agent: there is no usable snapshot',
      },
    ];
  }
  const problems: Degradation[] = [];
  // A proxy that is connected was told of nothing newer: its snapshot is the agent's policy.
  if (policy.origin === 'snapshot' && (role === 'agent' || !facts.isExchangeConnected)) {
    problems.push({
      code: 'snapshot-only',
      message: `policy is that of the last snapshot, revision ${policy.revision}: changes since are not known here`,
      fix:
        role === 'agent'
          ? 'wait for the first reading of the source, or see the log of the agent'
          : 'start the agent',
    });
  }
  if (policy.revision < requiredRevision) {
    problems.push({
      code: 'policy-behind',
      message: `this process serves revision ${policy.revision}, the node is at ${requiredRevision}: the other process is preferred`,
      fix: 'wait; if it lasts, the log of this process says why it refuses the policy',
    });
  }
  return problems;
}

/** Only worth saying when both are there: an absent process is named already. */
function exchangeProblem({ members, isExchangeConnected }: NodeFacts): Degradation[] {
  const isPeerThere =
    new Set(members.filter(({ isServing }) => isServing).map(({ role }) => role)).size > 1;
  if (isExchangeConnected || !isPeerThere) return [];
  return [
    {
      code: 'exchange-down',
      message:
        'the two processes are not connected: names and events of the other one are not seen here; each writes its own to the datapath',
      fix: "check that both have the same runDir and that the agent's sync socket is in it",
    },
  ];
}

function isNearlyFull({ entries, capacity }: MapFill): boolean {
  return entries > capacity * degradedFillRatio;
}

function mapProblem({ name, entries, capacity }: MapFill): Degradation {
  return {
    code: 'map-nearly-full',
    message: `map ${name} has ${entries} of ${capacity} entries: ${mapEffects[name] ?? 'what does not fit will be refused'}`,
    fix: mapFixes[name] ?? 'see "When something is full" in docs/operations.md',
  };
}

const mapEffects: Readonly<Record<string, string>> = {
  fqdn: 'namespaces that have more than their share give up their oldest addresses to others',
};

const mapFixes: Readonly<Record<string, string>> = {
  fqdn: 'lower quotaNamespace, or fqdnIdleSeconds so that expired addresses go earlier',
  fqdn_live: 'lower fqdnLiveIdleSeconds, so that addresses count as in use for less long',
  policy: 'use fewer or wider rules: CIDRs, ports and peers multiply',
  classes: 'use fewer CIDRs in policies',
  dns_servers: 'name fewer DNS servers in rules with toPorts.rules.dns',
};

function inputProblems({ errors, warnings }: NodeFacts): Degradation[] {
  if (errors === 0) return [];
  const also = warnings > 0 ? ` and ${warnings} warnings` : '';
  return [
    {
      code: 'diagnostics',
      message: `${errors} errors${also} in objects or interfaces: each names its object and what holds meanwhile`,
      fix: 'see the list of problems; docs/operations.md has their codes',
    },
  ];
}

/** While the last line of the log could not be written. */
export function logDegradations({
  lost,
  problem,
}: Pick<Logger, 'lost' | 'problem'>): Degradation[] {
  if (problem === '') return [];
  return [
    {
      code: 'log-lost',
      message: `the log of this process cannot be written (${problem}): ${lost} lines are lost; policy and DNS are not affected`,
      fix: 'make room where its standard error is written; after EPIPE restart the process, because the reader of its standard error has ended',
    },
  ];
}
