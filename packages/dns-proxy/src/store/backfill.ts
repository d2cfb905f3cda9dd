// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Feeds FQDN selectors from the name cache: a new selector must know the addresses of names that were
 * answered before it came, or pods that hold these answers are cut off (safety rules 5 and 12). The
 * members match it already when this runs, so they write the addresses of answers that come meanwhile.
 */

import { loadName, QueryView } from '@tandem/core/dns/query';
import { type FqdnCache } from '@tandem/core/fqdn/cache';
import { FqdnRecord } from '@tandem/core/fqdn/mapping';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { isIpv4 } from '@tandem/core/net/ip';
import { tdLearnOp, tdLearnResult } from '@tandem/datapath/abi.gen';
import type { Task } from '@tandem/runtime/task';
import type { KernelWriter } from '../answer/kernel-writer.ts';
import type { PolicyTables, PrivateFeeds } from '../policy/tables.ts';
import { backfillSelectorsPerNameMax, backfillSliceNames } from './limits.ts';

export interface BackfillOptions {
  readonly cache: FqdnCache;
  /** Writer of this thread; nothing else adds to it between two turns of the loop. */
  readonly writer: KernelWriter;
  /** Boottime seconds. */
  readonly nowSeconds: () => number;
}

export class BackfillCounters {
  runs = 0;
  names = 0;
  added = 0;
  /** Refused by `learn`: never-learn addresses, quotas, full maps. */
  refused = 0;
  /** Selectors of a name beyond `backfillSelectorsPerNameMax`. */
  selectorsSkipped = 0;
}

export class Backfill {
  readonly counters: BackfillCounters = new BackfillCounters();
  readonly #o: BackfillOptions;
  readonly #record = new FqdnRecord();
  readonly #addressWords: Uint32Array;
  readonly #selectors = new Uint32Array(backfillSelectorsPerNameMax);
  readonly #offered = new Uint8Array(backfillSelectorsPerNameMax);
  readonly #view: QueryView;
  /** Selectors of the last `feedNew`. */
  #fed: ReadonlySet<number> = new Set();
  #fedPrivately: PrivateFeeds = { policyOf: new Map(), scopesOf: new Map() };

  constructor(options: BackfillOptions) {
    this.#o = options;
    this.#addressWords = new Uint32Array(this.#record.address.buffer);
    // No hash of a name is looked at here.
    this.#view = new QueryView({ low: 0, high: 0 });
  }

  /** Selectors among `selectors` that the last `feedNew` did not have, and those that answers to another policy feed now. */
  freshOf(tables: PolicyTables, selectors: Iterable<number>): ReadonlySet<number> {
    const fresh = new Set(selectors).difference(this.#fed);
    const former = this.#fedPrivately;
    const { policyOf, scopesOf } = tables.privateFeeds();
    const isWider = ([policyId, scopes]: [number, ReadonlySet<number>]): boolean =>
      !scopes.isSubsetOf(former.scopesOf.get(policyId) ?? new Set());
    const wider = new Set([...scopesOf].filter(isWider).map(([policyId]) => policyId));
    for (const [selector, policyId] of policyOf) {
      if (wider.has(policyId) || !former.policyOf.has(selector)) fresh.add(selector);
    }
    return fresh;
  }

  /**
   * Feeds those of `selectors` that the last call did not name; `tables` know them. At its end the kernel has what the
   * cache had.
   */
  *feedNew(tables: PolicyTables, selectors: Iterable<number>): Task {
    const all = new Set(selectors);
    const fresh = this.freshOf(tables, all);
    if (fresh.size > 0) yield* this.#slices(tables, fresh);
    this.#fed = all;
    this.#fedPrivately = tables.privateFeeds();
  }

  /** Feeds every selector: the cache has learned from the other process what it did not know. */
  feedAll(tables: PolicyTables): Task {
    return this.#slices(tables, null);
  }

  /** Others may have their turn after each slice. */
  *#slices(tables: PolicyTables, wanted: ReadonlySet<number> | null): Task {
    this.counters.runs += 1;
    let place = this.#o.cache.nextName(1);
    while (place !== 0) {
      const now = this.#o.nowSeconds();
      for (let i = 0; i < backfillSliceNames && place !== 0; i++) {
        this.#feedName(tables, place, wanted, now);
        place = this.#o.cache.nextName(place + 1);
      }
      this.#flush();
      if (place === 0) return;
      yield undefined;
    }
  }

  #feedName(
    tables: PolicyTables,
    first: number,
    wanted: ReadonlySet<number> | null,
    now: number,
  ): void {
    const { cache } = this.#o;
    const record = this.#record;
    cache.read(first, record);
    this.counters.names += 1;
    if (!loadName(this.#view, record.name, 0, record.nameLength)) return;
    const set = tables.matcher.match(this.#view);
    const { scope, namespaceId } = record;
    const offered = this.#offered;
    const found = tables.selectorsOf(
      set,
      scope === 0,
      scope as PolicyId,
      namespaceId as NamespaceId,
      this.#selectors,
      offered,
    );
    if (found === this.#selectors.length) this.counters.selectorsSkipped += 1;
    for (let s = 0; s < found; s++) {
      const selector = this.#selectors[s]!;
      if (wanted !== null && !wanted.has(selector)) continue;
      for (let entry = first; entry !== 0; entry = cache.nextOfName(entry)) {
        cache.read(entry, record);
        if (record.expires > now) this.#add(selector, offered[s] === 1);
      }
    }
  }

  /** The mapping in `#record`. */
  #add(selector: number, isOffered: boolean): void {
    const { writer } = this.#o;
    const { address, expires, namespaceId } = this.#record;
    if (writer.isFull) this.#flush();
    const isAaaa = !isIpv4(address);
    const words = this.#addressWords;
    writer.add(tdLearnOp.ADD, words, 0, selector, expires, namespaceId, isAaaa, isOffered);
  }

  #flush(): void {
    const { writer } = this.#o;
    if (writer.count === 0) return;
    writer.runAdds();
    for (let i = 0; i < writer.count; i++) {
      const result = writer.resultOf(i);
      if (result === tdLearnResult.OK) this.counters.added += 1;
      else if (result < 0) this.counters.refused += 1;
    }
    writer.count = 0;
  }
}
