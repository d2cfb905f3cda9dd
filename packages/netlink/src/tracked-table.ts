// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A copy of one of the kernel's tables: read whole, then kept by notices. Notices that come while it is
 * read are applied once more to what was read, because an entry may have been read before its change.
 */

import { readAttemptsMax } from './limits.ts';

export interface TrackedTableOptions<T> {
  readonly keyOf: (entry: T) => string | number;
  /** Whether a new version of an entry differs in nothing that is reported. */
  readonly isSame: (left: T, right: T) => boolean;
  readonly read: () => Promise<readonly T[]>;
}

interface Notice<T> {
  readonly entry: T;
  readonly isGone: boolean;
}

export class TrackedTable<T> {
  readonly #o: TrackedTableOptions<T>;
  #entries = new Map<string | number, T>();
  /** Since the read that runs began. */
  #notices: Notice<T>[] | null = null;

  constructor(options: TrackedTableOptions<T>) {
    this.#o = options;
  }

  get entries(): ReadonlyMap<string | number, T> {
    return this.#entries;
  }

  /** True: the table is another one now. */
  apply(entry: T, isGone: boolean): boolean {
    this.#notices?.push({ entry, isGone });
    return this.#change(this.#entries, { entry, isGone });
  }

  /** One at a time. True: the table is another one now. Rejects as `read` does, and keeps what it has. */
  async read(): Promise<boolean> {
    try {
      for (let attempt = 1; ; attempt++) {
        this.#notices = [];
        const { keyOf, read } = this.#o;
        const entries = new Map((await read()).map((entry) => [keyOf(entry), entry]));
        // The kernel counts its way through some tables: when an entry goes, it passes over another one.
        const isComplete = !this.#notices.some(({ isGone }) => isGone);
        if (!isComplete && attempt < readAttemptsMax) continue;
        for (const notice of this.#notices) this.#change(entries, notice);
        const isChanged = !this.#isSame(entries);
        this.#entries = entries;
        return isChanged;
      }
    } finally {
      this.#notices = null;
    }
  }

  #change(entries: Map<string | number, T>, { entry, isGone }: Notice<T>): boolean {
    const key = this.#o.keyOf(entry);
    if (isGone) return entries.delete(key);
    const known = entries.get(key);
    entries.set(key, entry);
    return known === undefined || !this.#o.isSame(known, entry);
  }

  #isSame(entries: ReadonlyMap<string | number, T>): boolean {
    if (entries.size !== this.#entries.size) return false;
    for (const [key, entry] of entries) {
      const known = this.#entries.get(key);
      if (known === undefined || !this.#o.isSame(known, entry)) return false;
    }
    return true;
  }
}
