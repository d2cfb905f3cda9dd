// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The bound of what classes are made of. A class is a set of selectors, and authors of policies choose how many selectors match one
 * address, and how many addresses are told apart: without a bound, the product of both is in memory before anything is counted.
 */

/** Classes have more selectors than a node may have: there is no result. */
export class ClassOverflow extends Error {
  /** Classes that each selector is in, by its key; of those that were made. */
  readonly classesOf: ReadonlyMap<string, number>;

  constructor(max: number, made: Iterable<{ readonly keys: readonly string[] }>) {
    super(`classes have more than ${max} selectors`);
    const classesOf = new Map<string, number>();
    for (const { keys } of made) {
      for (const key of keys) classesOf.set(key, (classesOf.get(key) ?? 0) + 1);
    }
    this.classesOf = classesOf;
  }
}
