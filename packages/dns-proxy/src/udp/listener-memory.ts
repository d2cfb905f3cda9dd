// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** How full the receive buffers of the own UDP listeners are, and what the kernel dropped of them: for metrics. */

import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { counter, queuedBytesIndex, queuedHeavyBytesIndex } from '../counters.ts';
import { isHeavy, type ListenerHandle } from '../listener-kinds.ts';

export class ListenerMemory {
  readonly #loop: Pick<UdpLoop<ListenerHandle>, 'memory'>;
  readonly #counters: Float64Array;
  /** By td_listener_kind. */
  readonly #handles: readonly (ListenerHandle | undefined)[];
  readonly #dropsSeen: Uint32Array;

  /** `handles`: by td_listener_kind; undefined where there is no UDP listener. */
  constructor(
    loop: Pick<UdpLoop<ListenerHandle>, 'memory'>,
    counters: Float64Array,
    handles: readonly (ListenerHandle | undefined)[],
  ) {
    this.#loop = loop;
    this.#counters = counters;
    this.#handles = handles;
    this.#dropsSeen = new Uint32Array(handles.length);
  }

  /** Every second: a system call for each socket. */
  look(): void {
    const counters = this.#counters;
    counters[queuedBytesIndex] = counters[queuedHeavyBytesIndex] = 0;
    for (const [kind, handle] of this.#handles.entries()) {
      const memory = handle === undefined ? null : this.#loop.memory(handle);
      if (memory === null) continue;
      const isOfHeavy = isHeavy(kind);
      counters[isOfHeavy ? queuedHeavyBytesIndex : queuedBytesIndex]! += memory.queuedBytes;
      const dropped = (memory.drops - this.#dropsSeen[kind]!) >>> 0;
      this.#dropsSeen[kind] = memory.drops;
      counters[isOfHeavy ? counter.queueDropsHeavy : counter.queueDrops]! += dropped;
    }
  }
}
