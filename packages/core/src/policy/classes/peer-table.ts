// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The peers that policies name, each once, while a policy names it. */

import type { Peer } from '../model/peer.ts';

/** Peers by key. What names them is told apart by the map itself, which does not change. */
export type Peers = ReadonlyMap<string, Peer>;

export class PeerTable {
  readonly #peers = new Map<string, Peer>();
  readonly #counts = new Map<string, number>();
  #sources: ReadonlySet<Peers> = new Set();
  /** Keys that came or went since the last `takeChanges`, with what stood there then. */
  #moved = new Map<string, Peer | undefined>();

  /** All of them. It follows the table. */
  get peers(): Peers {
    return this.#peers;
  }

  /** Brings the table to the peers of these sources. */
  update(sources: Iterable<Peers>): void {
    const former = this.#sources;
    const now = new Set(sources);
    this.#sources = now;
    for (const source of now) if (!former.has(source)) this.#count(source, 1);
    for (const source of former) if (!now.has(source)) this.#count(source, -1);
  }

  takeChanges(): {
    readonly added: readonly (readonly [string, Peer])[];
    readonly removed: readonly (readonly [string, Peer])[];
  } {
    const added: (readonly [string, Peer])[] = [];
    const removed: (readonly [string, Peer])[] = [];
    for (const [key, former] of this.#moved) {
      const peer = this.#peers.get(key);
      if (former === undefined && peer !== undefined) added.push([key, peer]);
      else if (former !== undefined && peer === undefined) removed.push([key, former]);
    }
    this.#moved = new Map();
    return { added, removed };
  }

  #count(source: Peers, by: 1 | -1): void {
    for (const [key, peer] of source) {
      const count = (this.#counts.get(key) ?? 0) + by;
      if (!this.#moved.has(key)) this.#moved.set(key, this.#peers.get(key));
      if (count === 0) {
        this.#counts.delete(key);
        this.#peers.delete(key);
      } else {
        this.#counts.set(key, count);
        if (!this.#peers.has(key)) this.#peers.set(key, peer);
      }
    }
  }
}
