// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Values of the kernel's maps for people: serving members, fill, endpoints. */

import { BatchCursor, type BpfMap } from '@tandem/bpf-loader-node/map';
import {
  TD_FQDN_PAGES_MAX,
  TD_FQDN_SELECTORS_MAX,
  tdFqdn,
  tdFqdnKey,
  tdFqdnSlot,
} from '@tandem/datapath/abi.gen';
import { readCounters } from '@tandem/datapath/counters';
import type { Datapath } from '@tandem/datapath/datapath';
import { decodeEndpoint, type EndpointValue } from '@tandem/datapath/encode';
import { type MemberStatus, NodeGroup } from '@tandem/datapath/group';
import { type LearnedSpace, readLearnedSpaces } from '@tandem/datapath/learned-spaces';
import type { MapName } from '@tandem/datapath/paths';
import { TandemError } from '@tandem/runtime/tandem-error';
import { heavyPodsAgeMs, learnedAgeMs, mapCountAgeMs, mapCountEntries } from './limits.ts';

/** Maps whose fill either process can read, and those that only the agent may read. */
const memberMaps: readonly MapName[] = ['endpoints', 'fqdn'];
const laterMaps = ['fqdn_live', 'learned_spaces'] as const;
const agentOnlyMaps: readonly MapName[] = ['classes', 'policy', 'dns_servers'];

export interface MapFill {
  readonly name: string;
  readonly entries: number;
  readonly capacity: number;
}

export class KernelView {
  readonly #datapath: Datapath;
  readonly #maps: readonly MapName[];
  readonly #isAgent: boolean;
  readonly #nowNs: () => number;
  readonly #group: NodeGroup;
  #fill: readonly MapFill[] = [];
  #filledMs = -Infinity;
  #learned: readonly LearnedSpace[] = [];
  #learnedMs = -Infinity;
  #heavy: readonly number[] | null = null;
  #heavyMs = -Infinity;
  /** Values that could not be read when they were last asked for, with the error. */
  readonly #unreadable = new Map<string, string>();

  /** `nowNs`: CLOCK_MONOTONIC. */
  constructor(datapath: Datapath, isAgent: boolean, nowNs: () => number) {
    this.#datapath = datapath;
    this.#maps = isAgent ? [...memberMaps, ...agentOnlyMaps] : memberMaps;
    this.#isAgent = isAgent;
    this.#nowNs = nowNs;
    this.#group = new NodeGroup(datapath.map('group').mmap());
  }

  members(): MemberStatus[] {
    return this.#group.members(this.#nowNs());
  }

  /** The revision below which members are passed over. */
  requiredRevision(): number {
    return this.#group.requiredRevision;
  }

  /** The policy revision that the datapath enforces; 0: none since boot. */
  appliedRevision(): number {
    return this.#group.appliedRevision;
  }

  /** Whether `judge` is at all its hooks; null: only the agent has access to its links. */
  isJudging(): boolean | null {
    return this.#isAgent ? this.#datapath.isJudging() : null;
  }

  /** By lower-case name; none if they cannot be read. */
  counters(): Readonly<Record<string, number>> {
    return this.#read('counters of packets', {}, () => readCounters(this.#datapath));
  }

  /** Entries of each map that can be read; counted at most every `mapCountAgeMs`. */
  mapFill(): readonly MapFill[] {
    const nowMs = this.#nowNs() / 1e6;
    if (nowMs - this.#filledMs < mapCountAgeMs) return this.#fill;
    this.#filledMs = nowMs;
    const maps = [
      ...this.#maps.map((name) => [name, () => this.#datapath.map(name)] as const),
      ...laterMaps.map((name) => [name, () => this.#datapath.laterMap(name)] as const),
    ];
    this.#fill = maps.flatMap(([name, open]) =>
      this.#read(`entries of ${name}`, [], () => {
        const map = open();
        return map === null ? [] : [{ name, entries: countEntries(map), capacity: map.maxEntries }];
      }),
    );
    return this.#fill;
  }

  /** Learned pairs of each namespace, none where they cannot be read; read at most every `learnedAgeMs`. */
  learned(): readonly LearnedSpace[] {
    const nowMs = this.#nowNs() / 1e6;
    if (nowMs - this.#learnedMs < learnedAgeMs) return this.#learned;
    this.#learnedMs = nowMs;
    this.#learned = this.#read('learned addresses of each namespace', [], () => {
      const order = this.#datapath.laterMap('learned_order');
      return order === null ? [] : readLearnedSpaces(order);
    });
    return this.#learned;
  }

  /** Ids of endpoints that ask much now, most first; null: this process does not know. Read at most every `heavyPodsAgeMs`. */
  heavyEndpoints(): readonly number[] | null {
    const nowNs = this.#nowNs();
    if (nowNs / 1e6 - this.#heavyMs >= heavyPodsAgeMs) {
      this.#heavyMs = nowNs / 1e6;
      this.#heavy = this.#read('pods that ask much now', null, () =>
        this.#datapath.heavyEndpoints(nowNs),
      );
    }
    return this.#heavy;
  }

  /** Values that `counters`, `mapFill`, `learned` and `heavyEndpoints` could not read when they last did, in words. */
  unreadable(): readonly string[] {
    return [...this.#unreadable].map(([what, reason]) => `${what}: ${reason}`);
  }

  /** A map that cannot be read must not cost people all the others. */
  #read<T>(what: string, otherwise: T, read: () => T): T {
    try {
      const value = read();
      this.#unreadable.delete(what);
      return value;
    } catch (error) {
      this.#unreadable.set(what, TandemError.from(error).message);
      return otherwise;
    }
  }

  /** All pod addresses that the kernel judges. */
  *endpoints(): Generator<{ readonly address: Uint8Array } & EndpointValue, void, undefined> {
    for (const [address, value] of this.#datapath.endpoints().entries()) {
      yield { address, ...decodeEndpoint(value) };
    }
  }

  /** FQDN selectors that hold the address now, at most `limit`. */
  selectorsOf(address: Uint8Array, limit: number): number[] {
    return selectorsOf(this.#datapath.map('fqdn'), address, limit);
  }
}

const page = new Uint8Array(tdFqdn.size);
const pageWords = new Uint32Array(page.buffer);

/** FQDN selectors that hold the address in the `fqdn` map, at most `limit`. */
export function selectorsOf(fqdn: BpfMap, address: Uint8Array, limit: number): number[] {
  const key = new Uint8Array(tdFqdnKey.size);
  key.set(address);
  const selectors: number[] = [];
  for (let number = 0; number < TD_FQDN_PAGES_MAX; number++) {
    key[tdFqdnKey.page] = number;
    if (!fqdn.lookupInto(key, page)) break;
    for (let s = 0; s < TD_FQDN_SELECTORS_MAX && selectors.length < limit; s++) {
      const at = (tdFqdn.slot + s * tdFqdnSlot.size + tdFqdnSlot.selector) / 4;
      const selector = pageWords[at]!;
      // Each namespace has a slot of its own.
      if (selector !== 0 && !selectors.includes(selector)) selectors.push(selector);
    }
  }
  return selectors;
}

/** Counts with two buffers that are used again for every batch. */
function countEntries(map: BpfMap): number {
  const capacity = Math.min(mapCountEntries, map.maxEntries);
  const keys = new Uint8Array(capacity * map.keySize);
  const values = new Uint8Array(capacity * map.valueBytes);
  const cursor = new BatchCursor(map.keySize);
  let count = 0;
  // Bounded even if entries are deleted under a trie's walk, which then begins again.
  while (!cursor.isDone && count <= map.maxEntries) {
    count += map.lookupBatch(cursor, keys, values, capacity);
  }
  return Math.min(count, map.maxEntries);
}
