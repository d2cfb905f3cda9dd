// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { heartbeatIntervalMs } from '@tandem/dns-proxy/limits';
import type { NameSizes } from '@tandem/dns-proxy/store/assemble';
import type { MemberSizes } from '@tandem/dns-proxy/worker/assemble';

/** Sizes of the simulated node: small, so that bounds are met within a schedule of some hundred steps. */

/** Slots of the journal: 64 receive, the rest are in flight; the few are too few for two lives. */
export const slotCounts = { enough: 152, few: 84 } as const;
export const graceSeconds = 4;
/** How long the kernel keeps an expired address. */
export const idleSeconds = 6;
export const ringBytes = 8192;
export const exchangeLimits = {
  backlogPiecesMax: 1,
  batchesInFlightMax: 1,
  pieceBytesMax: 700,
  pageMappingsMax: 6,
} as const;
export const streamMessagesMax = 3;
export const cacheLimits = {
  entriesMax: 128,
  namesMax: 64,
  nameBlocksMax: 128,
  namespacesMax: 8,
  entriesPerNamespaceMax: 96,
  addressesPerNameMax: 16,
} as const;
/** Sizes for the main thread's work with names. */
export const nameSizes: NameSizes = {
  cache: cacheLimits,
  events: { eventsMax: 16, bytesMax: 4096 },
  exchange: exchangeLimits,
  expiryStepEntries: 4,
  expiryWalkMs: 700,
};
/** Share of pods' actions in which they open a connection, with two queries on average. */
export const tcpShare = 0.06;
/** Sizes of a member's tables. */
export const memberSizes: MemberSizes = {
  flows: 64,
  ids: 256,
  knownPairs: 128,
  /** The smallest block of memory for messages over TCP: most are in one, and it is soon another's. */
  tcpBlockBytesMin: 64,
  /** At each heartbeat: so that after each stop of a process the first one is judged by what came meanwhile. */
  sweepMs: heartbeatIntervalMs,
};
/** Connections of one pod that a member reads. */
export const connectionsPerPod = 3;
/** Queries of a pod in a second, and queries in flight of a member: far more than are asked, or too few. */
export const queryRates = { enough: 1000, few: 12 } as const;
export const inFlightCounts = { enough: 256, few: 16 } as const;
/** Steps with faults of a schedule, unless told otherwise. */
export const stepsDefault = 200;

/** A schedule's faults may not keep a process away for longer than that. */
export const healBoundMs = 30_000;
