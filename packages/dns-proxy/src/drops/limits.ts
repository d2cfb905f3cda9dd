// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of reading the kernel's drop events. */

/** How often the ring is read, and the lease renewed. */
export const dropReadMs = 50;
/** After a failure it is tried again after so long. */
export const dropRetryMs = 2000;
/** Batches that one look reads, of at most 4096 events each: more than the ring holds. */
export const dropReadBatchesMax = 4;
/**
 * A holder of the lease that did not look for so long is dead or hangs. Until then the ring must do: with
 * its room for 9362 events, less those held back, and 2000 events a second and in one burst from each
 * CPU, two CPUs fill it in 0.8 s.
 */
export const dropLeaseStaleMs = 500;
/** Events that stay in the ring until the other process has them, at most: it reads them if we die. */
export const heldDropsMax = 2048;
/** Events whose being seen is remembered: more than ring, backlog and what is in flight hold. */
export const ledgerEventsMax = 65_536;
/** What is missing for so long does not come any more. */
export const missingSettleMs = 3000;
/** How often the kernel's counters of lost events are read. */
export const kernelLossMs = 1000;
