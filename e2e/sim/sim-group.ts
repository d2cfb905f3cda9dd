// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { type MemberStateName, NodeGroup } from '@tandem/datapath/group';

/** The value of the map `group`, which says when a member leaves. */
export class SimGroup extends NodeGroup {
  readonly #onDrain: (index: number) => void;

  constructor(memory: ArrayBuffer, onDrain: (index: number) => void) {
    super(memory);
    this.#onDrain = onDrain;
  }

  override setState(index: number, state: MemberStateName): void {
    super.setState(index, state);
    if (state === 'drain') this.#onDrain(index);
  }
}
