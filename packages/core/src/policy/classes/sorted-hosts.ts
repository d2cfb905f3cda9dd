// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Hosts in the order of their addresses, so that those of a range are found without looking at all others. */

import type { Range } from './class-ranges.ts';

interface Sortable {
  /** `addressKey`. */
  readonly key: string;
  /** No longer to be found; the address may belong to another object now. */
  readonly isGone: boolean;
}

export class SortedHosts<Host extends Sortable> {
  #sorted: Host[] = [];
  /** Hosts that are not in `#sorted` yet; removed hosts are still in it. */
  #added: Host[] = [];

  add(host: Host): void {
    this.#added.push(host);
  }

  /** Inserts added hosts, and removes those that are gone. Before `in`. */
  settle(): void {
    const added = this.#added.filter(({ isGone }) => !isGone);
    added.sort((left, right) => (left.key < right.key ? -1 : 1));
    const merged: Host[] = [];
    let next = 0;
    for (const host of this.#sorted) {
      if (host.isGone) continue;
      for (let other = added[next]; other !== undefined && other.key < host.key; ) {
        merged.push(other);
        other = added[++next];
      }
      merged.push(host);
    }
    for (; next < added.length; next++) merged.push(added[next] as Host);
    this.#sorted = merged;
    this.#added = [];
  }

  /** Hosts of the range that are in no range inside of it. */
  *in(range: Range): Generator<Host, void, undefined> {
    let at = this.#lowerBound(range.first, 0);
    for (const child of [...range.children, null]) {
      for (let host = this.#sorted[at]; host !== undefined; host = this.#sorted[++at]) {
        if (child === null ? host.key > range.last : host.key >= child.first) break;
        yield host;
      }
      if (child === null) return;
      at = this.#lowerBound(child.last, at);
      if (this.#sorted[at]?.key === child.last) at++;
    }
  }

  #lowerBound(key: string, from: number): number {
    let low = from;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#sorted[middle] as Host).key < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
