// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The order of checks on a query, for every transport: is it a query, which endpoint sent it, is the endpoint within its
 * rate, is the query well-formed, does policy allow the name, is there room in flight. Bounded work, no allocation.
 */

import {
  type QueryStatus,
  type QueryView,
  queryDrop,
  queryFormErr,
  queryOk,
} from '@tandem/core/dns/query';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import type { EndpointSlot, PolicySlot } from '../policy/owner-slots.ts';
import { roomEndpoint, roomFree, roomNode } from '../policy/query-limits.ts';
import type { QueryFacts } from './facts.ts';
import { type Outcome, outcome } from './outcome.ts';
import { type PolicyLookup, unknownSource } from './policy-lookup.ts';

const {
  forward,
  notAQuery,
  notReady,
  overRate,
  formErr,
  notImp,
  denied,
  overEndpoint,
  overPolicy,
  overNode,
} = outcome;

/**
 * Decides on the query that `query` holds, parsed with `status`. `facts` holds the addresses; it gets the
 * rest for a query that is forwarded or denied. `hasPaid`: the query has taken its token of the rate.
 */
export function decide(
  lookup: PolicyLookup,
  query: QueryView,
  status: QueryStatus,
  facts: QueryFacts,
  nowMs: number,
  hasPaid: boolean,
): Outcome {
  if (status === queryDrop) return notAQuery;
  const { words, client, server, protocol } = facts;
  const flow = lookup.flowOf(words, client, server, protocol, nowMs);
  if (flow < 0) return flow === unknownSource ? outcome.unknownSource : notReady;
  const { flows, limits } = lookup;
  const endpointSlot = flows.endpointSlot[flow]! as EndpointSlot;
  if (!hasPaid && !limits.takeToken(endpointSlot, nowMs)) return overRate;
  if (status !== queryOk) return status === queryFormErr ? formErr : notImp;
  const acceptSet = lookup.acceptSetOf(query);
  facts.flow = flow;
  facts.endpointSlot = endpointSlot;
  facts.policySlot = flows.policySlot[flow]! as PolicySlot;
  facts.policyId = flows.policyId[flow]! as PolicyId;
  facts.namespaceId = flows.namespaceId[flow]! as NamespaceId;
  facts.isTrusted = flows.trusted[flow] === 1;
  facts.acceptSet = acceptSet;
  facts.installs = lookup.installs;
  if (!lookup.isAllowed(flow, acceptSet)) return denied;
  const room = limits.room(endpointSlot, facts.policySlot);
  if (room === roomFree) return forward;
  if (room === roomNode) return overNode;
  return room === roomEndpoint ? overEndpoint : overPolicy;
}

/**
 * Whether a query in flight, which `query` and `facts` hold, may be sent again: the policy that let it pass is
 * still that of the pod, and still allows the name.
 */
export function mayAskAgain(
  lookup: PolicyLookup,
  query: QueryView,
  facts: QueryFacts,
  nowMs: number,
): boolean {
  lookup.begin();
  const { words, client, server, protocol } = facts;
  const flow = lookup.flowOf(words, client, server, protocol, nowMs);
  if (flow < 0) return false;
  const { flows } = lookup;
  const isSame =
    flows.policyId[flow] === facts.policyId && flows.endpointSlot[flow] === facts.endpointSlot;
  return isSame && lookup.isAllowed(flow, lookup.acceptSetOf(query));
}
