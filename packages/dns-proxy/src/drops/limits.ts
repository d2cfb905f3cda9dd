// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of reading the kernel's drop events. */

/** Interval between readings of the ring, and between renewals of the lease. */
export const dropReadMs = 50;
/** Wait after a failure before the next attempt. */
export const dropRetryMs = 2000;
/** Batches that one look reads, of at most 4096 events each: more than the ring holds. */
export const dropReadBatchesMax = 4;
/**
 * Time without a look after which a holder of the lease counts as dead or hung. Until then the ring must have room: it holds
 * 9362 events, less those held back, and with 2000 events a second and in one burst from each CPU, two CPUs fill it in 0.8
 * s.
 */
export const dropLeaseStaleMs = 500;
/** Events that stay in the ring until the other process has them, at most: it reads them if we die. */
export const heldDropsMax = 2048;
/** Events that the ledger can mark as seen: more than ring, backlog and batches in flight hold. */
export const ledgerEventsMax = 65_536;
/** Age from which a missing event counts as lost. */
export const missingSettleMs = 3000;
/** Interval between readings of the kernel's counters of lost events. */
export const kernelLossMs = 1000;
