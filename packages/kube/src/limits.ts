// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the conversation with the API server. */

/** Of one line of a watch, that is one object with its event; etcd refuses objects over a few MiB. */
export const lineBytesMax: number = 16 << 20;
/** Of one page of a list: a longer one is asked for again with fewer objects. */
export const pageBytesMax: number = 16 << 20;
/** Objects of a page at most, as client-go asks. */
export const pageObjects = 500;
/** A page that was too long is asked for again with so many times fewer. */
export const pageShrink = 4;
/** Objects of one kind. */
export const objectsMax = 1_000_000;
/** A connection that is not there by then is not waited for. */
export const connectTimeoutMs = 10_000;
/**
 * What the server may send ahead of its reader, of one watch and of all: with the 64 KiB of HTTP/2 a list over 50 ms of network
 * passes at 1.3 MB/s, and one watch that waits stops the others.
 */
export const streamWindowBytes: number = 1 << 20;
export const connectionWindowBytes: number = 16 << 20;
/** Silence of a connection until it is asked whether it lives, and how long it may take to answer. */
export const pingIntervalMs = 15_000;
export const pingTimeoutMs = 5000;
/** The API server answers a request with headers at once, a list after it has read etcd. */
export const headersTimeoutMs = 30_000;
/** Bookmarks come each minute: without one for so long a watch is dead, though its connection may live. */
export const silenceMaxMs = 180_000;
/** A watch is ended by the server after a time between these, so that all of a cluster do not end at once. */
export const watchSecondsMin = 300;
export const watchSecondsMax = 600;
/** A watch that ends sooner than this counts as a failed attempt. */
export const watchMsMin = 1000;
/** The initial events of a watch-list, or the pages of a list. */
export const listTimeoutMs = 120_000;
/** Between attempts, with full jitter: 0 to a bound that doubles from the first to the second. */
export const backoffFirstMs = 1000;
export const backoffMaxMs = 60_000;
/** Between attempts to connect: one that fails costs the server nothing. */
export const connectBackoffMaxMs = 10_000;
/** A server that asks for more patience than this gets this much. */
export const retryAfterMaxMs = 60_000;
/** Agents of a cluster whose API server went away come back within so long of each other. */
export const reconnectSpreadMs = 5000;
/** A kind that the API server does not have is looked for again so often. */
export const absentRetryMs = 30_000;
/** A server without watch-lists is asked for one again after so long. */
export const watchListRetryMs = 600_000;
/** A token of a kubeconfig is asked for anew so often. */
export const tokenRefreshMs = 60_000;
