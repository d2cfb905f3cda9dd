// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Sandboxes of this node as CNI made them: addresses and interface of a pod, before the API server has them (kubelet
 * publishes a pod's address after ADD, and ADD waits for the pod's policy).
 */

import { sandboxesMax } from './limits.ts';

export interface Sandbox {
  /** Namespace and name of the pod, with a slash. */
  readonly podKey: string;
  readonly uid: string;
  readonly containerId: string;
  /** 16 octets each. */
  readonly addresses: readonly Uint8Array[];
  /** Host side of the pod's veth; null: the CNI plugin did not name it. */
  readonly interfaceName: string | null;
}

export class Sandboxes {
  readonly counters = { added: 0, removed: 0, refused: 0 };
  readonly #byPod = new Map<string, Sandbox>();
  readonly #onChange: () => void;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#byPod.size;
  }

  /** The one that was made last, for a pod has one at a time; `uid` '' is not compared. */
  of(podKey: string, uid: string): Sandbox | undefined {
    const found = this.#byPod.get(podKey);
    return found === undefined || uid === '' || found.uid === '' || found.uid === uid
      ? found
      : undefined;
  }

  /** False: there are too many. */
  add(sandbox: Sandbox): boolean {
    if (!this.#byPod.has(sandbox.podKey) && this.#byPod.size >= sandboxesMax) {
      this.counters.refused += 1;
      return false;
    }
    this.#byPod.set(sandbox.podKey, sandbox);
    this.counters.added += 1;
    this.#onChange();
    return true;
  }

  /** Removes the sandbox, but not a later sandbox of the same pod: a DEL may come late. */
  remove(podKey: string, containerId: string): void {
    if (this.#byPod.get(podKey)?.containerId !== containerId) return;
    this.#byPod.delete(podKey);
    this.counters.removed += 1;
    this.#onChange();
  }

  /** Removes the sandbox of a deleted pod, because its DEL may never come. The sandbox of a later pod stays. */
  podGone(podKey: string, uids: readonly string[]): void {
    const found = this.#byPod.get(podKey);
    if (found === undefined || !uids.includes(found.uid)) return;
    this.#byPod.delete(podKey);
    this.counters.removed += 1;
  }
}
