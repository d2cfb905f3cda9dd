// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Puts together what the main thread of a process does with names: cache, exchange with the other process, feed of the
 * kernel, expiry. Written once for the processes and for the simulator.
 */

import type { HashKey } from '@tandem/core/dns/name-hash';
import type { FqdnCacheOptions } from '@tandem/core/fqdn/mapping';
import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import type { NodeGroup } from '@tandem/datapath/group';
import { agentMember, type MemberIndex } from '@tandem/datapath/member';
import type { Clock } from '@tandem/runtime/system-clock';
import type { TaskTimers } from '@tandem/runtime/task';
import { KernelWriter } from '../answer/kernel-writer.ts';
import type { PolicyTables } from '../policy/tables.ts';
import { isContinued } from '../records/dns-records.ts';
import { Exchange, type ExchangeOptions } from '../sync/exchange.ts';
import type { AddressesInUse } from './addresses-in-use.ts';
import { Backfill } from './backfill.ts';
import type { EventStoreOptions } from './event-store.ts';
import { KernelExpiry, type KernelExpiryOptions } from './kernel-expiry.ts';
import { NodeStore } from './node-store.ts';
import { SelectorFeed } from './selector-feed.ts';
import { Upkeep } from './upkeep.ts';

/** Sizes whose defaults are the limits of a node. */
export interface NameSizes {
  readonly cache?: Omit<FqdnCacheOptions, 'key'>;
  readonly events?: EventStoreOptions;
  readonly exchange?: Partial<ExchangeOptions>;
  readonly expiryStepEntries?: number;
  readonly expiryWalkMs?: number;
}

export interface Names {
  readonly store: NodeStore;
  readonly exchange: Exchange;
  /** A record of the member's worker. */
  readonly onDnsEvent: (bytes: Uint8Array, at: number, length: number) => void;
}

export interface NamesOptions {
  readonly member: MemberIndex;
  readonly version: string;
  /** CLOCK_BOOTTIME ns of this run's start. */
  readonly epochNs: number;
  readonly key: HashKey;
  readonly sizes?: NameSizes;
}

export function assembleNames({ member, version, epochNs, key, sizes }: NamesOptions): Names {
  const store = new NodeStore({
    cache: { key, ...sizes?.cache },
    ...(sizes?.events === undefined ? {} : { events: sizes.events }),
  });
  const exchange = new Exchange({
    ...{ member, version },
    epoch: epochNs,
    cache: store.cache,
    sink: store,
    ...sizes?.exchange,
  });
  return {
    store,
    exchange,
    onDnsEvent: (bytes, at, length) => {
      const isNews = store.dnsRecord(bytes, at, length);
      if (isNews || !isContinued(bytes, at)) exchange.offerDns(bytes, at, length, isNews);
    },
  };
}

export interface NameWorkOptions {
  readonly member: MemberIndex;
  readonly names: Names;
  readonly maps: {
    readonly group: NodeGroup;
    readonly fqdn: KernelExpiryOptions['fqdn'];
    readonly learnRequests: ConstructorParameters<typeof KernelWriter>[0];
    readonly learn: ConstructorParameters<typeof KernelWriter>[1];
  };
  /** Addresses that open connections use; null: not known. */
  readonly inUse: AddressesInUse | null;
  readonly clock: Pick<Clock, 'monotonicMs' | 'boottimeSeconds'>;
  readonly timers: TaskTimers;
  readonly idleSeconds: number;
  /** Tables that the member serves. */
  readonly tables: () => PolicyTables | null;
  readonly onFeedError: (error: unknown) => void;
  readonly onExpiryError: (error: unknown) => void;
  readonly sizes?: NameSizes;
}

export interface NameWork {
  readonly writer: KernelWriter;
  readonly backfill: Backfill;
  readonly feed: SelectorFeed;
  readonly expiry: KernelExpiry;
  /** Every `exchangeTickMs`. */
  readonly tick: () => void;
}

export function assembleNameWork(options: NameWorkOptions): NameWork {
  const { member, names, maps, inUse, clock, timers, sizes } = options;
  const { store, exchange } = names;
  const { group } = maps;
  const nowSeconds = (): number => Math.floor(clock.boottimeSeconds());
  // One batch of requests for each thread that writes.
  const writer = new KernelWriter(maps.learnRequests, maps.learn, TD_MEMBERS_MAX + member);
  const backfill = new Backfill({ cache: store.cache, writer, nowSeconds });
  const feed = new SelectorFeed({
    ...{ member, store, exchange, backfill, group, clock, timers },
    tables: options.tables,
    onError: options.onFeedError,
  });
  const expiry = new KernelExpiry({
    fqdn: maps.fqdn,
    writer,
    idleSeconds: options.idleSeconds,
    ...(sizes?.expiryStepEntries === undefined ? {} : { stepEntries: sizes.expiryStepEntries }),
  });
  const upkeep = new Upkeep({
    ...{ exchange, store },
    sweeps: inUse === null ? [expiry] : [expiry, inUse],
    ...(inUse === null ? {} : { inUse: (addresses, at) => inUse.until(addresses, at) }),
    // The agent empties the kernel's map; the proxy does when the agent is away.
    isSweeper: () =>
      member === agentMember || !group.isServing(agentMember, clock.monotonicMs() * 1e6),
    ...(sizes?.expiryWalkMs === undefined ? {} : { walkMs: sizes.expiryWalkMs }),
    onLateNames: () => feed.feedAll(),
    onExpiryError: options.onExpiryError,
  });
  const tick = (): void => upkeep.tick(clock.monotonicMs(), nowSeconds());
  return { writer, backfill, feed, expiry, tick };
}
