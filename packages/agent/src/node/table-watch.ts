// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whether tables of nft have to be looked at: after a notice of the kernel's, and more slowly if notices come again and again. */

import { NftWatch } from '@tandem/netlink/nft-watch';
import { systemClock } from '@tandem/runtime/system-clock';
import { repairIntervalMs } from '../limits.ts';
import { nftTable } from './nft-table.ts';
import { RepairPace } from './repair-pace.ts';

export interface TableWatchOptions {
  /** NFPROTO_* of the tables of the name `nftTable`. */
  readonly families: readonly number[];
  /** A notice came, and its look is due. */
  readonly onDue: () => void;
  /** A look waits because there were too many. */
  readonly onDelay: () => void;
}

export class TableWatch {
  readonly #options: TableWatchOptions;
  readonly #pace = new RepairPace(systemClock);
  #watch: NftWatch | null = null;
  /** Until then the tables are not looked at. */
  #timer: NodeJS.Timeout | null = null;
  /** The tables may have changed since they were read. */
  #isStale = true;

  constructor(options: TableWatchOptions) {
    this.#options = options;
  }

  /** @throws DnsSocketError */
  start(): void {
    const { families, onDue, onDelay } = this.#options;
    const onChange = (): void => {
      this.#isStale = true;
      if (this.#timer !== null) return;
      const waitMs = this.#pace.take();
      if (waitMs > repairIntervalMs) onDelay();
      this.#timer = setTimeout(() => {
        this.#timer = null;
        onDue();
      }, waitMs);
    };
    const tables = families.map((family) => ({ family, name: nftTable }));
    this.#watch = new NftWatch({ tables, onChange });
  }

  stop(): void {
    this.#watch?.close();
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  /** The next `take` is true, unless a look waits. */
  expire(): void {
    this.#isStale = true;
  }

  /** @returns whether to look now */
  take(): boolean {
    const isDue = this.#isStale && this.#timer === null;
    if (isDue) this.#isStale = false;
    return isDue;
  }

  /** False: no notice comes. */
  get isWatched(): boolean {
    return this.#watch !== null;
  }

  /** Whether looks wait because there were too many. */
  get isSlowed(): boolean {
    return this.#pace.isSlowed;
  }
}
