// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * All specs of the cluster, and which policy each pod of this node gets by them. A policy that changes is asked about
 * the pods that are known, a pod that comes about the specs that may mean it.
 */

import { MapFollower } from '../../change-map.ts';
import type { Pod } from '../../k8s/objects.ts';
import type { LocalPod } from '../classes/address-owners.ts';
import { SelectorIndex } from '../classes/selector-index.ts';
import type { ClusterState, PolicyState } from '../model/cluster-state.ts';
import type { Diagnostic } from '../model/desired.ts';
import {
  type AskedOfPods,
  type Identity,
  podIdentity,
  podNamespaceLabel,
} from '../model/labels.ts';
import { askedOfPods, namesAsked, numbersText } from '../model/named-ports.ts';
import {
  activeSpecs,
  draftPolicy,
  type PolicyDraft,
  type SpecInForce,
  specsInForce,
} from '../model/policy-set.ts';
import type { PortNumbers } from '../model/port-numbers.ts';
import { type LabelSelector, selectorMatches } from '../model/selector.ts';
import { type NamesAsked, specFacts } from '../model/spec-facts.ts';
import { policyDiagnostics } from './compile-diagnostics.ts';

interface Selected {
  readonly specs: ReadonlySet<SpecInForce>;
  readonly draft: PolicyDraft;
}

export class SpecTable {
  readonly #policies = new MapFollower<PolicyState>();
  readonly #specs = new Map<string, readonly SpecInForce[]>();
  readonly #index = new SelectorIndex<SpecInForce>();
  /** Names that policies ask of pods, for the policies that ask for some. */
  readonly #asking = new Map<string, readonly NamesAsked[]>();
  /** Diagnostics of the policies that have some. */
  readonly #diagnostics = new Map<string, readonly Diagnostic[]>();
  readonly #moved = new Set<SpecInForce>();
  #namespaceReaders = 0;
  #specsWithDns = 0;
  #numbers = '';
  #asked: AskedOfPods = {
    ...{ labels: new Set(), namespaceLabels: new Set() },
    ...{ numbers: new Map(), namespaces: new Map() },
  };
  readonly #selected = new Map<Identity, Selected>();
  #drafts: readonly PolicyDraft[] = [];

  /** Whether some selector reads labels of namespaces. */
  get readsNamespaces(): boolean {
    return this.#namespaceReaders > 0;
  }

  /** Whether some policy of the cluster has DNS rules. */
  get hasDnsRules(): boolean {
    return this.#specsWithDns > 0;
  }

  /** Updates the table to these policies; returns their questions about pods. */
  update(
    { policies, namespaces }: Pick<ClusterState, 'policies' | 'namespaces'>,
    ports: PortNumbers,
  ): AskedOfPods {
    const changed = new Set(this.#policies.follow(policies).keys());
    for (const key of changed) this.#note(key, policies.get(key));
    if (changed.size === 0 && this.#asking.size === 0) return this.#asked;
    const asked = askedOfPods([...this.#asking.values()].flat(), ports, namespaces);
    const numbers = numbersText(asked);
    if (numbers !== this.#numbers) {
      // Specs with named ports depend on the numbers that pods have for them.
      for (const [key, names] of this.#asking) {
        if (names.some((each) => each.ports.size > 0)) changed.add(key);
      }
    }
    this.#numbers = numbers;
    this.#asked = asked;
    for (const key of changed) this.#setPolicy(key, policies.get(key));
    return asked;
  }

  /** Invalid policies with what stands in for them, and legal oddities. */
  diagnostics(): readonly Diagnostic[] {
    return [...this.#diagnostics.values()].flat();
  }

  /** The policy of each pod, and each policy once, in an order that depends on contents alone. */
  draft(localPods: readonly LocalPod[]): {
    readonly draftOf: (local: LocalPod) => PolicyDraft;
    readonly drafts: readonly PolicyDraft[];
  } {
    this.#forgetMoved(new Set(localPods.map(({ identity }) => identity)));
    const byContent = new Map<string, PolicyDraft>();
    // A pod that comes in another one's place has its policy.
    for (const draft of this.#drafts) byContent.set(draft.content, draft);
    for (const { draft } of this.#selected.values()) byContent.set(draft.content, draft);
    for (const { identity } of localPods) {
      if (this.#selected.has(identity)) continue;
      const specs = this.#index.matching(identity);
      const fresh = draftPolicy(activeSpecs(specs));
      const draft = byContent.get(fresh.content) ?? fresh;
      byContent.set(draft.content, draft);
      this.#selected.set(identity, { specs: new Set(specs), draft });
    }
    const used = [...new Set([...this.#selected.values()].map(({ draft }) => draft))];
    used.sort((left, right) => (left.content < right.content ? -1 : 1));
    if (!areSame(used, this.#drafts)) this.#drafts = used;
    const draftOf = ({ identity }: LocalPod): PolicyDraft =>
      (this.#selected.get(identity) as Selected).draft;
    return { draftOf, drafts: this.#drafts };
  }

  /** Whether a policy may mean a pod of which only the name and the namespace are certain. */
  maySelect(pod: Pod): boolean {
    const identity = podIdentity({ ...pod, labels: new Map() }, undefined, '');
    for (const specs of this.#specs.values()) {
      const mayMean = specs.some(({ spec }) =>
        selectorMatches(namespacesOf(spec.subject), identity),
      );
      if (mayMean) return true;
    }
    return false;
  }

  #note(key: string, state: PolicyState | undefined): void {
    const names = state === undefined ? [] : namesAsked(state);
    if (names.length === 0) this.#asking.delete(key);
    else this.#asking.set(key, names);
    const diagnostics = state === undefined ? [] : policyDiagnostics(state);
    if (diagnostics.length === 0) this.#diagnostics.delete(key);
    else this.#diagnostics.set(key, diagnostics);
  }

  #setPolicy(key: string, state: PolicyState | undefined): void {
    for (const each of this.#specs.get(key) ?? []) {
      this.#index.delete(each);
      this.#moved.add(each);
      this.#count(each, -1);
    }
    this.#specs.delete(key);
    if (state === undefined) return;
    const specs = specsInForce(state, this.#asked);
    this.#specs.set(key, specs);
    for (const each of specs) {
      this.#index.add(each.spec.subject, each);
      this.#moved.add(each);
      this.#count(each, 1);
    }
  }

  #count({ spec }: SpecInForce, step: 1 | -1): void {
    const { readsNamespaces, hasDnsRules } = specFacts(spec);
    if (readsNamespaces) this.#namespaceReaders += step;
    if (hasDnsRules) this.#specsWithDns += step;
  }

  /** Pods that changed specs select, or selected, are asked about again; so is who comes back. */
  #forgetMoved(present: ReadonlySet<Identity>): void {
    const moved = [...this.#moved];
    this.#moved.clear();
    for (const [identity, { specs }] of this.#selected) {
      const isStale = (each: SpecInForce): boolean =>
        specs.has(each) || selectorMatches(each.spec.subject, identity);
      if (!present.has(identity) || moved.some(isStale)) this.#selected.delete(identity);
    }
  }
}

/** The part of a selector that names namespaces. */
function namespacesOf({ requirements }: LabelSelector): LabelSelector {
  return { requirements: requirements.filter(({ name }) => name === podNamespaceLabel) };
}

function areSame(left: readonly unknown[], right: readonly unknown[]): boolean {
  return left.length === right.length && left.every((each, i) => each === right[i]);
}
