// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Pods that claim each address, and the one that gets it: by a rule that does not depend on the order of the objects. */

import type { Pod } from '../../k8s/objects.ts';
import type { PodOwner } from './pod-owners.ts';

export interface KnownPod {
  readonly pod: Pod;
  /** Null: policy does not concern it. */
  readonly owner: PodOwner | null;
}

/** Pods that claim an address: nearly always one. */
type Claim = KnownPod | readonly KnownPod[];

export interface Winner {
  readonly known: KnownPod;
  readonly isDisputed: boolean;
}

export class AddressClaims {
  /** By `addressKey`. */
  readonly #claims = new Map<string, Claim>();
  /** Addresses that several pods claim. */
  readonly #contested = new Set<string>();

  get contested(): Iterable<string> {
    return this.#contested;
  }

  add(key: string, known: KnownPod): void {
    const claim = this.#claims.get(key);
    if (claim === known) return;
    if (claim === undefined) this.#claims.set(key, known);
    else if (!listed(claim).includes(known)) {
      this.#claims.set(key, [...listed(claim), known]);
      this.#contested.add(key);
    }
  }

  remove(key: string, known: KnownPod): void {
    const rest = this.of(key).filter((each) => each !== known);
    if (rest.length < 2) this.#contested.delete(key);
    const [first] = rest;
    if (first === undefined) this.#claims.delete(key);
    else this.#claims.set(key, rest.length === 1 ? first : rest);
  }

  of(key: string): readonly KnownPod[] {
    return listed(this.#claims.get(key));
  }

  /** The pod with the best claim; null: none claims the address. */
  podOf(key: string): KnownPod | null {
    const claim = this.#claims.get(key);
    if (claim === undefined || 'pod' in claim) return claim ?? null;
    let best = claim[0] as KnownPod;
    for (const each of claim) {
      const order = compareClaims(each.pod, best.pod) || (each.pod.uid > best.pod.uid ? 1 : -1);
      if (each !== best && order > 0) best = each;
    }
    return best;
  }

  winnerOf(key: string): Winner | null {
    const known = this.podOf(key);
    if (known === null) return null;
    const isDisputed = this.of(key).some(
      (each) => each !== known && compareClaims(each.pod, known.pod) === 0,
    );
    return { known, isDisputed };
  }
}

function listed(claim: Claim | undefined): readonly KnownPod[] {
  if (claim === undefined) return [];
  return 'pod' in claim ? [claim] : claim;
}

/**
 * Positive when `left` has the better claim: the pod that CNI gave the address on this node, then the one that stays, then
 * the younger one. A status may be old, and of a pod that has no address any more.
 */
export function compareClaims(left: Pod, right: Pod): number {
  const [isLeftGiven, isRightGiven] = [left, right].map(({ sandboxId }) => sandboxId !== undefined);
  if (isLeftGiven !== isRightGiven) return isLeftGiven === true ? 1 : -1;
  if (left.isDeleting !== right.isDeleting) return left.isDeleting ? -1 : 1;
  return Math.sign(left.createdSeconds - right.createdSeconds);
}
