// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The error for classes that have more selectors than a node may hold. Authors of policies choose how many selectors match an
 * address and how many addresses differ. The product of both would fill the memory before the budgets of fit-costs.ts count it.
 */

interface Made {
  readonly keys: readonly string[];
}

/** Classes have more selectors than a node may have: there is no result. */
export class ClassOverflow extends Error {
  /**
   * Share of each selector, by its key, in the classes that were made. A class is charged to the selectors of it that are in few other
   * classes, because they tell it apart. Else a policy for all pods would pay for what a tenant's many addresses make of it.
   */
  readonly costs: ReadonlyMap<string, number>;

  constructor(max: number, made: Iterable<Made>) {
    super(`classes have more than ${max} selectors`);
    this.costs = costsOf([...made]);
  }
}

function costsOf(made: readonly Made[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { keys } of made) {
    for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const costs = new Map<string, number>();
  for (const { keys } of made) {
    const parts = keys.reduce((sum, key) => sum + 1 / (counts.get(key) as number), 0);
    for (const key of keys) {
      const part = 1 / (counts.get(key) as number) / parts;
      costs.set(key, (costs.get(key) ?? 0) + keys.length * part);
    }
  }
  return costs;
}
