// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Puts a member of the group together: query path, takeover, replay, link and life cycle over a {@link MemberSystem}.
 * Written once for the DNS worker of a process and for the simulator's.
 */

import { QueryView } from '@tandem/core/dns/query';
import { ReplyView } from '@tandem/core/dns/reply';
import { agentMember } from '@tandem/datapath/member';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { SharedRingWriter } from '@tandem/runtime/shared-ring';
import { KernelWriter } from '../answer/kernel-writer.ts';
import { Learner } from '../answer/learner.ts';
import { counter } from '../counters.ts';
import { GroupMember } from '../group-member.ts';
import { JournalReplay } from '../journal/replay.ts';
import { QuerySlots } from '../journal/slots.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import { MemberLife } from '../member-life.ts';
import { noListener } from '../peer/hello.ts';
import { PeerLink } from '../peer/link.ts';
import { Takeover } from '../peer/takeover.ts';
import { FlowTable } from '../policy/flow-table.ts';
import { QueryLimits } from '../policy/query-limits.ts';
import { Answers } from '../query/answers.ts';
import { Denial } from '../query/denial.ts';
import { PolicyLookup } from '../query/policy-lookup.ts';
import type { QueryPath } from '../query/query-path.ts';
import { QueryReport } from '../query/report.ts';
import { DnsEventWriter } from '../records/dns-event.ts';
import { TcpServer } from '../tcp/server.ts';
import { UpstreamIds } from '../udp/ids.ts';
import { UdpServer } from '../udp/server.ts';
import { UdpPool } from '../udp/upstream.ts';
import type { SocketHandle } from '../udp/upstream-sockets.ts';
import type { WorkerOptions } from '../worker-messages.ts';
import type { MemberSystem } from './system.ts';

/** Sizes and large objects whose defaults are the limits of a node (limits.ts). */
export interface MemberSizes {
  readonly flows?: number;
  readonly ids?: number;
  readonly knownPairs?: number;
  readonly tcpBlockBytesMin?: number;
  /** Between two sweeps, a whole number of heartbeats. */
  readonly sweepMs?: number;
  readonly limits?: QueryLimits;
  readonly query?: QueryView;
  readonly reply?: ReplyView;
}

/** Functions of the worker that its member calls: to read the listeners, and to list them. */
export interface MemberOwner {
  listeners(): readonly number[];
  /** The member joins the group: from now on queries are read. */
  readListeners(): void;
}

export interface Member {
  readonly life: MemberLife;
  readonly lookup: PolicyLookup;
  readonly writer: KernelWriter;
  readonly slots: QuerySlots;
  readonly udp: UdpServer;
  readonly tcp: TcpServer;
  readonly pool: UdpPool;
  readonly listenerLoop: UdpLoop<ListenerHandle>;
  readonly upstreamLoop: UdpLoop<SocketHandle>;
  readonly takeover: Takeover;
  readonly link: PeerLink;
}

export function assembleMember(
  options: WorkerOptions,
  system: MemberSystem,
  owner: MemberOwner,
  sizes: MemberSizes = {},
): Member {
  const { clock, maps, sockets, random, timers, post } = system;
  const { counters } = options;
  const now = new Float64Array(2);
  const self = new GroupMember(maps.group, options.member);
  const region = maps.mapJournal(options.member);
  const memory = new Uint8Array(region.memory);
  const slots = new QuerySlots(region);
  counters[counter.tcpConnectionsLost]! += region.takeTcpConnections();
  const listenerLoop = sockets.createListenerLoop({
    buffer: memory,
    onBatch: (handle, count) => {
      // The batch came on an own listener, or on one that is read for another member.
      const listener = takeover.ownListener(handle);
      if (listener !== handle) counters[counter.queriesAdopted]! += count;
      udp.onQueries(listener, count);
    },
    onSocketError: () => undefined,
  });
  const upstreamLoop = sockets.createUpstreamLoop({
    buffer: memory,
    onBatch: (handle, count) => udp.onReplies(handle, count),
    onSocketError: (handle, errno) => {
      clock.readInto(now);
      udp.onUpstreamError(handle, errno, now);
    },
  });
  const { openUpstream, closeUpstream, closeFd } = sockets;
  const pool = new UdpPool(upstreamLoop, random.u16, openUpstream, closeUpstream, () => {
    counters[counter.upstreamResolversEvicted]!++;
  });
  const writer = new KernelWriter(maps.learnRequests, maps.learn(), options.member);
  const path = queryPath({ options, system, sizes, self, writer });
  const { lookup } = path;
  const udp = new UdpServer({
    ...path,
    memory,
    slots,
    listeners: listenerLoop,
    upstreams: upstreamLoop,
    pool,
    ids: new UpstreamIds(random.u16, sizes.ids),
    beat: (monotonicNs) => life.beat(monotonicNs),
  });
  const tcp = new TcpServer({
    ...path,
    random: random.u16,
    system: sockets.tcp,
    connectionsPerPod: options.tcpConnectionsPerPod,
    ...(sizes.tcpBlockBytesMin === undefined ? {} : { blockBytesMin: sizes.tcpBlockBytesMin }),
    moment: () => {
      clock.readInto(now);
      return { monotonicNs: now[0]!, boottimeNs: now[1]! };
    },
  });
  const formerBeatNs = maps.group.beatNsOf(options.member);
  const replay = new JournalReplay({
    slots,
    region: (member) => maps.mapJournal(member),
    release: (mapped) => maps.unmapJournal(mapped),
    counters,
    begin: () => udp.beginReplay(now),
    replay: (slot) => udp.replay(slot),
    end: () => udp.endReplay(),
  });
  const takeover = new Takeover({
    self,
    loop: listenerLoop,
    tcp,
    closeFd,
    replay: (member, lastBeatNs, nowNs) => replay.takeOver(member, lastBeatNs, nowNs),
    onEvent: (event, member) => {
      if (event === 'hung') counters[counter.peerHangs]!++;
      if (event === 'back') replay.leave(member);
      post({ kind: 'peer', event, member });
    },
  });
  const life = new MemberLife({
    ...{ self, lookup, slots, udp, tcp, pool, replay, takeover, formerBeatNs },
    clock: now,
    readClock: () => clock.readInto(now),
    readListeners: () => owner.readListeners(),
    onInstalled: (revision) => post({ kind: 'installed', revision }),
    after: timers.after,
    onDrained: () => post({ kind: 'drained' }),
  });
  const link = new PeerLink({
    sockets: system.links,
    after: timers.after,
    closeFd,
    role: options.member === agentMember ? 'listen' : 'connect',
    member: options.member,
    allowedUids: [0, options.ownerUid],
    listeners: () => owner.listeners(),
    onLinked: (hello, holdsOurs) => {
      counters[counter.peerLinks]!++;
      sockets.enlargeBuffers(hello.listeners);
      sockets.useHeavy(owner.listeners(), hello.takesHeavy);
      const takeHeavy = takeover.onLinked(hello, life.now());
      if (holdsOurs) life.linked();
      return (heavy) => {
        sockets.enlargeBuffers([...hello.listeners.map(() => noListener), ...heavy]);
        takeHeavy(heavy);
      };
    },
    onLost: (member) => takeover.onLost(member, life.now()),
    onRefused: () => {
      counters[counter.peerLinksRefused]!++;
    },
  });
  return {
    ...{ life, lookup, writer, slots, udp, tcp, pool },
    ...{ listenerLoop, upstreamLoop, takeover, link },
  };
}

interface PathParts {
  readonly options: WorkerOptions;
  readonly system: MemberSystem;
  readonly sizes: MemberSizes;
  readonly self: GroupMember;
  readonly writer: KernelWriter;
}

/** Path that UDP and TCP share. */
function queryPath({ options, system, sizes, self, writer }: PathParts): QueryPath {
  const { counters, graceSeconds, ttlSecondsMin, queriesPerSecond } = options;
  const { maps, random } = system;
  const lookup = new PolicyLookup({
    flows: new FlowTable(random.seed(), sizes.flows),
    limits: sizes.limits ?? new QueryLimits(queriesPerSecond),
    endpoints: maps.endpoints(),
    self,
    counters,
  });
  const learner = new Learner({
    ...{ writer, counters, graceSeconds, ttlSecondsMin },
    seed: random.seed(),
    group: maps.group,
    ...(sizes.knownPairs === undefined ? {} : { knownPairs: sizes.knownPairs }),
  });
  const events = new DnsEventWriter(new SharedRingWriter(options.ring), counters, options.member);
  const report = new QueryReport({ events, lookup, counters, graceSeconds, ttlSecondsMin });
  const key = random.key();
  return {
    lookup,
    answers: new Answers({ lookup, learner, report, counters }),
    report,
    counters,
    query: sizes.query ?? new QueryView(key),
    reply: sizes.reply ?? new ReplyView(key),
    denial: new Denial(options.denial),
  };
}
