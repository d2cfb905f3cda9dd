// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the conversation with the kernel. */

/** Of a request. */
export const messageBytesMax = 32_768;
/** The kernel answers at once; one that does not is asked on a new socket. */
export const requestTimeoutMs = 5000;
/** Requests that wait for their turn. */
export const requestsWaitingMax = 65_536;
/** A dump that changes interrupted is made again, so many times in a row. */
export const dumpAttemptsMax = 16;
/** A table from which entries went while it was read is read again, so many times in a row. */
export const readAttemptsMax = 3;
/** Changes are told together, so long after the first. */
export const settleMs = 20;
/** What could not be read is read again after so long. */
export const retryMs = 250;
/**
 * Everything is read again so often, though nothing was told: the kernel drops IPv4 routes of an address or
 * interface that goes away without a word.
 */
export const resyncIntervalMs = 60_000;
