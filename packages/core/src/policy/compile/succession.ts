// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The predecessors of a policy. Answers of servers that are not the cluster's own count for the pod's policy
 * alone (safety rule 4), and a change of policy gives the pod another one: without predecessors,
 * addresses that the pod has learned would be refused after the change.
 *
 * A policy is a predecessor only if all its pods have left it, so that no other pod feeds it any
 * more, and if the successor trusts each of its servers for at least the same names.
 */

import type { EndpointId, PolicyId } from '../../ids.ts';
import { policyPredecessorsMax } from '../../limits.ts';
import { formatAddress } from '../../net/ip.ts';
import type { MemberEndpoint, MemberPolicy, MemberServer } from '../model/desired.ts';

type Policies = MemberPolicy['policies'];
type Assembled = Omit<MemberPolicy, 'policies'> & {
  readonly policies: readonly Omit<Policies[number], 'predecessors'>[];
};

export interface Succession {
  readonly members: MemberPolicy;
  /** Predecessors over `policyPredecessorsMax`: addresses that pods learned under those are refused. */
  readonly predecessorsForgotten: number;
}

/** `earlier`: policies that members had before, newest first. */
export function withPredecessors(policy: Assembled, earlier: readonly MemberPolicy[]): Succession {
  const inUse = new Set(policy.endpoints.map(({ policyId }) => policyId));
  const now = policyOfEndpoints(policy.endpoints);
  const candidates = new Map<PolicyId, Set<PolicyId>>();
  for (const before of earlier) {
    const older = new Map(before.policies.map((each) => [each.id, each.predecessors]));
    for (const { endpointId, policyId } of before.endpoints) {
      const id = now.get(endpointId);
      if (id === undefined) continue;
      const found = candidates.get(id) ?? new Set();
      candidates.set(id, found);
      if (mayFollow(policy, id, before, policyId)) {
        for (const each of [policyId, ...(older.get(policyId) ?? [])]) found.add(each);
      }
    }
  }
  let predecessorsForgotten = 0;
  const policies: Policies = policy.policies.map(({ id, ...rest }) => {
    const found = [...(candidates.get(id) ?? [])].filter((each) => each !== id && !inUse.has(each));
    predecessorsForgotten += Math.max(0, found.length - policyPredecessorsMax);
    return { id, ...rest, predecessors: found.slice(0, policyPredecessorsMax) };
  });
  return { members: { ...policy, policies }, predecessorsForgotten };
}

function policyOfEndpoints(
  endpoints: readonly MemberEndpoint[],
): ReadonlyMap<EndpointId, PolicyId> {
  return new Map(endpoints.map(({ endpointId, policyId }) => [endpointId, policyId]));
}

/** Whether policy `id` asks each untrusted server of `formerId` for at least the same names. */
function mayFollow(
  policy: Assembled,
  id: PolicyId,
  before: MemberPolicy,
  formerId: PolicyId,
): boolean {
  if (id === formerId) return true;
  const trusted = new Set(policy.trustedServers.map((address) => formatAddress(address)));
  const servers = policy.policies.find((each) => each.id === id)?.servers ?? [];
  const former = before.policies.find((each) => each.id === formerId)?.servers ?? [];
  return former.every((server) => {
    if (trusted.has(formatAddress(server.server))) return true;
    const match = servers.find((each) => isSameServer(each, server));
    return match !== undefined && asksAtLeast(policy, match, before, server);
  });
}

function isSameServer(left: MemberServer, right: MemberServer): boolean {
  return (
    left.protocol === right.protocol && formatAddress(left.server) === formatAddress(right.server)
  );
}

function asksAtLeast(
  policy: Assembled,
  { ruleSetId }: MemberServer,
  before: MemberPolicy,
  former: MemberServer,
): boolean {
  if (ruleSetId === former.ruleSetId) return true;
  const names = policy.ruleSets.find(({ id }) => id === ruleSetId);
  const formerNames = before.ruleSets.find(({ id }) => id === former.ruleSetId);
  if (names === undefined || formerNames === undefined) return false;
  if (names.matchAll) return true;
  if (formerNames.matchAll) return false;
  const texts = new Set(names.patternIndexes.map((index) => policy.patterns[index]?.text));
  return formerNames.patternIndexes.every((index) => texts.has(before.patterns[index]?.text));
}
