// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the conversation with the API server. */

/** Octets of one line of a watch, which is one event with its object; etcd refuses objects over a few MiB. */
export const lineBytesMax: number = 16 << 20;
/** Octets of one page of a list; a longer page is asked for again with fewer objects. */
export const pageBytesMax: number = 16 << 20;
/** Objects of a page, as client-go asks. */
export const pageObjects = 500;
/** By how much the objects of a page are divided when the page was too long. */
export const pageShrink = 4;
/** Objects of one kind; a list with more fails. */
export const objectsMax = 1_000_000;
/** Time limit of an attempt to connect. */
export const connectTimeoutMs = 10_000;
/**
 * Flow-control windows of HTTP/2, of one stream and of the connection. With its default of 64 KiB a list over a network of 50 ms
 * comes at 1.3 MB/s, and one stream that is not read stops the others.
 */
export const streamWindowBytes: number = 1 << 20;
export const connectionWindowBytes: number = 16 << 20;
/** Silence after which a connection gets a PING, and the time limit of its answer, after which the connection is closed. */
export const pingIntervalMs = 15_000;
export const pingTimeoutMs = 5000;
/** Time limit of the response headers of a request. A list gets them after the server has read etcd. */
export const headersTimeoutMs = 30_000;
/** Time without an event after which a watch is opened again: bookmarks come each minute. */
export const silenceMaxMs = 180_000;
/** timeoutSeconds of a watch, drawn between these, so that the watches of a cluster do not end at once. */
export const watchSecondsMin = 300;
export const watchSecondsMax = 600;
/** A watch that ends sooner than this counts as a failed attempt. */
export const watchMsMin = 1000;
/** Silence after which a list has failed, in the middle of a page or of its events, even if its connection works. */
export const listSilenceMaxMs = 120_000;
/** Wait between attempts, with full jitter: from 0 to a bound that doubles from the first value to the second. */
export const backoffFirstMs = 1000;
export const backoffMaxMs = 60_000;
/** The largest bound between attempts to connect: one that fails costs the server nothing. */
export const connectBackoffMaxMs = 10_000;
/** The longest Retry-After that is followed; a longer one counts as this. */
export const retryAfterMaxMs = 60_000;
/** Largest random wait of an agent after a lost connection, so that the agents of a cluster do not connect at once. */
export const reconnectSpreadMs = 5000;
/** Interval between requests for a kind that the API server does not have. */
export const absentRetryMs = 30_000;
/** Interval between requests for a WatchList from a server that refused it. */
export const watchListRetryMs = 600_000;
/** Interval between readings of the token of a kubeconfig. */
export const tokenRefreshMs = 60_000;
/** Time limit of a request that is no list and no watch, and the octets of its answer. */
export const callTimeoutMs = 10_000;
export const callBytesMax: number = 16 << 20;
/** Versions of a group whose documents are read to find a resource. */
export const discoveryVersionsMax = 16;
/** The first wait for a kind that the API server does not have; it doubles up to `absentRetryMs`. */
export const absentFirstRetryMs = 1000;
