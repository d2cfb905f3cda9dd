// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Degradations of one process: its policy, its connection to the other process, its log, the objects that it reads. */

import type { Revision } from '@tandem/core/ids';
import type { MemberStatus } from '@tandem/datapath/group';
import type { MemberName } from '@tandem/datapath/member';
import type { Logger } from '@tandem/runtime/log';
import { type Degradation, degradation } from './degradation.ts';

export type PolicyOrigin = 'agent' | 'snapshot' | 'none';

export interface ProcessFacts {
  readonly role: MemberName;
  readonly members: readonly MemberStatus[];
  readonly requiredRevision: number;
  readonly policy: { readonly revision: Revision; readonly origin: PolicyOrigin };
  readonly isExchangeConnected: boolean;
  /** Numbers of diagnostics. */
  readonly errors: number;
  readonly warnings: number;
}

export function processDegradations(facts: ProcessFacts): readonly Degradation[] {
  return [...policyProblems(facts), ...exchangeProblem(facts), ...inputProblems(facts)];
}

function policyProblems(facts: ProcessFacts): readonly Degradation[] {
  const { role, policy, requiredRevision } = facts;
  if (policy.revision === 0) {
    return [
      degradation('no-policy', {
        fix:
          role === 'agent'
            ? 'read the diagnostics and the log of the agent'
            : 'start the agent: there is no usable policy snapshot',
      }),
    ];
  }
  const problems: Degradation[] = [];
  // A proxy that is connected received nothing newer: its snapshot is the agent's policy.
  if (policy.origin === 'snapshot' && (role === 'agent' || !facts.isExchangeConnected)) {
    problems.push(
      degradation('snapshot-only', {
        message: `this process serves the policy of the last snapshot, revision ${policy.revision}: it lacks later changes`,
        fix:
          role === 'agent'
            ? 'wait for the first reading of the source, or read the log of the agent'
            : 'start the agent',
      }),
    );
  }
  if (policy.revision < requiredRevision) {
    problems.push(
      degradation('policy-behind', {
        message: `this process serves policy revision ${policy.revision}, and the node requires ${requiredRevision}: the kernel gives queries to the other process`,
      }),
    );
  }
  return problems;
}

/** Only worth a line when both serve: a process that does not is named already. */
function exchangeProblem({ members, isExchangeConnected }: ProcessFacts): readonly Degradation[] {
  const isPeerServing =
    new Set(members.filter(({ isServing }) => isServing).map(({ role }) => role)).size > 1;
  return isExchangeConnected || !isPeerServing ? [] : [degradation('exchange-down')];
}

function inputProblems({ errors, warnings }: ProcessFacts): readonly Degradation[] {
  if (errors === 0) return [];
  const also = warnings > 0 ? ` and ${warnings} warnings` : '';
  return [
    degradation('diagnostics', {
      message: `objects, pods or interfaces have ${errors} errors${also}: each diagnostic names its object and the policy that is enforced meanwhile`,
    }),
  ];
}

/** While the last line of the log could not be written. */
export function logDegradations({
  lost,
  problem,
}: Pick<Logger, 'lost' | 'problem'>): readonly Degradation[] {
  if (problem === '') return [];
  return [
    degradation('log-lost', {
      message: `the log of this process cannot be written (${problem}), and ${lost} lines are lost; policy and DNS are not affected`,
    }),
  ];
}
