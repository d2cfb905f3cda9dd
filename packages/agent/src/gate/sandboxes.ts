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
  /**
   * In the order in which they were made. A pod has one at a time; that of a pod of the same name may end after it, if its object was
   * deleted by force.
   */
  readonly #byPod = new Map<string, readonly Sandbox[]>();
  #size = 0;
  readonly #onChange: () => void;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#size;
  }

  /** The one that was made last; `uid` '' is not compared. */
  of(podKey: string, uid: string): Sandbox | undefined {
    return this.#byPod.get(podKey)?.findLast((each) => isOfOnePod(each.uid, uid));
  }

  /** False: there are too many. */
  add(sandbox: Sandbox): boolean {
    const { podKey, uid } = sandbox;
    const former = this.#byPod.get(podKey) ?? [];
    const others = former.filter((each) => !isOfOnePod(each.uid, uid));
    if (this.#size - former.length + others.length >= sandboxesMax) {
      this.counters.refused += 1;
      return false;
    }
    this.#set(podKey, [...others, sandbox]);
    this.counters.added += 1;
    this.#onChange();
    return true;
  }

  /** Removes the sandbox, but not a later sandbox of the same pod: a DEL may come late. */
  remove(podKey: string, containerId: string): void {
    if (this.#keep(podKey, (each) => each.containerId !== containerId)) this.#onChange();
  }

  /** Removes the sandbox of a deleted pod, because its DEL may never come. The sandbox of a later pod stays. */
  podGone(podKey: string, uids: readonly string[]): void {
    this.#keep(podKey, ({ uid }) => !uids.includes(uid));
  }

  /** Returns whether others were removed. */
  #keep(podKey: string, isKept: (sandbox: Sandbox) => boolean): boolean {
    const former = this.#byPod.get(podKey) ?? [];
    const rest = former.filter(isKept);
    this.counters.removed += former.length - rest.length;
    this.#set(podKey, rest);
    return rest.length < former.length;
  }

  #set(podKey: string, sandboxes: readonly Sandbox[]): void {
    this.#size += sandboxes.length - (this.#byPod.get(podKey)?.length ?? 0);
    if (sandboxes.length === 0) this.#byPod.delete(podKey);
    else this.#byPod.set(podKey, sandboxes);
  }
}

const isOfOnePod = (left: string, right: string): boolean =>
  left === '' || right === '' || left === right;
