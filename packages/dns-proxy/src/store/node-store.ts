// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * State of the node in one process: its events, the names that were answered, and whose addresses they are. Fed by our own
 * DNS worker and kernel, and by the other process.
 */

import { FqdnCache } from '@tandem/core/fqdn/cache';
import type { FqdnCacheOptions } from '@tandem/core/fqdn/mapping';
import { joinInto, type FqdnMapping as NameMapping } from '@tandem/core/fqdn/merge';
import { systemClock } from '@tandem/runtime/system-clock';
import { DropLedger } from '../drops/ledger.ts';
import { isContinued, memberOf, NameFeed, timeUsOf } from '../records/dns-records.ts';
import {
  decodeLoss,
  encodeLoss,
  lossReasonOf,
  positionOf,
  ringOf,
} from '../records/loss-record.ts';
import type { ExchangeSink } from '../sync/exchange.ts';
import { EndpointNames } from './endpoint-names.ts';
import {
  EventStore,
  type EventStoreOptions,
  eventKindDns,
  eventKindDrop,
  eventKindLoss,
} from './event-store.ts';
import type { FedRevision } from './fed-revision.ts';

export interface NodeStoreOptions {
  readonly cache: FqdnCacheOptions;
  readonly events?: EventStoreOptions;
}

export class NodeStore implements ExchangeSink {
  readonly events: EventStore;
  readonly cache: FqdnCache;
  readonly endpoints: EndpointNames = new EndpointNames();
  readonly drops: DropLedger = new DropLedger();
  /** Events of both types that the other process had and that will not come. */
  notTold = 0;
  /** Called when the other process's whole cache has come. */
  onCacheReceived: (() => void) | null = null;
  readonly #feed: NameFeed;
  /** Says which names are late for the selectors that were fed last. */
  #fed: FedRevision | null = null;
  #hasLateNames = false;

  constructor(options: NodeStoreOptions) {
    this.events = new EventStore(options.events);
    this.cache = new FqdnCache(options.cache);
    this.#feed = new NameFeed(this.cache);
  }

  /** A whole record, of our worker or the other's. True: it taught the name cache something. */
  dnsRecord(bytes: Uint8Array, at: number, length: number): boolean {
    if (!isContinued(bytes, at)) this.events.append(eventKindDns, bytes, at, length);
    const isNews = this.#feed.take(bytes, at);
    if (isNews && this.#fed?.isLate(memberOf(bytes, at), timeUsOf(bytes, at)) === true)
      this.#hasLateNames = true;
    return isNews;
  }

  /** The new selectors of a revision are fed from the cache as it is now. */
  feedsNames(fed: FedRevision): void {
    this.#fed = fed;
  }

  /** Whether names came, since this was asked last, that new selectors should have been fed with. */
  takeLateNames(): boolean {
    const hasLateNames = this.#hasLateNames;
    this.#hasLateNames = false;
    return hasLateNames;
  }

  /** One td_event, of the ring or the other process. False: it was there already. */
  dropRecord(bytes: Uint8Array, at: number, length: number): boolean {
    const lossReason = lossReasonOf(bytes, at);
    if (lossReason !== null) {
      const { count } = decodeLoss(bytes, at, lossReason);
      this.events.append(eventKindLoss, bytes, at, length, count);
      return true;
    }
    const position = positionOf(bytes, at);
    if (ringOf(bytes, at) !== this.drops.ring) this.drops.foreign += 1;
    else if (position !== 0 && !this.drops.take(position)) return false;
    this.events.append(eventKindDrop, bytes, at, length);
    return true;
  }

  dropsSince(position: number, ring: number): void {
    if (ring === this.drops.ring) this.drops.knowOf(position);
  }

  dnsEventsLost(count: number): void {
    this.#notTold(count);
  }

  /** Time passes, monotonic ms: says which drop events do not come any more. */
  tick(nowMs: number): void {
    const count = this.drops.takeSettled(nowMs);
    if (count > 0) this.#notTold(count);
  }

  #notTold(count: number): void {
    this.notTold += count;
    const timeNs = systemClock.boottimeSeconds() * 1e9;
    const record = encodeLoss({ timeNs, reason: 'not-told', count });
    this.events.append(eventKindLoss, record, 0, record.length, count);
  }

  mapping(mapping: NameMapping): void {
    joinInto(this.cache, mapping);
  }

  cacheReceived(): void {
    // Perhaps from a new run.
    this.#fed?.renew();
    this.onCacheReceived?.();
  }
}
