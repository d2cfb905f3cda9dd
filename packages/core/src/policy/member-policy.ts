// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Assembles what the DNS members need. Patterns, selectors and rule sets are collected from all policies
 * of the node and written once each; policies of earlier results stay as long as an endpoint may still
 * have their id (architecture.md, safety rule 12).
 */
import { assert } from '../assert.ts';
import type { Pattern } from '../dns/pattern.ts';
import type {
  CompiledPolicy,
  MemberEndpoint,
  MemberPolicy,
  MemberPolicyEntry,
  MemberRuleSet,
  MemberSelector,
  MemberServer,
} from './desired.ts';
import { type Succession, withPredecessors } from './succession.ts';

interface RuleSetContent {
  readonly matchAll: boolean;
  readonly patterns: readonly Pattern[];
}

interface PolicyContent {
  readonly servers: readonly MemberServer[];
  readonly fqdns: readonly Pattern[];
}

interface SelectorContent {
  readonly pattern: Pattern;
  readonly policyId: number;
}

export class MemberPolicyBuilder {
  #patterns = new Map<string, Pattern>();
  #selectors = new Map<number, SelectorContent>();
  #ruleSets = new Map<number, RuleSetContent>();
  #policies = new Map<number, PolicyContent>();

  clone(): MemberPolicyBuilder {
    const copy = new MemberPolicyBuilder();
    copy.#patterns = new Map(this.#patterns);
    copy.#selectors = new Map(this.#selectors);
    copy.#ruleSets = new Map(this.#ruleSets);
    copy.#policies = new Map(this.#policies);
    return copy;
  }

  /** `policyId` 0: shared. */
  addSelector(id: number, pattern: Pattern, policyId: number): void {
    this.#selectors.set(id, { pattern: this.#intern(pattern), policyId });
  }

  addRuleSet(id: number, matchAll: boolean, patterns: Iterable<Pattern>): void {
    if (this.#ruleSets.has(id)) return;
    const interned = [...patterns].map((pattern) => this.#intern(pattern));
    this.#ruleSets.set(id, { matchAll, patterns: interned });
  }

  /** `fqdns`: the names whose addresses its rules allow. */
  addPolicy(id: number, servers: readonly MemberServer[], fqdns: Iterable<Pattern>): void {
    for (const { ruleSetId } of servers) {
      assert(this.#ruleSets.has(ruleSetId), 'rule sets come before their servers');
    }
    this.#policies.set(id, { servers, fqdns: [...fqdns].map((each) => this.#intern(each)) });
  }

  /** Keeps those policies of an earlier result that this one does not have. */
  retain(policies: Iterable<CompiledPolicy>, earlier: MemberPolicy): void {
    const content = contentOf(earlier);
    for (const policy of policies) {
      if (this.#policies.has(policy.id)) continue;
      for (const id of policy.rules.flatMap(({ fqdnSelectors }) => fqdnSelectors)) {
        const selector = content.selectors.get(id);
        assert(selector !== undefined, 'an earlier result has the selectors of its policies');
        this.addSelector(id, content.patternAt(selector.patternIndex), selector.policyId);
      }
      this.#retainPolicy(policy.id, content);
    }
  }

  /**
   * Keeps all that members serve now, where nothing else is known of it (an agent that has just started): an
   * endpoint may have any of these policies until it gets its new one.
   */
  retainServed(served: MemberPolicy): void {
    const content = contentOf(served);
    for (const { id, patternIndex, policyId } of served.selectors) {
      if (!this.#selectors.has(id)) this.addSelector(id, content.patternAt(patternIndex), policyId);
    }
    for (const { id } of served.policies) {
      if (!this.#policies.has(id)) this.#retainPolicy(id, content);
    }
  }

  #retainPolicy(policyId: number, { policies, ruleSets, patternAt }: Content): void {
    const { servers: own = [], fqdnPatterns = [] } = policies.get(policyId) ?? {};
    for (const { ruleSetId } of own) {
      const ruleSet = ruleSets.get(ruleSetId);
      assert(ruleSet !== undefined, 'an earlier result has the rule sets of its policies');
      this.addRuleSet(ruleSetId, ruleSet.matchAll, ruleSet.patternIndexes.map(patternAt));
    }
    this.addPolicy(policyId, own, fqdnPatterns.map(patternAt));
  }

  /** `earlier`: what members were told before, newest first. */
  build(
    rest: Pick<MemberPolicy, 'revision' | 'trustedServers' | 'neverLearn' | 'backendDigests'> & {
      readonly endpoints: readonly MemberEndpoint[];
    },
    earlier: readonly MemberPolicy[],
  ): Succession {
    const patterns = [...this.#patterns].sort(([left], [right]) => (left < right ? -1 : 1));
    const indexOf = new Map(patterns.map(([key], index) => [key, index]));
    const index = (pattern: Pattern): number => indexOf.get(patternKey(pattern)) ?? -1;
    const selectors = [...this.#selectors].map(
      ([id, { pattern, policyId }]): MemberSelector => ({
        id,
        patternIndex: index(pattern),
        policyId,
      }),
    );
    const ruleSets = [...this.#ruleSets].map(
      ([id, ruleSet]): MemberRuleSet => ({
        id,
        patternIndexes: ruleSet.patterns.map(index).sort((left, right) => left - right),
        matchAll: ruleSet.matchAll,
      }),
    );
    const assembled = {
      revision: rest.revision,
      endpoints: rest.endpoints,
      patterns: patterns.map(([, pattern]) => pattern),
      selectors: selectors.sort(byId),
      ruleSets: ruleSets.sort(byId),
      policies: [...this.#policies]
        .map(([id, { servers, fqdns }]) => {
          const fqdnPatterns = [...new Set(fqdns.map(index))].sort((left, right) => left - right);
          return { id, servers, fqdnPatterns };
        })
        .sort(byId),
      trustedServers: rest.trustedServers,
      neverLearn: rest.neverLearn,
      backendDigests: rest.backendDigests,
    };
    return withPredecessors(assembled, earlier);
  }

  #intern(pattern: Pattern): Pattern {
    const key = patternKey(pattern);
    const known = this.#patterns.get(key);
    if (known !== undefined) return known;
    this.#patterns.set(key, pattern);
    return pattern;
  }
}

/** An earlier result by its ids. */
interface Content {
  readonly selectors: ReadonlyMap<number, MemberSelector>;
  readonly ruleSets: ReadonlyMap<number, MemberRuleSet>;
  readonly policies: ReadonlyMap<number, MemberPolicyEntry>;
  readonly patternAt: (index: number) => Pattern;
}

function contentOf({ selectors, ruleSets, policies, patterns }: MemberPolicy): Content {
  return {
    selectors: new Map(selectors.map((selector) => [selector.id, selector])),
    ruleSets: new Map(ruleSets.map((ruleSet) => [ruleSet.id, ruleSet])),
    policies: new Map(policies.map((policy) => [policy.id, policy])),
    patternAt: (index) => {
      const pattern = patterns[index];
      assert(pattern !== undefined, 'an earlier result is consistent');
      return pattern;
    },
  };
}

function patternKey({ context, text }: Pattern): string {
  return `${context} ${text}`;
}

function byId(left: { readonly id: number }, right: { readonly id: number }): number {
  return left.id - right.id;
}
