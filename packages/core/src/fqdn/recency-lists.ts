// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Many doubly linked lists over one set of items: each owner's items from the one that was used least
 * recently to the newest. An item is in one list at most. Ids of items and owners start at 1.
 */
export class RecencyLists {
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  readonly #oldest: Int32Array;
  readonly #newest: Int32Array;

  constructor(itemsMax: number, ownersMax: number) {
    this.#newer = new Int32Array(itemsMax + 1);
    this.#older = new Int32Array(itemsMax + 1);
    this.#oldest = new Int32Array(ownersMax + 1);
    this.#newest = new Int32Array(ownersMax + 1);
  }

  /** The owner's least recently used item, 0 if it has none. */
  oldest(owner: number): number {
    return this.#oldest[owner]!;
  }

  /** The item after `item` in its list, 0 after the newest. */
  newer(item: number): number {
    return this.#newer[item]!;
  }

  /** Adds `item`, which is in no list, as the owner's newest. */
  append(owner: number, item: number): void {
    const last = this.#newest[owner]!;
    this.#older[item] = last;
    this.#newer[item] = 0;
    if (last === 0) this.#oldest[owner] = item;
    else this.#newer[last] = item;
    this.#newest[owner] = item;
  }

  /** Removes `item` from the list of `owner`, in which it is. */
  remove(owner: number, item: number): void {
    const older = this.#older[item]!;
    const newer = this.#newer[item]!;
    if (older === 0) this.#oldest[owner] = newer;
    else this.#newer[older] = newer;
    if (newer === 0) this.#newest[owner] = older;
    else this.#older[newer] = older;
  }

  /** Makes `item` the newest of its list. */
  touch(owner: number, item: number): void {
    if (this.#newest[owner] === item) return;
    this.remove(owner, item);
    this.append(owner, item);
  }
}
