// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of what the main thread of a member keeps: events, names of pods. */

/** Events that are kept for observers, and bytes of their records; the oldest go first (`eventsOverwritten`). */
export const storedEventsMax = 8192;
export const storedEventBytesMax: number = 1 << 20;
/** Observers are woken without delay when so many events came since they were woken last. */
export const observerWakeEvents: number = storedEventsMax / 4;
/** Endpoints whose pod is remembered, those that are gone included; the oldest go first. */
export const endpointNamesMax = 16_384;

/** Age up to which a copy of the name cache gives the names beside a dropped packet. */
export const peerNamesAgeMs = 5000;

/** Names that backfill looks at before it lets other work of the thread pass. */
export const backfillSliceNames = 1024;
/**
 * Time after which the name cache has all answers from before the members matched a new selector, ms: twice the pace of the
 * worker's ring and of the exchange.
 */
export const backfillSettleMs = 300;
/** Selectors that one name may feed; more are counted, not fed. */
export const backfillSelectorsPerNameMax = 256;

/** Entries of the kernel's `fqdn` map that one step of its expiry looks at. */
export const expiryStepEntries = 2048;
/** Pause between steps, and between one walk of the map and the next. */
export const expiryStepMs = 100;
export const expiryWalkMs = 30_000;
/** Places of the name cache that one step looks at. */
export const cacheExpiryStepPlaces = 4096;
