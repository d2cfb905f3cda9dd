// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Counters of one DNS member: doubles in memory shared by the DNS worker (the only writer) and the
 * main thread, which reads them for metrics. Exact up to 2^53.
 */

const help = {
  queriesUdp: 'queries received over UDP',
  queriesTcp: 'queries received over TCP',
  allowed: 'queries that policy allowed',
  denied: 'queries that policy denied',
  replies: 'replies delivered',
  formatErrors: 'queries that are not well-formed, answered with FORMERR or NOTIMP',
  droppedMalformed: 'packets that are not DNS queries, dropped',
  unknownSource: 'queries whose source is no endpoint',
  unknownPolicy: 'queries of a policy that this member does not know yet, answered with SERVFAIL',
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
    'silent servers whose queries were given up for another server of the same endpoint, which was over its limit',
  refusedUpstreamSockets:
    'queries for which no upstream socket could be opened, answered with SERVFAIL',
  refusedServerDown:
    'queries to a server that ICMP errors said to be unreachable within the last second, answered with SERVFAIL',
  upstreamTimeouts: 'queries whose server did not answer in time',
  upstreamErrors: 'queries whose server could not be reached, answered with SERVFAIL',
  upstreamSocketErrors: 'errors reported by upstream sockets, such as ICMP port unreachable',
  queriesAskedAgain: 'queries sent again, on another upstream socket or connection',
  replySendErrors: 'replies that could not be sent to the pod',
  repliesUnsolicited: 'replies that match no query in flight (late, or forged)',
  repliesMismatched: 'replies whose question is not the one asked',
  repliesMalformed: 'replies that could not be parsed: delivered, nothing learned',
  repliesTruncated: 'replies over the UDP limit, delivered with TC=1',
  addressesLearned: 'addresses written to the datapath',
  addressesKnown: 'addresses whose expiry did not move: no write',
  addressesSkipped: 'addresses over the limit of one reply',
  aliasesOverLimit:
    'replies with more than 16 aliases (CNAME and DNAME records): delivered, nothing learned',
  learnRuns: 'runs of the kernel writer',
  learnRefusedAddress: 'addresses of the cluster, the node or link-local ranges: never learned',
  learnRefusedSelectors: 'addresses that have too many selectors',
  learnRefusedQuota: 'addresses that found no place, because their namespace may have none',
  learnRefusedRate:
    'addresses of large answers, over the number that their namespace may have written in a second',
  learnRefusedFull: 'addresses that found the map full',
  learnRefusedOffers:
    'addresses that only policies of other namespaces want, and that found no free place',
  learnEvicted: 'addresses that made room for what this member learned',
  peerLinks: 'times that the other member handed over its listeners',
  peerLinksRefused: 'links refused: a foreign uid, no hello, or too many',
  peerHangs: 'times that the other member gave no heartbeat for 100 ms in which this one looked',
  queriesAdopted: "queries read from the other member's queue",
  queriesReplayed:
    'unfinished queries of the other member, or of this one before its restart, processed again',
  queriesTorn: 'replayed queries that had been received and not yet processed',
  queriesClaimed:
    'queries in flight that the other member took over while this process was stopped',
  journalFull: 'replays deferred because no slot was free',
  eventsLost: 'events lost because the ring to the main thread was full',
  flowTableFlushes: 'times the flow table was emptied (policy change or full)',
  tcpConnections: 'TCP connections accepted',
  tcpRefused:
    'TCP connections reset: over a limit, no file descriptor, or no DNS rule for the server',
  tcpWaited: 'TCP connections that waited unread, because their pod or the node was at its limit',
  tcpTimeouts: 'TCP connections closed for being idle or slow',
  tcpUpstreamsFailed: 'TCP connections to a server that ended with queries unanswered',
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

/** Layout: counters, histogram buckets (bounds + open), sum of latencies in microseconds. */
export const sharedCountersLength: number = counterNames.length + latencyBucketsUs.length + 2;
export const latencyOffset: number = counterNames.length;
export const latencySumIndex: number = sharedCountersLength - 1;

export function createSharedCounters(): Float64Array {
  return new Float64Array(new SharedArrayBuffer(sharedCountersLength * 8));
}

/** Adds one observation to the histogram. */
export function observeLatency(counters: Float64Array, us: number): void {
  let bucket = 0;
  while (bucket < latencyBucketsUs.length && us > (latencyBucketsUs[bucket] as number)) bucket += 1;
  const index = latencyOffset + bucket;
  counters[index] = (counters[index] as number) + 1;
  counters[latencySumIndex] = (counters[latencySumIndex] as number) + us;
}
