// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the exchange with the other process. */

import { syncRecordBytesMax } from '@tandem/proto/limits';

/**
 * Pieces of records that wait while the other process is away; the oldest go first (`eventsLost`). More
 * events than its store has room for would not be kept anyway, and names come with the whole cache.
 */
export const backlogPiecesMax = 16;
/** Batches that were sent and not acknowledged; beyond it we wait. */
export const batchesInFlightMax = 16;
/** Bytes of records that can wait: the pieces, those in flight, and one of each kind being filled. */
export const backlogBytesMax: number =
  (backlogPiecesMax + batchesInFlightMax + 2) * syncRecordBytesMax;

/**
 * DNS events a second that are told to the other process, and how many may come at once (`eventsLimited`).
 * Events that teach its name cache something do not count: all of them are told.
 */
export const forwardedDnsPerSecond = 2000;
export const forwardedDnsBurst = 4000;
/** The same for drop events. */
export const forwardedDropsPerSecond = 500;
export const forwardedDropsBurst = 1000;

/** How often what has gathered is sent. */
export const exchangeTickMs = 100;
/** Least time between two transfers of the whole cache that lost mappings make necessary. */
export const transferIntervalMs = 10_000;
