// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which of many label selectors match an identity, without asking each: a selector is found by one label that it
 * requires, the one that fewest others are found by. Those that require no certain label are asked every time.
 */

import type { Identity } from '../model/labels.ts';
import { type LabelRequirement, type LabelSelector, selectorMatches } from '../model/selector.ts';

interface Entry<T> {
  readonly selector: LabelSelector;
  readonly item: T;
}

type Bucket<T> = Set<Entry<T>>;

export class SelectorIndex<T> {
  /** By name and value of a label. */
  readonly #byLabel = new Map<string, Map<string, Bucket<T>>>();
  readonly #others: Bucket<T> = new Set();
  readonly #places = new Map<T, readonly (readonly [Bucket<T>, Entry<T>])[]>();

  get size(): number {
    return this.#places.size;
  }

  /** `item` is there once at most. */
  add(selector: LabelSelector, item: T): void {
    const entry = { selector, item };
    const buckets = this.#bucketsFor(selector);
    for (const bucket of buckets) bucket.add(entry);
    this.#places.set(
      item,
      buckets.map((bucket) => [bucket, entry]),
    );
  }

  delete(item: T): void {
    for (const [bucket, entry] of this.#places.get(item) ?? []) bucket.delete(entry);
    this.#places.delete(item);
  }

  /** Each once, in no certain order. */
  matching(identity: Identity): T[] {
    const found: T[] = [];
    this.match(identity, found);
    return found;
  }

  /** Adds them to `found`. */
  match(identity: Identity, found: T[]): void {
    const collect = (bucket: Bucket<T> | undefined): void => {
      if (bucket === undefined) return;
      for (const { selector, item } of bucket) {
        if (selectorMatches(selector, identity)) found.push(item);
      }
    };
    collect(this.#others);
    if (this.#byLabel.size < identity.labels.size) {
      for (const [name, byValue] of this.#byLabel) {
        const value = identity.labels.get(name);
        if (value !== undefined) collect(byValue.get(value));
      }
    } else {
      for (const [name, value] of identity.labels) collect(this.#byLabel.get(name)?.get(value));
    }
  }

  /** A label has one value, so an entry is met in one of its buckets only. */
  #bucketsFor({ requirements }: LabelSelector): readonly Bucket<T>[] {
    let best: readonly Bucket<T>[] | null = null;
    let bestSize = Infinity;
    for (const requirement of requirements) {
      if (!isOfLabels(requirement)) continue;
      const buckets = requirement.values.map((value) => this.#bucket(requirement.name, value));
      const size = buckets.reduce((sum, bucket) => sum + bucket.size, 0);
      if (size >= bestSize) continue;
      best = buckets;
      bestSize = size;
    }
    return best ?? [this.#others];
  }

  #bucket(name: string, value: string): Bucket<T> {
    let byValue = this.#byLabel.get(name);
    if (byValue === undefined) this.#byLabel.set(name, (byValue = new Map()));
    let bucket = byValue.get(value);
    if (bucket === undefined) byValue.set(value, (bucket = new Set()));
    return bucket;
  }
}

/** Holds only where a label of this name has one of the values. A reserved identity counts as the value ''. */
function isOfLabels({ source, operator, values }: LabelRequirement): boolean {
  if (operator !== 'In' || source === 'reserved') return false;
  return source === 'k8s' || !values.includes('');
}
