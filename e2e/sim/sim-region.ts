// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A member's region of the journal as one process uses it, and whose query is in a slot. */

import { TD_JOURNAL_CELL_BYTES, tdJournalSlot, tdJournalState } from '@tandem/datapath/abi.gen';
import { JournalRegion, type QuerySlot, stateOf } from '@tandem/dns-proxy/journal/region';
import { slotClientPort } from '@tandem/dns-proxy/journal/slots';
import { journalAgeMsMax, upstreamTimeoutMs } from '@tandem/dns-proxy/limits';
import type { Life, Thread } from './life.ts';
import type { SimQuery } from './sim-query.ts';

const { FREE, RECEIVING, IN_FLIGHT } = tdJournalState;
const nameByte = tdJournalSlot.name;

/** In hand for longer, a query is given up, or not taken over. */
const boundNs = Math.min(upstreamTimeoutMs, journalAgeMsMax) * 1e6;

interface RegionUser {
  readonly life: Life;
  readonly thread: Thread;
}

/** A region whose every swap may be the last thing that its user does. */
export class SimRegion extends JournalRegion {
  readonly #user: RegionUser;

  constructor(user: RegionUser, memory: ArrayBuffer, member: number) {
    super(memory, member, 0, user.life.world.slotCount);
    this.#user = user;
  }

  override swap(slot: QuerySlot, from: number, to: number): boolean {
    this.#user.thread.seam();
    const isDone = super.swap(slot, from, to);
    this.#onSwap(slot, from, to, isDone);
    return isDone;
  }

  #onSwap(slot: QuerySlot, from: number, to: number, isDone: boolean): void {
    const { life } = this.#user;
    const { oracle, trace, nowNs } = life.world;
    const what = isDone ? 'swaps a slot from, to' : 'swaps in vain a slot from, to';
    trace.note(what, this.member * 10_000 + slot, stateOf(from), stateOf(to), life.name);
    if (!isDone) return;
    if (stateOf(from) === FREE && stateOf(to) === IN_FLIGHT) {
      const query = this.#queryIn(slot, IN_FLIGHT);
      if (query !== undefined) query.copies += 1;
    } else if (stateOf(from) !== FREE && stateOf(to) === FREE) {
      // Given up, by a sweep or as too old to be replayed.
      const query = this.#queryIn(slot, stateOf(from));
      const isOld = nowNs - (query?.askedNs ?? Infinity) >= boundNs;
      if (isOld) oracle.excuse(query, 'in hand for longer than the bound');
      else if (stateOf(from) === IN_FLIGHT && query !== undefined && oracle.hasOtherPod(query))
        oracle.excuse(query, 'another pod has its address');
    }
  }

  #queryIn(slot: QuerySlot, state: number): SimQuery | undefined {
    const { journals, oracle } = this.#user.life.world;
    const journal = journals[this.member] as ArrayBuffer;
    return oracle.queryOfPort(queryInSlot(journal, this, slot, state));
  }
}

/** Port of the client whose query is in a slot. */
function queryInSlot(
  buffer: ArrayBuffer,
  region: JournalRegion,
  slot: QuerySlot,
  state: number,
): number {
  const at = region.slotsByte + slot * TD_JOURNAL_CELL_BYTES;
  if (state !== RECEIVING) return new DataView(buffer).getUint32(at + slotClientPort * 4, true);
  const bytes = new Uint8Array(buffer, at + nameByte, 4);
  return (bytes[2]! << 8) | bytes[3]!;
}
