// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A set of keys, `NAMESPACE/NAME`, from which namespaces take turns; within one the oldest comes first. */
export class TurnSet {
  /** The namespace whose turn it is comes first. None is empty. */
  readonly #byNamespace = new Map<string, Set<string>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(key: string): boolean {
    return this.#byNamespace.get(namespaceOf(key))?.has(key) === true;
  }

  add(key: string): void {
    const namespace = namespaceOf(key);
    const keys = this.#byNamespace.get(namespace) ?? new Set();
    if (keys.has(key)) return;
    keys.add(key);
    this.#byNamespace.set(namespace, keys);
    this.#size += 1;
  }

  delete(key: string): void {
    const namespace = namespaceOf(key);
    const keys = this.#byNamespace.get(namespace);
    if (keys?.delete(key) !== true) return;
    this.#size -= 1;
    if (keys.size === 0) this.#byNamespace.delete(namespace);
  }

  /** The next one, which is in the set no more. It must not be empty. */
  take(): string {
    for (const [namespace, keys] of this.#byNamespace) {
      for (const key of keys) {
        this.delete(key);
        // Its next turn is after those of the others.
        if (this.#byNamespace.delete(namespace)) this.#byNamespace.set(namespace, keys);
        return key;
      }
    }
    throw new TypeError('take from an empty set');
  }

  clear(): void {
    this.#byNamespace.clear();
    this.#size = 0;
  }
}

function namespaceOf(key: string): string {
  return key.slice(0, Math.max(0, key.indexOf('/')));
}
