// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which numbers pods have for named ports, by namespace: counted as pods come and go. */

import type { Pod } from '../../k8s/objects.ts';

export class PortNumbers {
  /** By protocol and name, `TCP/http`, namespace and number: how many pods. */
  readonly #counts = new Map<string, Map<string, Map<number, number>>>();

  /** Only pods that packets can go to count. `difference`: 1 for one that comes, -1 for one that goes. */
  count(pod: Pod, difference: 1 | -1): void {
    const { namespace, namedPorts, addresses, hostNetwork, isFinished } = pod;
    if (namedPorts === undefined || addresses.length === 0 || hostNetwork || isFinished) return;
    for (const [name, number] of namedPorts) {
      const byNamespace = this.#counts.get(name) ?? new Map<string, Map<number, number>>();
      const numbers = byNamespace.get(namespace) ?? new Map<number, number>();
      const count = (numbers.get(number) ?? 0) + difference;
      if (count > 0) numbers.set(number, count);
      else numbers.delete(number);
      if (numbers.size > 0) byNamespace.set(namespace, numbers);
      else byNamespace.delete(namespace);
      if (byNamespace.size > 0) this.#counts.set(name, byNamespace);
      else this.#counts.delete(name);
    }
  }

  /** By namespace. */
  of(name: string): ReadonlyMap<string, ReadonlySet<number>> {
    const found = new Map<string, ReadonlySet<number>>();
    for (const [namespace, numbers] of this.#counts.get(name) ?? []) {
      found.set(namespace, new Set(numbers.keys()));
    }
    return found;
  }
}
