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
import { addressKey } from '../../net/ip.ts';
import type {
  MemberEndpoint,
  MemberPolicy,
  MemberRuleSet,
  MemberServer,
} from '../model/desired.ts';

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
  const trusted = new Set(policy.trustedServers.map((address) => addressKey(address)));
  const names = new ServerNames(policy);
  const candidates = new Map<PolicyId, Set<PolicyId>>();
  for (const before of earlier) {
    const older = new Map(before.policies.map((each) => [each.id, each.predecessors]));
    const change = new NamesChange(names, new ServerNames(before), trusted);
    for (const { endpointId, policyId } of before.endpoints) {
      const id = now.get(endpointId);
      if (id === undefined) continue;
      const found = candidates.get(id) ?? new Set();
      candidates.set(id, found);
      if (change.mayFollow(id, policyId)) {
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

/** Rule set of a server. */
interface Asked {
  readonly address: string;
  readonly ruleSetId: number;
}

/**
 * Names that the policies of one result ask of their servers. Read once: an author chooses how many servers a policy has, and how
 * many names.
 */
class ServerNames {
  readonly #result: Assembled;
  readonly #servers: ReadonlyMap<PolicyId, readonly MemberServer[]>;
  readonly #byServer = new Map<PolicyId, ReadonlyMap<string, Asked>>();
  #ruleSets: ReadonlyMap<number, MemberRuleSet> | null = null;
  readonly #texts = new Map<number, ReadonlySet<string | undefined>>();

  constructor(result: Assembled) {
    this.#result = result;
    this.#servers = new Map(result.policies.map(({ id, servers }) => [id, servers]));
  }

  /** By protocol and address. */
  of(id: PolicyId): ReadonlyMap<string, Asked> {
    let found = this.#byServer.get(id);
    if (found === undefined) {
      const asked = (this.#servers.get(id) ?? []).map(({ server, protocol, ruleSetId }) => {
        const address = addressKey(server);
        return [`${protocol} ${address}`, { address, ruleSetId }] as const;
      });
      this.#byServer.set(id, (found = new Map(asked)));
    }
    return found;
  }

  ruleSet(id: number): MemberRuleSet | undefined {
    this.#ruleSets ??= new Map(this.#result.ruleSets.map((each) => [each.id, each]));
    return this.#ruleSets.get(id);
  }

  textsOf({ id, patternIndexes }: MemberRuleSet): ReadonlySet<string | undefined> {
    let texts = this.#texts.get(id);
    if (texts === undefined) {
      texts = new Set(patternIndexes.map((index) => this.#result.patterns[index]?.text));
      this.#texts.set(id, texts);
    }
    return texts;
  }
}

/** Comparison of the policies of two results, each pair of policies and of rule sets once. */
class NamesChange {
  readonly #now: ServerNames;
  readonly #before: ServerNames;
  readonly #trusted: ReadonlySet<string>;
  readonly #mayFollow = new Map<string, boolean>();
  readonly #asksAtLeast = new Map<string, boolean>();

  constructor(now: ServerNames, before: ServerNames, trusted: ReadonlySet<string>) {
    this.#now = now;
    this.#before = before;
    this.#trusted = trusted;
  }

  /** Whether policy `id` asks each untrusted server of `formerId` for at least the same names. */
  mayFollow(id: PolicyId, formerId: PolicyId): boolean {
    if (id === formerId) return true;
    return remembered(this.#mayFollow, `${id} ${formerId}`, () => {
      const servers = this.#now.of(id);
      return this.#before
        .of(formerId)
        .entries()
        .every(([key, { address, ruleSetId }]) => {
          if (this.#trusted.has(address)) return true;
          const own = servers.get(key);
          return own !== undefined && this.#asks(own.ruleSetId, ruleSetId);
        });
    });
  }

  #asks(ruleSetId: number, formerId: number): boolean {
    if (ruleSetId === formerId) return true;
    return remembered(this.#asksAtLeast, `${ruleSetId} ${formerId}`, () => {
      const names = this.#now.ruleSet(ruleSetId);
      const former = this.#before.ruleSet(formerId);
      if (names === undefined || former === undefined) return false;
      if (names.matchAll) return true;
      return !former.matchAll && this.#before.textsOf(former).isSubsetOf(this.#now.textsOf(names));
    });
  }
}

function remembered(known: Map<string, boolean>, key: string, find: () => boolean): boolean {
  let answer = known.get(key);
  if (answer === undefined) known.set(key, (answer = find()));
  return answer;
}
