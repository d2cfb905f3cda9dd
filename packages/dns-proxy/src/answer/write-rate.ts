// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Entries that large answers had written to the kernel's map in the current second, by namespace. */

import { learnPairsPerSecondMax } from '../limits.ts';

export class WriteRate {
  /** Namespaces with large answers in this second: fewer than those have writes. */
  readonly #writes = new Map<number, number>();
  #second = 0;

  /** Whether the namespace has had all of this second. */
  isOver(namespaceId: number, nowSeconds: number): boolean {
    if (nowSeconds !== this.#second) {
      this.#second = nowSeconds;
      this.#writes.clear();
    }
    return (this.#writes.get(namespaceId) ?? 0) >= learnPairsPerSecondMax;
  }

  /** They belong to the second of the last `isOver`. */
  add(namespaceId: number, writes: number): void {
    if (writes > 0) this.#writes.set(namespaceId, (this.#writes.get(namespaceId) ?? 0) + writes);
  }
}
