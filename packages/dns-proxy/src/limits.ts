// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Every bound of the DNS proxy. What a bound refuses is counted under the name given beside it
 * (`counters.ts`).
 */

/** Queries in flight of one member: the slots of its journal; beyond it SERVFAIL (`refusedSlots`). */
export const inFlightMax = 8192;
/**
 * An eighth of these places is kept for endpoints that have at most this many queries in flight: 256 pods have that many,
 * whatever the others hold.
 */
export const inFlightReserveShare = 8;
export const inFlightGuaranteed = 4;
/**
 * An endpoint's queries in flight, times this, stay below the other free places: one pod alone has a fifth of
 * them (`refusedEndpointInFlight`).
 */
export const endpointFreeShare = 4;
/** Queries in flight of all endpoints of one policy, times this, stay below the other free places (`refusedPolicyInFlight`). */
export const policyFreeShare = 2;
/** Longest UDP query that is taken; longer ones get FORMERR (`formatErrors`). */
export const udpQueryBytesMax = 1232;
/** A query older than this is not replayed after its member died or hung: no client waits for it any more. */
export const journalAgeMsMax = 10_000;
/** Longest UDP reply that is passed on whole; longer ones are answered with TC=1. */
export const udpReplyBytesMax = 4096;
/** Datagrams of one system call. */
export const batchMax = 64;

/** Endpoints, and policies, with limiter state; idle ones are dropped to make room. */
export const ownerSlotsMax = 8192;

/** Client × server × protocol tuples whose policy lookup is remembered. A power of two. */
export const flowTableEntries = 16_384;

/**
 * A server that has not answered by then never will (`upstreamTimeouts`): the pod gets no reply over UDP, as
 * without a proxy, and SERVFAIL over TCP. As long as Cilium waits.
 */
export const upstreamTimeoutMs = 10_000;
/**
 * Time from the first unanswered query of a socket after which it is suspect: conntrack may lead its connection to a backend
 * that is gone. It is retired, with the sockets of its server that had no answers meanwhile; its queries are asked again if
 * other sockets of the server have answers.
 */
export const upstreamSilenceMs = 1000;
/**
 * Time after a failed or silent socket in which new sockets to its server bypass the redirects of the node: the pod to which
 * one leads may be gone, and the agent may not run to remove the redirect.
 */
export const upstreamDirectMs = 5000;
/** SO_PRIORITY of sockets that bypass redirects: the nft table of redirects (agent, redirect-rules.ts) skips it. IP_TOS never sets this one. */
export const upstreamDirectPriority = 5;
/**
 * Silence after which a server may be given up (`upstreamServersGivenUp`) when its pod has no place for another one; the
 * server with the longest silence goes first.
 */
export const upstreamGiveUpMs = 250;
/** Other sockets to which a query moves that the node's netfilter drops, before it gets SERVFAIL. */
export const upstreamMovesMax = 3;
/**
 * ICMP errors in a row after which a server counts as unreachable, until `upstreamUnreachableMs` after the last one (a
 * kernel sends one a second to one address). One query in `upstreamProbeMs` is then sent, and gets SERVFAIL if there is no
 * answer by the next one; others get it at once (`refusedServerDown`).
 */
export const upstreamErrorsInRowMin = 3;
export const upstreamUnreachableMs = 2000;
export const upstreamProbeMs = 100;
/** UDP sockets, each with a random port, to one server. A power of two. */
export const upstreamSocketsPerServerMax = 64;
/**
 * Servers that are no resolvers of the cluster: of one endpoint, of one policy, of the node (`refusedUpstreamServers`). When
 * none is free, an endpoint that has no server takes an idle one of the endpoint that has most, so that each can ask.
 */
export const upstreamServersPerEndpointMax = 32;
export const upstreamServersPerPolicyMax = 128;
export const upstreamServersMax = 512;
/** The cluster's resolvers, which have places of their own: nothing that pods ask evicts them. */
export const upstreamResolversMax = 64;
/**
 * Open sockets to servers that are no resolvers of the cluster: of one endpoint, of one policy, of the node
 * (`refusedUpstreamSockets`). A server has one beyond the bounds of endpoint and policy when it has no other that may be used.
 */
export const upstreamSocketsPerEndpointMax = 64;
export const upstreamSocketsPerPolicyMax = 256;
export const upstreamSocketsMax = 1024;
/**
 * Servers, and sockets, of an endpoint, times this, stay below the other free places. A share of these is kept for endpoints
 * below their guarantee: 64 servers and 32 endpoints' sockets, whatever the others hold.
 */
export const upstreamFreeShare = 2;
export const upstreamReserveShare = 8;
export const upstreamServersGuaranteed = 1;
export const upstreamSocketsGuaranteed = 4;
/** Open sockets to the cluster's resolvers; one more for each that has no other. */
export const upstreamResolverSocketsMax = 1024;
/** A socket is replaced after this long, so that its port is a moving target. */
export const upstreamSocketLifetimeMs = 60_000;
/** Time since the last query after which a server without sockets is forgotten. */
export const upstreamServerIdleMs = 60_000;

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
/**
 * Pairs (address, selector) up to which an answer is an ordinary one. Of larger answers `learnPairsPerSecondMax` pairs a
 * second are written for one namespace at one member; further large answers are delivered and teach nothing until the second
 * is over (`learnRefusedRate`). Otherwise a pod that asks its own server for 250 new addresses with each query would take
 * the DNS worker's time from all others: for a namespace at its limit each is a write and a removal. An answer that teaches anything
 * counts at least its addresses, because the name caches get all of them. Pairs that only policies of other namespaces name count apart,
 * and over the bound they alone are left out (`learnRefusedOffers`).
 */
export const learnPairsOrdinary = 16;
export const learnPairsPerSecondMax = 8192;
/**
 * Time after which a refused address may be written again: a node that is gone leaves its address to others. Pairs of which that is
 * remembered; further ones wait until their expiry moves.
 */
export const refusedAddressSeconds = 60;
export const refusedPairsMax = 1024;
/** Seconds; RFC 8767 suggests a week as the cap of any TTL. */
export const ttlSecondsMax = 604_800;

/**
 * TCP (threat T13). Connections that are read: of one pod at one member by default (option
 * `tcpConnectionsPerPod`), of all pods. Beyond that they wait unread (`tcpWaited`).
 */
export const tcpConnectionsPerPodDefault = 256;
export const tcpConnectionsMax = 2048;
/**
 * An eighth of these places is kept for pods that have fewer connections than this: 64 pods have that many, whatever the
 * others hold.
 */
export const tcpConnectionsReserveShare = 8;
export const tcpConnectionsGuaranteed = 4;
/** Connections with a place that are opened in one turn of the event loop. */
export const tcpOpensPerTurn = 8;
/**
 * Connections that wait, each a file descriptor; beyond it connections of the pod with most of them are reset
 * (`tcpRefused`).
 */
export const tcpWaitingPerEndpointMax = 1024;
export const tcpWaitingMax = 4096;
/** Time after which a connection without a query makes way for a waiting one. */
export const tcpIdleEvictMs = 1000;
/**
 * Connections to servers that are kept for the next connection of the same pod: how many per pod, and for how long. A
 * pod that asks again and again goes on with them, and no more: many servers take few connections (unbound 10, dnsmasq
 * 20, NSD 100, BIND 150), and one that idles is one that others cannot have.
 */
export const tcpUpstreamsKeptMax = 2;
export const tcpUpstreamKeepMs = 250;
/**
 * Queries in flight of one connection; further ones wait in the kernel. The number is large, so that queries which a server
 * never answers do not delay the others until their 10 s are over.
 */
export const tcpInFlightPerConnectionMax = 512;
/**
 * Connections that may end with a query unanswered of which later ones were answered; after one more it is asked once on a connection
 * of its own. The query may be what ends them, with all that others have in flight there.
 */
export const tcpPassedOverMax = 3;
/** Such queries that are asked at one time, of one endpoint and of all; further ones get SERVFAIL (`upstreamErrors`). */
export const tcpAlonePerEndpointMax = 16;
export const tcpAloneMax = 128;
export const tcpIdleTimeoutMs = 10_000;
/** A query that has begun is whole by then, or its connection is closed (`tcpTimeouts`). */
export const tcpMessageTimeoutMs = 2000;
export const tcpMessageBytesMax = 65_535;
/** Longest query over TCP; longer ones get FORMERR (`formatErrors`). */
export const tcpQueryBytesMax = 4096;
export const tcpConnectTimeoutMs = 3000;
/**
 * Time after which a connection that a server has not accepted is opened once more, from another port and past the redirects of the
 * node (`tcpUpstreamsReopened`): conntrack leads each repetition of its SYN to the same backend, which may be gone. The first
 * repetition comes after a second (RFC 6298). One that is refused is opened once more at once.
 */
export const tcpReopenMs = 1000;
/**
 * Servers of which a member remembers, for `upstreamDirectMs`, that a connection past redirects was answered after one that could not be
 * made: of one endpoint, of the node. Beyond it the endpoint's oldest is forgotten (`tcpPastRedirectsForgotten`), and a connection for it
 * is refused once more first. An endpoint that has none takes the place of the oldest of the endpoint that has most.
 */
export const tcpPastRedirectsPerEndpointMax = 16;
export const tcpPastRedirectsMax = 1024;
/**
 * Limit of the DNS worker's heap (V8's old generation), MiB. With a limit of 256 or less, V8 collects when the heap has grown by a
 * third since the last collection, instead of to several times its size on a node with much memory: TCP connections that pods open and
 * close are garbage in it. A worker that reaches the limit ends, and its process with it.
 */
export const workerHeapMiBMax = 256;
/** Octets read from a connection at one time. */
export const tcpReadBytes = 8192;
/** Memory for long messages is used again: the smallest block, and how many of each size are kept while free. */
export const tcpBlockBytesMin = 8192;
export const tcpBlocksKept = 16;
/** Octets that may wait for a slow client; beyond them no more replies are made for it. */
export const tcpUnsentBytesMax = 16_384;
/**
 * Octets of queries and replies that TCP holds: of one pod, of all pods, and the guaranteed octets of each pod, which have
 * room for one message of the largest size and some queries. Beyond that connections are not read.
 */
export const tcpOctetsPerEndpointMax: number = 256 << 10;
export const tcpOctetsMax: number = 8 << 20;
export const tcpOctetsGuaranteed: number = 128 << 10;
/**
 * Messages, queries and replies, that one turn of the event loop handles, and messages of one connection in a row. A long
 * message counts once more for each `tcpOctetsPerMessage` octets: 64 of the largest size would take 10 ms.
 */
export const tcpMessagesPerTurn = 64;
export const tcpMessagesPerStep = 8;
export const tcpOctetsPerMessage = 2048;
/** Wait of a connection without rate or room before its next attempt, and connections of an endpoint that try at one time. */
export const tcpRetryMs = 5;
export const tcpRetriesPerEndpoint = 32;

/** Bytes of the ring that carries events and mappings from the DNS worker to the main thread. */
export const eventRingBytes: number = 1 << 20;
/** Interval of the one timer of the main thread; the intervals of periodic work are multiples of it. */
export const turnMs = 50;
/** Interval at which the main thread empties the ring. */
export const eventDrainIntervalMs: number = turnMs;
/** Records taken from the ring at one time: the main thread has other things to do. */
export const eventDrainRecordsMax = 16_384;

/** Part of the drain bound that is kept for queries in flight when no other member comes to serve. */
export const drainFinishMs = 1000;

/** First wait between attempts to link with the other member; it doubles up to the second. */
export const peerRetryMsMin = 20;
export const peerRetryMsMax = 100;
/** Interval at which the agent checks that the socket of the link exists. */
export const peerCheckMs = 1000;
/** Longest wait of a member that could serve for its link with one that serves. */
export const joinLinkMsMax = 300;
/** Links at one time: the current one, and links of processes that have just ended (`peerLinksRefused`). */
export const peerConnectionsMax = 4;
/**
 * Largest part of the time between two checks of the other member's heartbeat that counts as silence: a member that checked
 * less often waited for a CPU itself, and so may have the other.
 */
export const peerLookGapMaxMs = 25;
/**
 * Queries of another member that are replayed in one turn of the loop. A replay of all queries in flight at once would take
 * so much time on a busy machine that this member would seem to hang.
 */
export const replaysPerTurn = 256;
/** Time for which the listeners of a former process are read after a new one has linked. */
export const retiredListenersMs = 200;

/** Suffixes of the search list that are taken, of the node's or of `searchSuffixes`; more are named in the log. */
export const searchSuffixesMax = 32;
/** Bytes of the node's resolv.conf that are read. */
export const resolvConfBytesMax = 65_536;

/** A fifth of the age at which a member counts as stale; a busy member beats with each batch besides. */
export const heartbeatIntervalMs = 20;
export const sweepIntervalMs = 100;
/** Interval at which the proxy looks for the agent's pins while they are missing. */
export const pinPollMs = 200;
/** Interval at which a process checks whether the holder of its index has ended. */
export const indexPollMs = 20;
/** Interval at which it checks the heartbeat of the holder. */
export const indexLookMs = 100;
/** Time without a heartbeat after which the holder of the index is killed; longer than any pause of a busy node. */
export const fenceAfterMs = 3000;
/**
 * Longest time between two checks of a waiting process; after a longer one the process was stopped itself, and its count
 * begins at 0.
 */
export const fenceGapMsMax = 500;
/** Time that a stop may take in addition to the drain. */
export const stopMarginMs = 5000;
/** Time without a heartbeat of the DNS worker after which its process reports that it is not alive. */
export const hungWorkerMs = 5000;
/** Interval at which `select_member` is attached again. */
export const selectorIntervalMs = 1000;

/** Time for which the thread that compiles policy waits for more work: its start takes longer than most changes. */
export const compilerIdleMs = 5000;

/** Interval between attempts to open listeners whose port is taken. */
export const listenerRetryMs = 1000;

/** Interval between checks that the sockets of admin and metrics exist. */
export const optionalCheckMs = 1000;
/** First wait before another attempt to serve them; it doubles up to the second. */
export const optionalRetryMsMin = 1000;
export const optionalRetryMsMax = 30_000;
/** Interval at which the DNS proxy compares its pins with those of the agent, ms. */
export const pinCheckMs = 1000;
