// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A map of the agent's across versions: written in this version's layout and in that of the version
 * before, while that one is kept; read by a member in its own layout though an older agent wrote it.
 */

import type { BpfMap } from '@tandem/bpf-loader-node/map';
import { tdEndpoint } from './abi.gen.ts';
import type { Entry } from './encode.ts';
import type { Convert } from './migrations.ts';
import { MirroredMap, type ReconcileResult } from './mirrored-map.ts';

export interface KeptMap {
  readonly map: BpfMap;
  /** From this version's layout to its own. */
  readonly convert: Convert;
}

interface KeptMirror {
  readonly mirror: MirroredMap;
  readonly convert: Convert;
}

export class AgentTable implements Disposable {
  readonly #own: MirroredMap;
  readonly #kept: KeptMap | null;
  readonly #keptMirror: KeptMirror | null;

  constructor(map: BpfMap, kept: KeptMap | null) {
    this.#own = new MirroredMap(map);
    this.#kept = kept;
    this.#keptMirror =
      kept === null ? null : { mirror: new MirroredMap(kept.map), convert: kept.convert };
  }

  /** Entries of this version's map. */
  entries(): Iterable<[key: Uint8Array, value: Uint8Array]> {
    return this.#own.entries();
  }

  /** Whether this version's map has room for `desired` beside what it holds. */
  fits(desired: readonly Entry[], capacity: number): boolean {
    return this.#own.fits(desired, capacity);
  }

  /** Whether either version's map holds anything else than `desired`. */
  differs(desired: readonly Entry[]): boolean {
    if (this.#own.differs(desired)) return true;
    const kept = this.#keptMirror;
    return kept?.mirror.differs(converted(desired, kept.convert)) === true;
  }

  /** As `MirroredMap.add`; the count is of this version's map. */
  add(desired: readonly Entry[]): ReconcileResult {
    const kept = this.#keptMirror;
    kept?.mirror.add(converted(desired, kept.convert));
    return this.#own.add(desired);
  }

  /** As `MirroredMap.prune`. */
  prune(desired: readonly Entry[]): ReconcileResult {
    const kept = this.#keptMirror;
    kept?.mirror.prune(converted(desired, kept.convert));
    return this.#own.prune(desired);
  }

  /** As `MirroredMap.remove`. */
  remove(entries: readonly Entry[]): ReconcileResult {
    const kept = this.#keptMirror;
    kept?.mirror.remove(converted(entries, kept.convert));
    return this.#own.remove(entries);
  }

  /** As `MirroredMap.compare`, of both versions' maps. */
  compare(count: number): boolean {
    const isKeptChanged = this.#keptMirror?.mirror.compare(count) === true;
    return this.#own.compare(count) || isKeptChanged;
  }

  [Symbol.dispose](): void {
    this.#kept?.map[Symbol.dispose]();
  }
}

function converted(entries: readonly Entry[], convert: Convert): Entry[] {
  return entries.map(convert).filter((entry) => entry !== null);
}

/** Look-up of members in `endpoints`, in the layout of td_endpoint. */
export interface EndpointLookup {
  lookupInto(key: Uint8Array, value: Uint8Array): boolean;
  entries(): Iterable<[key: Uint8Array, value: Uint8Array]>;
}

export class MigratedEndpoints implements EndpointLookup {
  readonly #map: BpfMap;
  readonly #convert: Convert;
  readonly #value: Uint8Array;

  constructor(map: BpfMap, convert: Convert) {
    this.#map = map;
    this.#convert = convert;
    this.#value = new Uint8Array(map.valueBytes);
  }

  /** Once per new flow of a pod: its allocations do not matter. */
  lookupInto(key: Uint8Array, value: Uint8Array): boolean {
    if (!this.#map.lookupInto(key, this.#value)) return false;
    const entry = this.#convert({ key, value: this.#value });
    if (entry === null) return false;
    value.set(entry.value.subarray(0, tdEndpoint.size));
    return true;
  }

  *entries(): Generator<[Uint8Array, Uint8Array], void, undefined> {
    for (const [key, value] of this.#map.entries()) {
      const entry = this.#convert({ key, value });
      if (entry !== null) yield [entry.key, entry.value];
    }
  }
}
