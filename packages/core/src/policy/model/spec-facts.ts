// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Facts of a spec that every compilation needs, found once. */

import { namespaceLabelPrefix, namespaceLabelsPrefix, podLabelPrefix } from './labels.ts';
import type { PolicySpec } from './rule.ts';
import type { LabelRequirement, LabelSelector } from './selector.ts';

export interface SpecFacts {
  /** Null: none. */
  readonly asked: NamesAsked | null;
  readonly hasNamedPorts: boolean;
  /** A selector of it reads labels of namespaces, so that these must be known. */
  readonly readsNamespaces: boolean;
  /** It has rules.dns, so that members ask for the pods that it selects. */
  readonly hasDnsRules: boolean;
}

/** Names that one spec asks for. */
export interface NamesAsked {
  readonly labels: ReadonlySet<string>;
  readonly namespaceLabels: ReadonlySet<string>;
  readonly ports: ReadonlySet<string>;
}

const known = new WeakMap<PolicySpec, SpecFacts>();
/** The facts of most specs. */
const plain: SpecFacts = {
  asked: null,
  hasNamedPorts: false,
  readsNamespaces: false,
  hasDnsRules: false,
};

export function specFacts(spec: PolicySpec): SpecFacts {
  let facts = known.get(spec);
  if (facts === undefined) known.set(spec, (facts = find(spec)));
  return facts;
}

function find(spec: PolicySpec): SpecFacts {
  const { rules, subject } = spec;
  const asked = namesOf(spec);
  const hasNamedPorts = rules.some(({ namedPorts }) => namedPorts !== undefined);
  const readsNamespaces =
    reads(subject) ||
    rules.some(
      ({ peers }) =>
        peers !== 'any' && peers.some((peer) => peer.kind === 'labels' && reads(peer.selector)),
    );
  const hasDnsRules = rules.some(
    ({ ports }) => ports !== 'any' && ports.some(({ dns }) => dns !== null),
  );
  const isPlain = asked === null && !hasNamedPorts && !readsNamespaces && !hasDnsRules;
  return isPlain ? plain : { asked, hasNamedPorts, readsNamespaces, hasDnsRules };
}

function reads({ requirements }: LabelSelector): boolean {
  return requirements.some(
    ({ name }) => name.startsWith(namespaceLabelsPrefix) || name.startsWith(namespaceLabelPrefix),
  );
}

function namesOf({ subject, rules }: PolicySpec): NamesAsked | null {
  const names = {
    labels: new Set<string>(),
    namespaceLabels: new Set<string>(),
    ports: new Set<string>(),
  };
  addNames(subject.requirements, podLabelPrefix, names.labels);
  addNames(subject.requirements, namespaceLabelPrefix, names.namespaceLabels);
  for (const { peers, namedPorts = [] } of rules) {
    for (const peer of peers === 'any' ? [] : peers) {
      if (peer.kind !== 'labels') continue;
      addNames(peer.selector.requirements, podLabelPrefix, names.labels);
      addNames(peer.selector.requirements, namespaceLabelPrefix, names.namespaceLabels);
    }
    for (const { name } of namedPorts) names.ports.add(name);
  }
  const isNone = names.labels.size + names.namespaceLabels.size + names.ports.size === 0;
  return isNone ? null : names;
}

function addNames(
  requirements: readonly LabelRequirement[],
  prefix: string,
  names: Set<string>,
): void {
  for (const { name } of requirements) {
    if (name.startsWith(prefix)) names.add(name.slice(prefix.length));
  }
}
