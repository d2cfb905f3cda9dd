// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The policies' content for DNS members. Patterns, selectors and rule sets are collected from all policies of the node and
 * written once each, as long as one of them has it; policies of earlier results stay as long as an endpoint may still have
 * their id (docs/security.md, safety rule 12). A list whose parts did not change is the same object as before.
 */

import { assert } from '../../assert.ts';
import type { Pattern } from '../../dns/pattern.ts';
import type { PolicyId } from '../../ids.ts';
import type {
  CompiledPolicy,
  MemberPolicy,
  MemberPolicyEntry,
  MemberRuleSet,
  MemberSelector,
  MemberServer,
} from '../model/desired.ts';
import { RefTable } from '../model/ref-table.ts';
import { sameAs, samePartsAs } from '../model/same-as.ts';
import type { BuiltPolicy, BuiltSelector } from './build-policies.ts';

/** Without what policies took the place of. */
export type MemberContent = Pick<MemberPolicy, 'patterns' | 'selectors' | 'ruleSets'> & {
  readonly policies: readonly Omit<MemberPolicyEntry, 'predecessors'>[];
};

/** Content of one policy, or of an earlier result that is kept. */
export interface Contribution {
  readonly selectors: readonly BuiltSelector[];
  readonly ruleSets: readonly RuleSet[];
  readonly policies: readonly OwnPolicy[];
}

interface RuleSet {
  readonly id: number;
  readonly matchAll: boolean;
  readonly patterns: readonly Pattern[];
}

interface OwnPolicy {
  readonly id: PolicyId;
  readonly servers: readonly MemberServer[];
  /** The names whose addresses its rules allow. */
  readonly fqdns: readonly Pattern[];
}

export class MemberContents {
  readonly #patterns = new RefTable<string, Pattern>();
  readonly #selectors = new RefTable<number, BuiltSelector>();
  readonly #ruleSets = new RefTable<number, RuleSet>();
  #policies: readonly OwnPolicy[] = [];
  #built: ReadonlyMap<BuiltPolicy, Contribution> = new Map();
  #kept: readonly Contribution[] = [];
  #indexOf: ReadonlyMap<string, number> = new Map();
  #content: MemberContent = { patterns: [], selectors: [], ruleSets: [], policies: [] };

  /** With these policies of this compilation, and `kept` of others. The same object while it is the same. */
  update(built: readonly BuiltPolicy[], kept: readonly Contribution[]): MemberContent {
    const former = this.#built;
    const now = new Map<BuiltPolicy, Contribution>();
    for (const each of built) {
      const known = former.get(each);
      const contribution = known ?? contributionOf(each);
      now.set(each, contribution);
      if (known === undefined) this.#add(contribution);
    }
    for (const each of kept) this.#add(each);
    for (const [each, contribution] of former) if (!now.has(each)) this.#remove(contribution);
    for (const each of this.#kept) this.#remove(each);
    this.#built = now;
    this.#kept = kept;
    return this.#write([...now.values(), ...kept].flatMap(({ policies }) => policies));
  }

  #add({ selectors, ruleSets, policies }: Contribution): void {
    for (const each of selectors) if (this.#selectors.use(each.id, each)) this.#use([each.pattern]);
    for (const each of ruleSets) if (this.#ruleSets.use(each.id, each)) this.#use(each.patterns);
    for (const { servers, fqdns } of policies) {
      this.#use(fqdns);
      const areThere = servers.every(({ ruleSetId }) => this.#ruleSets.has(ruleSetId));
      assert(areThere, 'rule sets come before their servers');
    }
  }

  #remove({ selectors, ruleSets, policies }: Contribution): void {
    for (const { fqdns } of policies) this.#release(fqdns);
    for (const { id } of ruleSets) this.#release(this.#ruleSets.release(id)?.patterns ?? []);
    for (const { id } of selectors) {
      const gone = this.#selectors.release(id);
      if (gone !== null) this.#release([gone.pattern]);
    }
  }

  #use(patterns: readonly Pattern[]): void {
    for (const pattern of patterns) this.#patterns.use(keyOf(pattern), pattern);
  }

  #release(patterns: readonly Pattern[]): void {
    for (const pattern of patterns) this.#patterns.release(keyOf(pattern));
  }

  #write(own: readonly OwnPolicy[]): MemberContent {
    const former = this.#content;
    const arePatterns = this.#patterns.takeMoved();
    let { patterns } = former;
    if (arePatterns) {
      const sorted = [...this.#patterns.entries()].sort(([left], [right]) =>
        left < right ? -1 : 1,
      );
      patterns = sorted.map(([, pattern]) => pattern);
      this.#indexOf = new Map(sorted.map(([key], index) => [key, index]));
    }
    const areSelectors = this.#selectors.takeMoved() || arePatterns;
    const areRuleSets = this.#ruleSets.takeMoved() || arePatterns;
    const arePolicies = arePatterns || !samePartsAs(this.#policies, own);
    this.#policies = own;
    if (!areSelectors && !areRuleSets && !arePolicies) return former;
    const content = {
      patterns,
      selectors: areSelectors ? this.#writeSelectors() : former.selectors,
      ruleSets: areRuleSets ? this.#writeRuleSets() : former.ruleSets,
      policies: arePolicies ? this.#writePolicies() : former.policies,
    };
    // A content that came and went may leave the former one.
    this.#content = {
      patterns: sameAs(former.patterns, content.patterns),
      selectors: sameAs(former.selectors, content.selectors),
      ruleSets: sameAs(former.ruleSets, content.ruleSets),
      policies: sameAs(former.policies, content.policies),
    };
    return this.#content;
  }

  #writeSelectors(): readonly MemberSelector[] {
    return Array.from(
      this.#selectors.values(),
      ({ id, pattern, policyId }): MemberSelector => ({
        id,
        patternIndex: this.#index(pattern),
        policyId,
      }),
    ).sort(byId);
  }

  #writeRuleSets(): readonly MemberRuleSet[] {
    return Array.from(
      this.#ruleSets.values(),
      ({ id, patterns, matchAll }): MemberRuleSet => ({
        id,
        patternIndexes: patterns.map((each) => this.#index(each)).sort(ascending),
        matchAll,
      }),
    ).sort(byId);
  }

  #writePolicies(): MemberContent['policies'] {
    const policies = this.#policies.map(({ id, servers, fqdns }) => {
      const indexes = new Set(fqdns.map((each) => this.#index(each)));
      return { id, servers, fqdnPatterns: [...indexes].sort(ascending) };
    });
    return policies.sort(byId);
  }

  #index(pattern: Pattern): number {
    return this.#indexOf.get(keyOf(pattern)) ?? -1;
  }
}

function contributionOf({
  policy,
  servers,
  selectors,
  ruleSets,
  fqdns,
}: BuiltPolicy): Contribution {
  // One for each server: a policy may have thousands, with thousands of names, and few sets.
  const distinct = new Map(ruleSets.map(({ id, names }) => [id, names]));
  return {
    selectors,
    ruleSets: Array.from(distinct, ([id, { matchAll, patterns }]) => ({
      id,
      matchAll,
      patterns: [...patterns.values()],
    })),
    policies: [{ id: policy.id, servers, fqdns }],
  };
}

/** Policies of an earlier result that a later one does not have. */
export function keptOf(policies: readonly CompiledPolicy[], earlier: MemberPolicy): Contribution {
  const wanted = new Set(policies.map(({ id }) => id));
  const selectorIds = new Set(
    policies.flatMap(({ rules }) => rules.flatMap(({ fqdnSelectors }) => fqdnSelectors)),
  );
  const selectors = earlier.selectors.filter(({ id }) => selectorIds.has(id));
  assert(
    selectors.length === selectorIds.size,
    'an earlier result has the selectors of its policies',
  );
  return contributionFrom(earlier, wanted, selectors);
}

/**
 * All that members serve now, where nothing else is known of it (an agent that has just started): an endpoint may have
 * any of these policies until it gets its new one. `known`: policies that there are anyway.
 */
export function keptOfServed(served: MemberPolicy, known: ReadonlySet<PolicyId>): Contribution {
  const wanted = new Set(served.policies.map(({ id }) => id).filter((id) => !known.has(id)));
  return contributionFrom(served, wanted, served.selectors);
}

function contributionFrom(
  earlier: MemberPolicy,
  policyIds: ReadonlySet<PolicyId>,
  selectors: readonly MemberSelector[],
): Contribution {
  const patternAt = (index: number): Pattern => {
    const pattern = earlier.patterns[index];
    assert(pattern !== undefined, 'an earlier result is consistent');
    return pattern;
  };
  const policies = earlier.policies.filter(({ id }) => policyIds.has(id));
  const ruleSetIds = new Set(
    policies.flatMap(({ servers }) => servers.map(({ ruleSetId }) => ruleSetId)),
  );
  const ruleSets = earlier.ruleSets.filter(({ id }) => ruleSetIds.has(id));
  assert(
    ruleSets.length === ruleSetIds.size,
    'an earlier result has the rule sets of its policies',
  );
  return {
    selectors: selectors.map(({ id, patternIndex, policyId }) => ({
      id,
      pattern: patternAt(patternIndex),
      policyId,
    })),
    ruleSets: ruleSets.map(({ id, patternIndexes, matchAll }) => ({
      id,
      matchAll,
      patterns: patternIndexes.map(patternAt),
    })),
    policies: policies.map(({ id, servers, fqdnPatterns }) => ({
      id,
      servers,
      fqdns: fqdnPatterns.map(patternAt),
    })),
  };
}

const keys = new WeakMap<Pattern, string>();

function keyOf(pattern: Pattern): string {
  let key = keys.get(pattern);
  if (key === undefined) keys.set(pattern, (key = `${pattern.context} ${pattern.text}`));
  return key;
}

function byId(left: { readonly id: number }, right: { readonly id: number }): number {
  return left.id - right.id;
}

function ascending(left: number, right: number): number {
  return left - right;
}
