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
/** An attempt to connect ends after so long. */
export const connectTimeoutMs = 10_000;
/**
 * Flow-control windows of HTTP/2, of one stream and of the connection. With its default of 64 KiB a list over a network of 50 ms
 * comes at 1.3 MB/s, and one stream that is not read stops the others.
 */
export const streamWindowBytes: number = 1 << 20;
export const connectionWindowBytes: number = 16 << 20;
/** A connection that was silent for so long gets a PING, and is closed when no answer comes in the second time. */
export const pingIntervalMs = 15_000;
export const pingTimeoutMs = 5000;
/** A request without response headers for so long has failed. A list gets them after the server has read etcd. */
export const headersTimeoutMs = 30_000;
/** A watch without an event for so long is asked for again: bookmarks come each minute. */
export const silenceMaxMs = 180_000;
/** timeoutSeconds of a watch, drawn between these, so that the watches of a cluster do not end at once. */
export const watchSecondsMin = 300;
export const watchSecondsMax = 600;
/** A watch that ends sooner than this counts as a failed attempt. */
export const watchMsMin = 1000;
/** A list that sends nothing for so long has failed, in the middle of a page or of its events, though its connection may live. */
export const listSilenceMaxMs = 120_000;
/** Wait between attempts, with full jitter: from 0 to a bound that doubles from the first value to the second. */
export const backoffFirstMs = 1000;
export const backoffMaxMs = 60_000;
/** The largest bound between attempts to connect: one that fails costs the server nothing. */
export const connectBackoffMaxMs = 10_000;
/** The longest Retry-After that is followed; a longer one counts as this. */
export const retryAfterMaxMs = 60_000;
/** After a lost connection an agent waits a random part of this, so that the agents of a cluster do not come at once. */
export const reconnectSpreadMs = 5000;
/** How often a kind that the API server does not have is looked for again. */
export const absentRetryMs = 30_000;
/** How often a server without WatchList is asked for it again. */
export const watchListRetryMs = 600_000;
/** How often the token of a kubeconfig is read anew. */
export const tokenRefreshMs = 60_000;
/** A request that is no list and no watch ends after so long, and its answer has at most so many octets. */
export const callTimeoutMs = 10_000;
export const callBytesMax: number = 16 << 20;
/** The first wait for a kind that the API server does not have; it doubles up to `absentRetryMs`. */
export const absentFirstRetryMs = 1000;
