// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the conversation with the kernel. */

/** Octets of a request. */
export const messageBytesMax = 32_768;
/** Time limit of the answer to a request; the next request uses a new socket. */
export const requestTimeoutMs = 5000;
/** Requests that wait for their turn. */
export const requestsWaitingMax = 65_536;
/** Attempts for a dump that changes interrupt (NLM_F_DUMP_INTR). */
export const dumpAttemptsMax = 16;
/** Attempts for a table from which entries went while it was read. */
export const readAttemptsMax = 3;
/** Delay after a first change, with which further changes are reported together. */
export const settleMs = 20;
/**
 * Pause after a reading of tables, as a multiple of the time that it took, and its bound in ms: the kernel lists tables under the lock of RTNL, for
 * which CNI plugins wait. Changes are seen that much later.
 */
export const readPauseFactor = 4;
export const readPauseMaxMs = 100;
/** Wait before the next attempt of a reading that failed. */
export const retryMs = 250;
/**
 * Interval between readings of everything without a notice: the kernel sends none for IPv4 routes that are removed with
 * their address or interface.
 */
export const resyncIntervalMs = 60_000;
