// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Every bound of the DNS proxy. What a bound refuses is counted under the name given beside it
 * (`counters.ts`).
 */

/** Queries in flight of one member: the slots of its journal; beyond it SERVFAIL (`refusedSlots`). */
export const inFlightMax = 8192;
/**
 * Of one endpoint: one pod cannot fill the table (`refusedEndpointInFlight`). Holds what comes at once
 * after a stall of 250 ms at 2,000 queries a second.
 */
export const inFlightPerEndpointMax: number = inFlightMax / 16;
/** Longest UDP query that is taken; longer ones get FORMERR (`formatErrors`). */
export const udpQueryBytesMax = 1232;
/** A query that a dead or hung member had in hand for longer is not replayed: the pod has asked again. */
export const journalAgeMsMax = 5000;
/** Longest UDP reply that is passed on whole; longer ones are answered with TC=1. */
export const udpReplyBytesMax = 4096;
/** Datagrams of one system call. */
export const batchMax = 64;

/** Endpoints with limiter state; idle ones are dropped to make room. */
export const endpointSlotsMax = 8192;

/** Client × server × protocol tuples whose policy lookup is remembered. A power of two. */
export const flowTableEntries = 16_384;

/** An upstream that has not answered by then never will: the query is forgotten (`upstreamTimeouts`). */
export const upstreamTimeoutMs = 5000;
/** UDP sockets, each with a random port, to one server. A power of two. */
export const upstreamSocketsPerServerMax = 64;
export const upstreamServersMax = 256;
export const upstreamSocketsMax = 1024;
/** A socket is replaced after this long, so that its port is a moving target. */
export const upstreamSocketLifetimeMs = 60_000;
/** Queries without answer in a row after which a socket is replaced: its conntrack entry may be stale. */
export const upstreamSocketTimeoutsMax = 3;

/**
 * Places for (address, selector) pairs whose expiry is remembered to spare kernel writes; three quarters
 * are used at most. A power of two, 65,536 at most.
 */
export const knownPairsMax = 65_536;
/**
 * An expiry that moves by less than this share of the grace is not written again: else each repeated
 * answer would cost a write every second. The address still outlives its TTL by the rest of the grace.
 */
export const extensionGraceShare = 4;
/** Pairs that this member learned, kept in order so that a full quota evicts its own oldest. */
export const learnedQueueMax = 131_072;
/** Evicted at once when a namespace's quota is full. */
export const evictionBatch = 32;
/**
 * The first of the runs below: they pass over pairs that were answered again since they were learned, so
 * that names asked all the time are not evicted for being old. The runs after them take what is oldest.
 * Nearly all: most of what is remembered may be gone already, and what comes then be fresh. Each pair
 * passed over is gone or was answered again, so what a pod can make them cost it has paid for with answers.
 */
export const evictionSparingRuns = 60;
/** Runs of the kernel writer that one full quota may cost; most of what is evicted may be gone already. */
export const evictionRunsMax = 64;
/** Entries of the kernel's map that are looked at, and pairs found, when this member remembers too little. */
export const learnedScanEntries = 32_768;
export const learnedScanPairs = 4096;
/** Namespaces at their quota of which is remembered how much there is. */
export const learnedScanNamespaces = 4096;
export const learnedScansPerSecondMax = 10;
/** Seconds; RFC 8767 suggests a week as the cap of any TTL. */
export const ttlSecondsMax = 604_800;

/** TCP, per endpoint, per connection, in time (threat T13). */
export const tcpConnectionsPerEndpointMax = 20;
export const tcpConnectionsMax = 1024;
export const tcpInFlightPerConnectionMax = 100;
export const tcpIdleTimeoutMs = 10_000;
export const tcpMessageTimeoutMs = 2000;
export const tcpMessageBytesMax = 65_535;
export const tcpConnectTimeoutMs = 3000;
/** Bytes that may wait for a slow client before its connection is closed. */
export const tcpBacklogBytesMax = 262_144;

/** Bytes of the ring that carries events and mappings from the DNS worker to the main thread. */
export const eventRingBytes: number = 1 << 20;
/** The one timer of the main thread; what it does again and again comes every so many of its turns. */
export const turnMs = 50;
/** How often the main thread empties the ring. */
export const eventDrainIntervalMs: number = turnMs;
/** Records taken from the ring at one time: the main thread has other things to do. */
export const eventDrainRecordsMax = 16_384;

/** Of the drain bound, what is kept for queries in flight when no other member comes to serve. */
export const drainFinishMs = 1000;

/** Between attempts to link with the other member, doubled after each. */
export const peerRetryMsMin = 20;
export const peerRetryMsMax = 100;
/** How long a member that could serve waits for its link with one that serves. */
export const joinLinkMsMax = 300;
/** Links at one time: one, and those of lives that have just ended (`peerLinksRefused`). */
export const peerConnectionsMax = 4;
/** How long the listeners of a former life are read after a new one has linked. */
export const retiredListenersMs = 200;

/** Suffixes of the search list that are taken, of the node's or of `searchSuffixes`; more are said in the log. */
export const searchSuffixesMax = 32;
/** Bytes of the node's resolv.conf that are read. */
export const resolvConfBytesMax = 65_536;

/** A fifth of the age at which a member counts as stale; a busy member beats with each batch besides. */
export const heartbeatIntervalMs = 20;
export const sweepIntervalMs = 100;
/** How often the proxy looks for the agent's pins while there are none. */
export const pinPollMs = 200;
/** How often a process looks whether the one that has its index has ended. */
export const indexPollMs = 50;
/** How often the program that chooses members is attached anew. */
export const selectorIntervalMs = 1000;

/** How often listeners that could not be opened, because the port is taken, are tried again. */
export const listenerRetryMs = 1000;
