// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Counters of one DNS member: doubles in memory shared by the DNS worker (the only writer) and the
 * main thread, which reads them for metrics. Exact up to 2^53.
 */

const help = {
  queriesUdp: 'queries received over UDP',
  queriesTcp: 'queries received over TCP',
  queueDrops:
    'datagrams of pods that ask little, dropped by the kernel: the receive buffer was full, or they had not come from a pod',
  queueDropsHeavy:
    'datagrams of pods that ask much, dropped by the kernel because their receive buffer was full',
  allowed: 'queries that policy allowed',
  denied: 'queries that policy denied',
  replies: 'replies delivered',
  formatErrors: 'queries that are not well-formed, answered with FORMERR or NOTIMP',
  droppedMalformed: 'packets that are not DNS queries, dropped',
  unknownSource: 'queries from a source address that belongs to no endpoint, dropped',
  unknownPolicy:
    'queries of pods whose policy this member does not have yet, answered with SERVFAIL',
  unknownServer: 'queries to a server without DNS rules, answered with SERVFAIL',
  refusedSlots: 'queries over the limit in flight, answered with SERVFAIL',
  refusedEndpointRate: 'queries over the rate of their endpoint, answered with SERVFAIL',
  refusedEndpointInFlight:
    'queries over the limit in flight of their endpoint, answered with SERVFAIL',
  refusedPolicyInFlight: 'queries over the limit in flight of their policy, answered with SERVFAIL',
  refusedOwners:
    'queries of endpoints for which the limiter had no free slot, answered with SERVFAIL',
  refusedUpstreamServers:
    'queries to a server over the limit of servers of their endpoint or policy, or of the node, answered with SERVFAIL',
  upstreamServersGivenUp:
    'silent servers whose queries were dropped for queries to another server: their endpoint was at its limit of servers, or had most when an endpoint without servers found no place',
  upstreamResolversEvicted:
    'resolvers of the cluster whose sockets were closed for another resolver, because the node asks more than it keeps',
  refusedUpstreamSockets:
    'queries for which no upstream socket could be opened, answered with SERVFAIL',
  refusedServerDown:
    'queries to a server from which only ICMP errors come, up to 2 s after the last one, answered with SERVFAIL',
  upstreamTimeouts: 'queries whose server did not answer in time',
  upstreamErrors: 'queries whose server could not be reached, answered with SERVFAIL',
  upstreamSocketErrors: 'errors reported by upstream sockets, such as ICMP port unreachable',
  queriesAskedAgain: 'queries sent again, on another upstream socket or connection',
  replySendErrors: 'replies that could not be sent to the pod',
  repliesUnsolicited: 'replies that match no query in flight (late, or forged)',
  repliesMismatched: 'replies whose question is not the one asked, or whose opcode is not QUERY',
  repliesToGonePods:
    'queries that got no reply because the pod that asked is not at its address any more',
  repliesMalformed: 'replies that could not be parsed: delivered, nothing learned',
  repliesTruncated: 'replies over the UDP limit, delivered with TC=1',
  addressesLearned: 'addresses written to the datapath',
  addressesKnown: 'addresses whose expiry did not move: no write',
  addressesSkipped: 'addresses over the limit of one reply',
  aliasesOverLimit:
    'replies with more than 16 aliases (CNAME and DNAME records): delivered, nothing learned',
  learnRuns: 'runs of the learn program',
  learnRefusedAddress: 'addresses of the cluster, the node or link-local ranges: never learned',
  learnRefusedSelectors: 'addresses, or addresses of a name, that have too many selectors',
  learnRefusedQuota: 'addresses refused because their namespace may have none',
  learnRefusedRate:
    'addresses of large answers, over the number that their namespace may have written, or remembered for policies to come, in a second',
  learnRefusedFull: 'addresses refused because the map was full',
  learnRefusedBusy:
    'addresses refused because another writer of the same address waited for a CPU meanwhile; the next answer is learned',
  learnRefusedOffers:
    'addresses refused because only policies of other namespaces name them and the map had no free entry, or too many such came in a second',
  learnEvicted: 'addresses evicted for addresses that this member learned',
  peerLinks: 'links to the other member by which it handed over its listeners',
  peerLinksRefused: 'links to this member refused: a uid without access, no hello, or too many',
  peerHangs: 'hangs of the other member: no heartbeat for 100 ms while this member ran',
  queriesAdopted: "queries read from the other member's queue",
  queriesReplayed:
    'unfinished queries of the other member, or of this one before its restart, processed again',
  queriesTorn: 'replayed queries that had been received and not yet processed',
  queriesClaimed:
    'queries in flight that the other member took over while this process was stopped',
  journalFull: 'replays deferred because no slot was free',
  eventsLost: 'events lost because the ring to the main thread was full',
  flowTableFlushes: 'flushes of the flow table (policy change or table full)',
  tcpConnections: 'TCP connections accepted',
  tcpRefused:
    'TCP connections reset: over a limit, no file descriptor, or no DNS rule for the server',
  tcpWaited:
    'TCP connections left unread for a time, because their pod or the node was at its limit',
  tcpConnectionsLost:
    'TCP connections of pods that ended with the former run of this process, as of its last heartbeat',
  tcpTimeouts: 'TCP connections closed for being idle or slow',
  tcpUpstreamsFailed: 'TCP connections to a server that ended with queries unanswered',
  tcpUpstreamsReopened:
    'TCP connections to a server opened again because it did not accept them, or got other backends',
  tcpPastRedirectsForgotten:
    'servers that TCP connections of an endpoint would have reached past local redirects at once, forgotten early because the endpoint or the node had too many',
  tcpUpstreamsJunk: 'TCP connections to a server closed for a reply that no query waits for',
} as const;

export type CounterName = keyof typeof help;

/** Names in the order of their index. */
export const counterNames: readonly CounterName[] = Object.keys(help) as CounterName[];
export const counterHelp: Readonly<Record<CounterName, string>> = help;

/** Index of each counter in the shared array. */
export const counter: Readonly<Record<CounterName, number>> = Object.fromEntries(
  counterNames.map((name, index) => [name, index]),
) as Record<CounterName, number>;

/** Upper bounds in microseconds of the latency histogram's buckets; the last is open. */
export const latencyBucketsUs: readonly number[] = [
  50, 100, 200, 300, 500, 750, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 500_000,
  1_000_000, 5_000_000, 10_000_000,
];

/**
 * Layout: counters, histogram buckets (bounds + open), sum of latencies in microseconds, octets in the receive buffers for pods that
 * ask little and for those that ask much.
 */
export const sharedCountersLength: number = counterNames.length + latencyBucketsUs.length + 4;
export const latencyOffset: number = counterNames.length;
export const latencySumIndex: number = sharedCountersLength - 3;
export const queuedBytesIndex: number = sharedCountersLength - 2;
export const queuedHeavyBytesIndex: number = sharedCountersLength - 1;

export function createSharedCounters(): Float64Array {
  return new Float64Array(new SharedArrayBuffer(sharedCountersLength * 8));
}

/** Adds one observation to the histogram. */
export function observeLatency(counters: Float64Array, us: number): void {
  let bucket = 0;
  while (bucket < latencyBucketsUs.length && us > latencyBucketsUs[bucket]!) bucket += 1;
  const index = latencyOffset + bucket;
  counters[index] = counters[index]! + 1;
  counters[latencySumIndex] = counters[latencySumIndex]! + us;
}
