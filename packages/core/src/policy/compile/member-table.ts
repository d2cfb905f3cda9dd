// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The content for DNS members, kept from one compilation to the next: a part whose inputs are unchanged is the same object. */

import type { Prefix } from '../../net/ip.ts';
import type { CompileOptions } from '../model/cluster-state.ts';
import type { Compiled, EndpointDesired, MemberEndpoint, MemberPolicy } from '../model/desired.ts';
import { sameAs, samePartsAs } from '../model/same-as.ts';
import type { BuiltPolicies } from './build-policies.ts';
import type { DnsPlan } from './dns-planner.ts';
import {
  type Contribution,
  keptOf,
  keptOfServed,
  type MemberContent,
  MemberContents,
} from './member-contents.ts';
import { type Succession, withPredecessors } from './succession.ts';

export interface MemberInput {
  readonly built: BuiltPolicies;
  readonly endpoints: readonly EndpointDesired[];
  readonly plan: Pick<DnsPlan, 'trusted' | 'backendDigests'>;
  readonly neverLearn: readonly Prefix[];
}

/** A result, and its inputs. */
interface Made {
  readonly from: readonly unknown[];
  readonly value: Succession;
}

export class MemberTable {
  readonly #contents = new MemberContents();
  #members: Made | null = null;
  readonly #endpoints = new WeakMap<EndpointDesired, MemberEndpoint>();

  update(
    { built, endpoints, plan, neverLearn }: MemberInput,
    { revision, retain = [], served }: CompileOptions,
  ): Succession {
    const content = this.#contentOf(built, retain, served);
    const from: readonly unknown[] = [
      ...[content, endpoints, plan.trusted, plan.backendDigests, neverLearn, served],
      // Predecessors: former endpoints, policies and servers.
      ...retain.flatMap(({ members }) => partsOf(members)),
    ];
    const last = this.#members;
    if (last !== null && samePartsAs(last.from, from)) {
      const { members, predecessorsForgotten } = last.value;
      return { members: { ...members, revision }, predecessorsForgotten };
    }
    const assembled = {
      ...content,
      revision,
      endpoints: endpoints.map((each) => this.#memberEndpoint(each)),
      trustedServers: plan.trusted,
      neverLearn,
      backendDigests: plan.backendDigests,
    };
    const made = withPredecessors(assembled, earlierMembers(retain, served));
    const members = last === null ? made.members : sameMembers(last.value.members, made.members);
    const succession = { members, predecessorsForgotten: made.predecessorsForgotten };
    this.#members = { from, value: succession };
    return succession;
  }

  #contentOf(
    built: BuiltPolicies,
    retain: readonly Compiled[],
    served: MemberPolicy | undefined,
  ): MemberContent {
    // What is retained counts where this compilation does not have it, of several the first.
    const known = new Set(built.byId.keys());
    const kept: Contribution[] = [];
    for (const { policies, members } of retain) {
      const missing = [...policies.values()].filter(({ id }) => !known.has(id));
      if (missing.length === 0) continue;
      kept.push(keptOf(missing, members));
      for (const { id } of missing) known.add(id);
    }
    if (served !== undefined) kept.push(keptOfServed(served, known));
    return this.#contents.update(built.all, kept);
  }

  #memberEndpoint(endpoint: EndpointDesired): MemberEndpoint {
    const known = this.#endpoints.get(endpoint);
    if (known !== undefined) return known;
    const { address, endpointId, policyId, namespaceId, pod } = endpoint;
    const { namespace, name } = pod;
    const made = { address, endpointId, policyId, namespaceId, namespace, pod: name };
    this.#endpoints.set(endpoint, made);
    return made;
  }
}

/** All but the revision. */
function partsOf(members: MemberPolicy): readonly unknown[] {
  const { endpoints, patterns, selectors, ruleSets, policies } = members;
  const { trustedServers, neverLearn, backendDigests } = members;
  return [
    ...[endpoints, patterns, selectors, ruleSets, policies],
    ...[trustedServers, neverLearn, backendDigests],
  ];
}

/** The new ones, with the former one's parts where these are equal. */
function sameMembers(former: MemberPolicy, members: MemberPolicy): MemberPolicy {
  return {
    revision: members.revision,
    endpoints: sameAs(former.endpoints, members.endpoints),
    patterns: sameAs(former.patterns, members.patterns),
    selectors: sameAs(former.selectors, members.selectors),
    ruleSets: sameAs(former.ruleSets, members.ruleSets),
    policies: sameAs(former.policies, members.policies),
    trustedServers: sameAs(former.trustedServers, members.trustedServers),
    neverLearn: sameAs(former.neverLearn, members.neverLearn),
    backendDigests: sameAs(former.backendDigests, members.backendDigests),
  };
}

function earlierMembers(
  retain: readonly Compiled[],
  served: MemberPolicy | undefined,
): readonly MemberPolicy[] {
  const earlier = retain.map(({ members }) => members);
  return served === undefined ? earlier : [...earlier, served];
}
