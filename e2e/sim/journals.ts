// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { regionBytes } from '@tandem/dns-proxy/journal/region';

/** The memory of the map `journal2`, allocated once: a world leaves what its next wipes. */
export const journals: readonly ArrayBuffer[] = [
  new ArrayBuffer(regionBytes),
  new ArrayBuffer(regionBytes),
];
const stateBytes = 64 << 10;

export function clearJournals(): void {
  for (const journal of journals) new Uint8Array(journal, 0, stateBytes).fill(0);
}
