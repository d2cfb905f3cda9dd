// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The bound of FQDN selectors of all policies of a node, checked before they are made. Each selector takes an id and at least one entry
 * of the kernel's `policy`. Pods with different sets of policies have a compiled policy each, with all names of a policy that selects them all.
 */

import { policyEntriesMax } from '../../limits.ts';
import type { PolicyDraft } from '../model/policy-set.ts';

/** A policy before it has ids. */
interface Planned {
  readonly draft: PolicyDraft;
  /** Each of its names has a selector of its own beside the shared one. */
  readonly isPrivate: boolean;
}

export class SelectorOverflow extends Error {
  /** Selectors that are due to each object, as `formatPolicyRef` names it. */
  readonly costs: ReadonlyMap<string, number>;

  constructor(planned: readonly Planned[]) {
    super(`policies have more than ${policyEntriesMax} FQDN selectors`);
    const costs = new Map<string, number>();
    for (const { draft, isPrivate } of planned) {
      for (const { subject, statements } of draft.specs) {
        const names = statements.reduce((sum, { fqdns }) => sum + fqdns.length, 0);
        const count = names * (isPrivate ? 2 : 1);
        if (count > 0) costs.set(subject, (costs.get(subject) ?? 0) + count);
      }
    }
    this.costs = costs;
  }
}

const known = new WeakMap<Planned, number>();

/** @throws SelectorOverflow */
export function checkSelectors(planned: readonly Planned[]): void {
  const count = planned.reduce((sum, each) => sum + selectorsOf(each), 0);
  if (count > policyEntriesMax) throw new SelectorOverflow(planned);
}

function selectorsOf(planned: Planned): number {
  let count = known.get(planned);
  if (count === undefined) {
    const { draft, isPrivate } = planned;
    const texts = new Set(draft.statements.flatMap(({ fqdns }) => fqdns.map(({ text }) => text)));
    count = texts.size * (isPrivate ? 2 : 1);
    known.set(planned, count);
  }
  return count;
}
