// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Pods whose rates from_pod limits, and what they have spent: set-up of the tests of query_pace.h and connect_pace.h. */

import type { Fixture } from './fixture.ts';

export interface PacedPod {
  /** Id of its endpoint; the neighbour's is 10 more. */
  readonly id: number;
  readonly pod: string;
  readonly neighbour: string;
  readonly server: string;
}

export class PaceStage {
  readonly #fixture: Fixture;
  readonly #pods: readonly PacedPod[];
  readonly #map: 'query_pace' | 'connect_pace';

  constructor(fixture: Fixture, pods: readonly PacedPod[], map: 'query_pace' | 'connect_pace') {
    this.#fixture = fixture;
    this.#pods = pods;
    this.#map = map;
  }

  /** No pod has spent anything, and one member serves. */
  reset(): void {
    const fixture = this.#fixture;
    fixture.reset();
    this.setNodeSpent(0n);
    fixture.member(0, 'LIVE');
    for (const { pod, neighbour, server, id } of this.#pods) {
      fixture.endpoint(pod, { id, flags: ['DNS'] });
      fixture.endpoint(neighbour, { id: 10 + id, flags: ['DNS'] });
      for (const protocol of [6, 17]) fixture.dnsServer(server, protocol);
      for (const each of [id, 10 + id]) this.setSpent(each, 0n);
    }
  }

  /** Sets how far the rate of an endpoint is spent: until then, CLOCK_MONOTONIC in ns. */
  setSpent(endpointId: number, spent: bigint): void {
    const pace = this.#fixture.structs.bytes('td_pod_pace', { spent });
    this.#fixture.map(this.#map).update(word(endpointId), pace);
  }

  /** As `setSpent`, of all pods together. */
  setNodeSpent(spent: bigint): void {
    const value = new Uint8Array(8);
    new DataView(value.buffer).setBigUint64(0, spent, true);
    this.#fixture.map(`node_${this.#map}`).update(word(0), value);
  }
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
