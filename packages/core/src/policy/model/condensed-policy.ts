// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Policies whose rules are kept in memory only while they are in use. Of a cluster's policies few select a pod of this
 * node, and rules as objects take ten times what their text takes: a reader of another one has them parsed again.
 */

import { assert } from '../../assert.ts';
import type { Policy, PolicyRule, PolicySpec, SpecTier } from './rule.ts';
import { specFacts } from './spec-facts.ts';

/** The same policy; `read` gives it again, whole, whenever it is called. */
export function condensed(policy: Policy, read: () => Policy): Policy {
  const rules = new RuleText(policy, read);
  const specs = policy.specs.map((spec, index) => {
    const made = new CondensedSpec(spec, index, rules);
    // What each compilation asks of each policy is found while the rules are there.
    specFacts(made);
    return made;
  });
  return { ref: policy.ref, specs, warnings: policy.warnings };
}

class CondensedSpec implements PolicySpec {
  readonly subject: PolicySpec['subject'];
  readonly hasIngress: boolean;
  readonly hasEgress: boolean;
  readonly denyIngress: boolean;
  readonly denyEgress: boolean;
  readonly tier?: SpecTier;
  readonly #index: number;
  readonly #rules: RuleText;

  constructor(spec: PolicySpec, index: number, rules: RuleText) {
    this.subject = spec.subject;
    this.hasIngress = spec.hasIngress;
    this.hasEgress = spec.hasEgress;
    this.denyIngress = spec.denyIngress;
    this.denyEgress = spec.denyEgress;
    if (spec.tier !== undefined) this.tier = spec.tier;
    this.#index = index;
    this.#rules = rules;
  }

  get rules(): readonly PolicyRule[] {
    return this.#rules.of(this.#index);
  }
}

class RuleText {
  readonly #read: () => Policy;
  #policy: WeakRef<Policy>;

  constructor(policy: Policy, read: () => Policy) {
    this.#read = read;
    this.#policy = new WeakRef(policy);
  }

  of(index: number): readonly PolicyRule[] {
    let policy = this.#policy.deref();
    if (policy === undefined) this.#policy = new WeakRef((policy = this.#read()));
    const spec = policy.specs[index];
    assert(spec !== undefined, 'what is read again is the same policy');
    return spec.rules;
  }
}
