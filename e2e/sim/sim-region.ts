// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A member's region of the journal as one process uses it, and whose query is in a slot. */

import { TD_JOURNAL_CELL_BYTES, tdJournalSlot, tdJournalState } from '@tandem/datapath/abi.gen';
import { JournalRegion } from '@tandem/dns-proxy/journal/region';
import { slotClientPort } from '@tandem/dns-proxy/udp/slots';
import type { Life, Thread } from './life.ts';

const { RECEIVING } = tdJournalState;
const nameByte = tdJournalSlot.name;

type OnSwap = (
  region: JournalRegion,
  slot: number,
  from: number,
  to: number,
  isDone: boolean,
) => void;

interface RegionUser {
  readonly life: Life;
  readonly thread: Thread;
  readonly onSwap: OnSwap;
}

/** A region whose every swap may be the last thing that its user does. */
export class SimRegion extends JournalRegion {
  readonly #seam: () => void;
  readonly #onSwap: OnSwap;

  constructor(user: RegionUser, memory: ArrayBuffer, member: number) {
    super(memory, member, 0, user.life.world.slotCount);
    this.#seam = user.thread.seam;
    this.#onSwap = user.onSwap;
  }

  override swap(slot: number, from: number, to: number): boolean {
    this.#seam();
    const isDone = super.swap(slot, from, to);
    this.#onSwap(this, slot, from, to, isDone);
    return isDone;
  }
}

/** Port of the client whose query is in a slot. */
export function queryInSlot(
  buffer: ArrayBuffer,
  region: JournalRegion,
  slot: number,
  state: number,
): number {
  const at = region.slotsByte + slot * TD_JOURNAL_CELL_BYTES;
  if (state !== RECEIVING) return new DataView(buffer).getUint32(at + slotClientPort * 4, true);
  const bytes = new Uint8Array(buffer, at + nameByte, 4);
  return ((bytes[2] as number) << 8) | (bytes[3] as number);
}
