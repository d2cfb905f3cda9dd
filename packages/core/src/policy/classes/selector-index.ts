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

  /** Adds them to `found`. Called for each label set of the cluster: it allocates no iterators. */
  match(identity: Identity, found: T[]): void {
    collect(this.#others, identity, found);
    if (this.#byLabel.size === 0) return;
    if (this.#byLabel.size < identity.labels.size) {
      this.#byLabel.forEach((byValue, name) => {
        const value = identity.labels.get(name);
        if (value !== undefined) collect(byValue.get(value), identity, found);
      });
    } else {
      identity.labels.forEach((value, name) => {
        collect(this.#byLabel.get(name)?.get(value), identity, found);
      });
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

function collect<T>(bucket: Bucket<T> | undefined, identity: Identity, found: T[]): void {
  if (bucket === undefined || bucket.size === 0) return;
  for (const { selector, item } of bucket) {
    if (selectorMatches(selector, identity)) found.push(item);
  }
}

/** Holds only where a label of this name has one of the values. A reserved identity counts as the value ''. */
function isOfLabels({ source, operator, values }: LabelRequirement): boolean {
  if (operator !== 'In' || source === 'reserved') return false;
  return source === 'k8s' || !values.includes('');
}
