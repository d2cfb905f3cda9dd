// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the exchange with the other process. */

import { syncRecordBytesMax } from '@tandem/proto/limits';

/**
 * Pieces of records that wait while the other process does not run; the oldest are dropped first (`eventsLost`). The store
 * of the other process has no room for more events, and names come with the whole cache.
 */
export const backlogPiecesMax = 16;
/** Batches that were sent and not acknowledged; beyond it we wait. */
export const batchesInFlightMax = 16;
/**
 * Bytes of records that can wait: the waiting pieces, the pieces in flight, and the piece of each kind that is being filled.
 */
export const backlogBytesMax: number =
  (backlogPiecesMax + batchesInFlightMax + 2) * syncRecordBytesMax;

/**
 * DNS events a second that are sent to the other process, and the size of a burst (`eventsLimited`). Events that feed its
 * name cache do not count: all of them are sent.
 */
export const forwardedDnsPerSecond = 2000;
export const forwardedDnsBurst = 4000;
/** Drop events a second that are sent to the other process, and the size of a burst. */
export const forwardedDropsPerSecond = 500;
export const forwardedDropsBurst = 1000;

/** Time by which the start of the other process's run may be ahead of the receiver's clock, seconds; a hello of later is refused. */
export const epochAheadSecondsMax = 60;
/** Time that a process which ends gives its last batches to leave it; what its socket has taken reaches the other process. */
export const exchangeEndMs = 20;
/** Interval between batches. */
export const exchangeTickMs = 100;
/** Least time between two transfers of the whole cache that lost mappings make necessary. */
export const transferIntervalMs = 10_000;
