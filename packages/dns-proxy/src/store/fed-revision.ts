// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A policy revision whose new selectors were fed from the name cache, and until when each member may have
 * answered without knowing them. It wrote later answers to the kernel itself; a name that it answered
 * before, and that arrives only after the feeding, is late and must be fed too. A member may lag behind the
 * revision for long, and still answer what it had in hand: until it serves the revision all its names are late.
 */

import type { GroupIndex, Revision } from '@tandem/core/ids';
import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import type { NodeGroup } from '@tandem/datapath/group';

export class FedRevision {
  readonly #revision: Revision;
  readonly #group: Pick<NodeGroup, 'revisionOf'>;
  readonly #nowSeconds: () => number;
  /** By member, boottime us; Infinity while it lags. */
  readonly #unawareUntilUs = new Float64Array(TD_MEMBERS_MAX);

  /** `nowSeconds`: boottime, with its fraction. */
  constructor(revision: Revision, group: Pick<NodeGroup, 'revisionOf'>, nowSeconds: () => number) {
    this.#revision = revision;
    this.#group = group;
    this.#nowSeconds = nowSeconds;
    this.renew();
  }

  /** A run has begun whose predecessor may have served a newer revision than it begins with. */
  renew(): void {
    for (let member = 0; member < TD_MEMBERS_MAX; member++) {
      this.#unawareUntilUs[member] = this.#serves(member) ? this.#nowSeconds() * 1e6 : Infinity;
    }
  }

  /** Whether `member` may not have known the selectors when it answered, at `timeUs` of boottime. */
  isLate(member: GroupIndex, timeUs: number): boolean {
    if (member >= TD_MEMBERS_MAX) return true;
    // It caught up since it was looked at last.
    if (this.#unawareUntilUs[member] === Infinity && this.#serves(member))
      this.#unawareUntilUs[member] = this.#nowSeconds() * 1e6;
    return timeUs <= this.#unawareUntilUs[member]!;
  }

  /** Revisions wrap, as in bpf/src/select_member.bpf.c. */
  #serves(member: GroupIndex): boolean {
    return ((this.#group.revisionOf(member) - this.#revision) | 0) >= 0;
  }
}
