// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which policy each pod had, and since when: what the map `endpoints` said of its address. */

import type { PolicyId } from '@tandem/core/ids';
import { isAllowed, pods } from './universe.ts';
import { variantsOfId } from './universe-policies.ts';

/** Row of the map `endpoints` for a pod's address. */
interface PodRow {
  readonly sinceNs: number;
  readonly policyId: PolicyId;
  readonly endpointId: number;
}

export class PodPolicies {
  readonly #nowNs: () => number;
  readonly #rows: PodRow[][] = pods.map(() => []);

  constructor(nowNs: () => number) {
    this.#nowNs = nowNs;
  }

  /** The map `endpoints` says so from now on. */
  set(pod: number, policyId: PolicyId, endpointId: number): void {
    this.#rows[pod]?.push({ sinceNs: this.#nowNs(), policyId, endpointId });
  }

  /** Rows that were in force at some time since then. */
  #rowsSince(pod: number, sinceNs: number): PodRow[] {
    const rows = this.#rows[pod] ?? [];
    let first = rows.length - 1;
    while (first > 0 && (rows[first] as PodRow).sinceNs > sinceNs) first -= 1;
    return rows.slice(Math.max(0, first));
  }

  policiesSince(pod: number, sinceNs: number): PolicyId[] {
    return this.#rowsSince(pod, sinceNs).map(({ policyId }) => policyId);
  }

  endpointsSince(pod: number, sinceNs: number): number[] {
    return this.#rowsSince(pod, sinceNs).map(({ endpointId }) => endpointId);
  }

  policyIdOf(pod: number): number {
    return this.#rows[pod]?.at(-1)?.policyId ?? 0;
  }

  /** Whether some policy that the pod had since then says `isAllowed`. */
  sometime(pod: number, server: number, name: number, sinceNs: number, wanted: boolean): boolean {
    const rows = this.#rows[pod] ?? [];
    for (let i = rows.length - 1; i >= 0; i--) {
      const row = rows[i] as (typeof rows)[number];
      const variant = variantsOfId.get(row.policyId)?.[0] ?? 0;
      if (isAllowed(variant, pod, server, name) === wanted) return true;
      if (row.sinceNs <= sinceNs) return false;
    }
    return false;
  }

  hadPolicy(pod: number, policyId: number, sinceNs: number): boolean {
    const rows = this.#rows[pod] ?? [];
    for (let i = rows.length - 1; i >= 0; i--) {
      const row = rows[i] as (typeof rows)[number];
      if (row.policyId === policyId) return true;
      if (row.sinceNs <= sinceNs) return false;
    }
    return false;
  }
}
