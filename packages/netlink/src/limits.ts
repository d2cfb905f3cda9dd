// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the conversation with the kernel. */

/** Octets of a request. */
export const messageBytesMax = 32_768;
/** A request without an answer for so long has failed; the next one goes over a new socket. */
export const requestTimeoutMs = 5000;
/** Requests that wait for their turn. */
export const requestsWaitingMax = 65_536;
/** Attempts for a dump that changes interrupt (NLM_F_DUMP_INTR). */
export const dumpAttemptsMax = 16;
/** Attempts for a table from which entries went while it was read. */
export const readAttemptsMax = 3;
/** Changes are told together, so long after the first of them. */
export const settleMs = 20;
/** Wait before what could not be read is read again. */
export const retryMs = 250;
/**
 * How often everything is read again without a notice: the kernel sends none for IPv4 routes that go with
 * their address or interface.
 */
export const resyncIntervalMs = 60_000;
