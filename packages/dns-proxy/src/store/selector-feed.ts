// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * When FQDN selectors are fed from the name cache: new ones before an endpoint is judged by them, all of them when
 * names came from the other process. And how long its whole cache is waited for.
 */

import type { NodeGroup } from '@tandem/datapath/group';
import type { MemberIndex } from '@tandem/datapath/member';
import type { Clock } from '@tandem/runtime/system-clock';
import { Changes, type Task, type TaskTimers } from '@tandem/runtime/task';
import type { PolicyTables } from '../policy/tables.ts';
import type { Exchange } from '../sync/exchange.ts';
import type { Backfill } from './backfill.ts';
import { FedRevision } from './fed-revision.ts';
import { backfillSettleMs } from './limits.ts';
import type { NodeStore } from './node-store.ts';

export interface SelectorFeedOptions {
  readonly member: MemberIndex;
  readonly store: NodeStore;
  readonly exchange: Pick<Exchange, 'counters'>;
  readonly backfill: Backfill;
  readonly group: NodeGroup;
  readonly clock: Pick<Clock, 'monotonicMs' | 'boottimeSeconds'>;
  readonly timers: TaskTimers;
  /** Tables that this process's member serves; null: none yet, or they are not kept on this thread. */
  readonly tables: () => PolicyTables | null;
  /** Names of the other process did not reach the kernel. */
  readonly onError: (error: unknown) => void;
}

export class SelectorFeed {
  readonly #o: SelectorFeedOptions;
  readonly #changes = new Changes();
  /** The cache of the other process came since the last walk began. */
  #isCacheNew = false;
  /** The name cache of the other process came and was fed. */
  #hasPeerCache = false;
  #isWanted = false;
  #isWalking = false;

  constructor(options: SelectorFeedOptions) {
    this.#o = options;
    options.store.onCacheReceived = () => {
      this.#isCacheNew = true;
      this.feedAll();
    };
  }

  /** Nothing waits to be fed. */
  get isIdle(): boolean {
    return !this.#isWalking;
  }

  /** Feeds selectors that are new since the last call; the members must serve their policy already. */
  *feedSelectors(selectors: readonly number[]): Task {
    const { backfill, group, clock, timers, store } = this.#o;
    const tables = this.#o.tables();
    if (tables === null) return;
    const fed = new FedRevision(tables.revision, group, () => clock.boottimeSeconds());
    if (backfill.freshOf(tables, selectors).size > 0) {
      yield* timers.delay(backfillSettleMs);
      store.feedsNames(fed);
    }
    yield* backfill.feedNew(tables, selectors);
  }

  /** Feeds every selector. One walk at a time: all who ask while one runs share the next. */
  feedAll(): void {
    this.#isWanted = true;
    if (this.#isWalking) return;
    this.#isWalking = true;
    void this.#o.timers.start(this.#walk());
  }

  /**
   * Waits for the other process's whole cache, if that process serves at all. False: it did not come in
   * time, or the other process does not serve.
   */
  *peerCache(timeoutMs: number): Task<boolean> {
    const { exchange, group, member, clock, timers } = this.#o;
    if (exchange.counters.cachesReceived > 0) return true;
    const isServing = group.isServing(1 - member, clock.monotonicMs() * 1e6);
    if (!isServing) return false;
    return yield* timers.until(() => this.#hasPeerCache, this.#changes, timeoutMs);
  }

  *#walk(): Task {
    while (this.#isWanted) {
      this.#isWanted = false;
      const isCache = this.#isCacheNew;
      this.#isCacheNew = false;
      try {
        const tables = this.#o.tables();
        if (tables !== null) yield* this.#o.backfill.feedAll(tables);
      } catch (error) {
        this.#o.onError(error);
      }
      if (!isCache) continue;
      this.#hasPeerCache = true;
      this.#changes.notify();
    }
    this.#isWalking = false;
  }
}
