// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The DNS proxy goes on with the programs of an agent that has just loaded its own. */

import type { Datapath } from '@tandem/datapath/datapath';
import type { NodeGroup } from '@tandem/datapath/group';

export class ProgramFollow {
  readonly #datapath: Datapath;
  readonly #group: NodeGroup;
  readonly #onLoaded: () => void;
  /** `group.loads` of the programs in use. */
  #loads: number;

  /** `onLoaded`: the datapath has the new programs open. */
  constructor(datapath: Datapath, group: NodeGroup, onLoaded: () => void) {
    this.#datapath = datapath;
    this.#group = group;
    this.#onLoaded = onLoaded;
    this.#loads = group.loads;
  }

  step(): void {
    const { loads } = this.#group;
    if (loads === this.#loads) return;
    this.#loads = loads;
    this.#datapath.reopen();
    this.#onLoaded();
  }
}
