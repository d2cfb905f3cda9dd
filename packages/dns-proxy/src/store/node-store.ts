// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What one process knows of the node: its events, the names that were answered, and whose addresses
 * they are. Fed by our own DNS worker and kernel, and by the other process.
 */

import { FqdnCache, type FqdnCacheOptions } from '@tandem/core/fqdn/cache';
import { joinInto, type FqdnMapping as NameMapping } from '@tandem/core/fqdn/merge';
import type { ExchangeSink } from '../sync/exchange.ts';
import { NameFeed } from './dns-records.ts';
import { EndpointNames } from './endpoint-names.ts';
import { EventStore, type EventStoreOptions, eventKindDns, eventKindDrop } from './event-store.ts';

export interface NodeStoreOptions {
  readonly cache: FqdnCacheOptions;
  readonly events?: EventStoreOptions;
}

export class NodeStore implements ExchangeSink {
  readonly events: EventStore;
  readonly cache: FqdnCache;
  readonly endpoints: EndpointNames = new EndpointNames();
  /** Called when the other process's whole cache has come. */
  onCacheReceived: (() => void) | null = null;
  readonly #feed: NameFeed;

  constructor(options: NodeStoreOptions) {
    this.events = new EventStore(options.events);
    this.cache = new FqdnCache(options.cache);
    this.#feed = new NameFeed(this.cache);
  }

  /** A whole record, of our worker or the other's. True: it taught the name cache something. */
  dnsRecord(bytes: Uint8Array, at: number, length: number): boolean {
    this.events.append(eventKindDns, bytes, at, length);
    return this.#feed.take(bytes, at);
  }

  /** One td_event. */
  dropRecord(bytes: Uint8Array, at: number, length: number): void {
    this.events.append(eventKindDrop, bytes, at, length);
  }

  mapping(mapping: NameMapping): void {
    joinInto(this.cache, mapping);
  }

  cacheReceived(): void {
    this.onCacheReceived?.();
  }
}
