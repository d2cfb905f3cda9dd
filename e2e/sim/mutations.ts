// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Breaks of the product, one line each, that the simulator must find: a check that finds nothing proves
 * nothing. Each names the file, the text that is replaced, and the invariants that may break first.
 */

import type { Invariant } from './violation.ts';

export interface Mutation {
  readonly name: string;
  /** From the repository's root. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  readonly breaks: readonly Invariant[];
  /** The first seed that is tried, of a break that few schedules meet; default 0. */
  readonly fromSeed?: number;
}

const proxy = 'packages/dns-proxy/src';
const agent = 'packages/agent/src';

export const mutations: readonly Mutation[] = [
  {
    name: 'a copy of what was just received can be taken over before it has its id',
    file: `${proxy}/journal/replay.ts`,
    find: 'words[at + slotClientId] = (target[id]! << 8) | target[id + 1]!;',
    replace: 'if (id < 0) words[at + slotClientId] = 0;',
    breaks: [2],
    fromSeed: 60_000,
  },
  {
    name: 'a member that is away is not replayed',
    file: `${proxy}/peer/takeover.ts`,
    find: 'if (isAway) replay(',
    replace: 'if (isAway && peer.member > 9) replay(',
    breaks: [2],
  },
  {
    name: 'listeners of a former life are closed unread',
    file: `${proxy}/peer/takeover.ts`,
    find: 'isHelped || listeners.closesAtNs !== Infinity',
    replace: 'isHelped',
    breaks: [2],
  },
  {
    name: 'listeners of a former life are closed by the clock alone',
    file: `${proxy}/peer/takeover.ts`,
    find: 'monotonicNs >= closesAtNs && turnsLeft <= 0',
    replace: 'monotonicNs >= closesAtNs && turnsLeft <= 1e9',
    breaks: [2],
  },
  {
    name: 'a replayed query is not judged again',
    file: `${proxy}/query/decide.ts`,
    find: 'if (!lookup.isAllowed(flow, acceptSet)) return denied;',
    replace: 'if (!hasPaid && !lookup.isAllowed(flow, acceptSet)) return denied;',
    breaks: [4],
  },
  {
    name: 'endpoints are remembered while they change',
    file: `${proxy}/query/policy-lookup.ts`,
    find: 'const isSteady = (generation & 1) === 0;',
    replace: 'const isSteady = generation >= 0;',
    breaks: [4],
  },
  {
    name: 'replies are sent before their addresses are written',
    file: `${proxy}/udp/replies.ts`,
    find: '    answers.flush();\n    outgoing.flush();',
    replace: '    outgoing.flush();\n    answers.flush();',
    breaks: [4],
  },
  {
    name: 'answers of any server count for everybody',
    file: `${proxy}/policy/tables.ts`,
    find: '      if (trusted) {',
    replace: '      if (trusted || count >= 0) {',
    breaks: [1],
  },
  {
    name: 'addresses are emptied from the kernel before they expire',
    file: `${proxy}/store/kernel-expiry.ts`,
    find: 'Math.floor(nowSeconds - idleSeconds)',
    replace: 'Math.floor(nowSeconds + idleSeconds)',
    breaks: [3, 8],
  },
  {
    name: 'what a namespace wants is learned as an offer',
    file: `${proxy}/policy/tables.ts`,
    find: 'offered[count] = isWanted ? 0 : 1;',
    replace: 'offered[count] = 1;',
    breaks: [8],
  },
  {
    name: 'a namespace that has more than its share takes from others',
    file: 'packages/testing/src/order-model.ts',
    find: 'if (space.pairs.length >= space.share || next === undefined) return namespaceId;',
    replace: 'if (next === undefined) return [...this.#spaces.keys()].at(-1) ?? 0;',
    breaks: [8],
  },
  {
    name: 'the earlier expiry wins in the name cache',
    file: 'packages/core/src/fqdn/cache.ts',
    find: 'if (expires <= this.#entryExpires[entry]!) {',
    replace: 'if (expires >= this.#entryExpires[entry]!) {',
    breaks: [3],
  },
  {
    name: 'what was in flight on a stream that was cut is not sent again',
    file: `${proxy}/sync/outbox.ts`,
    find: '    this.#sentHere = 0;\n  }',
    replace: '    this.#sentHere += 0;\n  }',
    breaks: [3],
  },
  {
    name: 'names that the backlog lost are not sent with the whole cache',
    file: `${proxy}/sync/outbox.ts`,
    find: 'this.#refuse(lost.events, lost.mappings, lost.kind, lost.since);',
    replace: 'this.#refuse(lost.events, 0, lost.kind, lost.since);',
    breaks: [3, 8],
  },
  {
    name: 'a pile takes what it has no room for',
    file: `${proxy}/sync/outbox.ts`,
    find: 'if (!pile.hasRoom(length)) this.#seal(pile);',
    replace: 'if (!pile.hasRoom(length) && length < 0) this.#seal(pile);',
    breaks: [3, 6, 7],
  },
  {
    name: 'a member leaves without the token',
    file: `${proxy}/member-life.ts`,
    find: 'const isFree = self.takeDrainToken(monotonicNs);',
    replace: 'const isFree = monotonicNs > 0 || self.takeDrainToken(monotonicNs);',
    breaks: [5],
  },
  {
    name: 'what finds no slot keeps the empty slots of a former life from being freed',
    file: `${proxy}/journal/replay.ts`,
    find: 'lastBeatNs)) continue;',
    replace: 'lastBeatNs)) break;',
    breaks: [2, 3],
  },
  {
    name: 'the token is given though nobody else serves',
    file: `${proxy}/group-member.ts`,
    find: 'if (this.isOtherServing(monotonicNs)) return true;',
    replace: 'if (monotonicNs > 0) return true;',
    breaks: [5, 2],
  },
  {
    name: 'over TCP the second query of a chunk is not decided on',
    file: `${proxy}/tcp/connection.ts`,
    find: 'const result = decide(',
    replace: 'const result = this.#served > 0 ? outcome.forward : decide(',
    breaks: [1, 4],
  },
  {
    name: 'replies over TCP are sent before their addresses are written',
    file: `${proxy}/tcp/turns.ts`,
    find: '    this.#afterTurn();\n    for (const connection of this.#toFlush) connection.flush();',
    replace:
      '    for (const connection of this.#toFlush) connection.flush();\n    this.#afterTurn();',
    breaks: [4],
  },
  {
    name: 'a connection that closes leaves its queries counted as in flight',
    file: `${proxy}/tcp/connection.ts`,
    find: 'for (const query of this.#upstream.unanswered()) this.#release(query);',
    replace: '',
    breaks: [6],
  },
  {
    name: 'a query over TCP that is given up stays counted as in flight',
    file: `${proxy}/tcp/connection.ts`,
    find: '    this.#release(pending);\n    if (this.#isClosed) return;\n    countOutcome',
    replace: '    if (this.#isClosed) return;\n    countOutcome',
    breaks: [6],
  },
  {
    name: 'an upstream connection that closes keeps its count of queries in flight',
    file: `${proxy}/tcp/upstream.ts`,
    find: '    this.#queries.clear();\n    this.#inFlight = 0;',
    replace: '    this.#queries.clear();',
    breaks: [2, 6],
  },
  {
    name: 'octets of a reply are not given back when the client has taken it',
    file: `${proxy}/tcp/client-replies.ts`,
    find: '    this.#c.octets.giveBack(this.#endpointSlot, back);',
    replace: '',
    breaks: [6],
  },
  {
    name: "a reply's memory is used again before the kernel has taken it",
    file: `${proxy}/tcp/client-replies.ts`,
    find: 'stream.write(reply, blocks.isLong(reply.length) ? giveBackBlock : undefined);',
    replace: 'stream.write(reply);\n      giveBackBlock(reply);',
    breaks: [2, 7],
  },
  {
    name: 'octets of a reply that is coming are not given back when its connection closes',
    file: `${proxy}/tcp/upstream.ts`,
    find: '    this.#giveBackReserved();\n    this.#reader.release();',
    replace: '    this.#reader.release();',
    breaks: [6],
  },
  {
    name: 'a query that is asked again over TCP keeps its old id',
    file: `${proxy}/tcp/upstream.ts`,
    find: '    query.setId(id);',
    replace: '    if (!query.isRetried) query.setId(id);',
    breaks: [2],
  },
  {
    name: 'what an upstream connection did not answer is forgotten when it closes',
    file: `${proxy}/tcp/upstream.ts`,
    find: 'this.#events.onClosed(unanswered, end',
    replace: 'this.#events.onClosed([], end',
    breaks: [2, 3],
  },
  {
    name: 'a query over TCP has no deadline',
    file: `${proxy}/tcp/upstream.ts`,
    find: 'if (nowNs - query.startedNs < upstreamTimeoutMs * 1e6) break;',
    replace: 'if (nowNs > 0) break;',
    breaks: [2, 3, 6],
  },
  {
    name: 'an answer to another question is passed on over TCP',
    file: `${proxy}/tcp/upstream.ts`,
    find: 'if (match === matchNone) {',
    replace: 'if (match === matchNone && end < start) {',
    breaks: [2],
  },
  {
    name: 'a reply that no query waits for does not end its upstream connection',
    file: `${proxy}/tcp/upstream.ts`,
    find: '    counters[counter.tcpUpstreamsJunk]!++;\n    this.#fail();',
    replace: '    counters[counter.tcpUpstreamsJunk]!++;',
    breaks: [2, 3, 6],
  },
  {
    name: 'an open connection is kept for the next pod with its address',
    file: `${proxy}/tcp/connection.ts`,
    find: 'facts.endpointSlot !== this.endpointSlot',
    replace: 'facts.endpointSlot < 0',
    breaks: [4, 6],
  },
  {
    name: 'a connection that is over keeps its place among those that are read',
    file: `${proxy}/tcp/admission.ts`,
    find: '!pod.open.delete(connection)',
    replace: '!pod.open.has(connection)',
    breaks: [2, 3, 6],
  },
  {
    name: 'a query over TCP that waits pays for each attempt',
    file: `${proxy}/tcp/connection.ts`,
    find: 'this.#hasPaid = result !== outcome.overRate;',
    replace: 'this.#hasPaid = false;',
    breaks: [6],
  },
  {
    name: 'a member that drains closes connections that have asked nothing yet',
    file: `${proxy}/tcp/connection.ts`,
    find: '    } else if (this.#isDraining && this.#served > 0) {\n      this.makeWay();',
    replace: '    } else if (this.#isDraining) {\n      this.closeWhenIdle();',
    breaks: [2],
  },
  {
    name: 'a connection is idle since its last query, not since its last answer',
    file: `${proxy}/tcp/connection.ts`,
    find: '    this.#activeNs = this.#c.moment.monotonicNs;\n    this.#c.turns.flushAfter(this);',
    replace: '    this.#c.turns.flushAfter(this);',
    breaks: [2],
  },
  {
    name: 'what follows a whole query over TCP counts as begun with it',
    file: `${proxy}/tcp/connection.ts`,
    find: 'if (done > askedAgain) this.#begunNs = 0;',
    replace: '',
    breaks: [2],
  },
  {
    name: 'after a pause connections are judged before what came is read',
    file: `${proxy}/tcp/server.ts`,
    find: 'this.#o.system.soon(() => this.#sweep(monotonicNs));',
    replace: 'this.#sweep(monotonicNs);',
    breaks: [2],
  },
  {
    name: 'a pod keeps its slot when its last connection has ended',
    file: `${proxy}/tcp/admission.ts`,
    find: '    this.#o.hold(pod.endpointSlot, false);',
    replace: '',
    breaks: [6],
  },
  {
    name: 'a query is asked again though the policy denies it by now',
    file: `${proxy}/query/decide.ts`,
    find: 'return isSame && lookup.isAllowed(flow, lookup.acceptSetOf(query));',
    replace: 'return isSame || lookup.isAllowed(flow, lookup.acceptSetOf(query));',
    breaks: [4],
  },
  {
    name: 'a query that is asked again keeps its old id',
    file: `${proxy}/udp/in-flight.ts`,
    find: '    setId(memory, slots.messageOf(slot), words[at + slotUpstreamId]!);\n    counters[counter.queriesAskedAgain]!++;',
    replace: '    counters[counter.queriesAskedAgain]!++;',
    breaks: [2, 3],
  },
  {
    name: 'an ICMP error leaves its queries waiting',
    file: `${proxy}/udp/forwards.ts`,
    find: 'if (!datagramErrors.has(errno)) this.#failedSockets.push(socket);',
    replace: '',
    breaks: [2, 3],
  },
  {
    name: 'sockets to backends that are gone are used on',
    file: `${proxy}/member-life.ts`,
    find: '        pool.backendsChanged(server);',
    replace: '',
    breaks: [2],
  },
  {
    name: 'the end of a former connection counts though a later life has linked',
    file: `${proxy}/peer/link.ts`,
    find: 'if (member !== -1 && !others.some((other) => other.member === member))',
    replace: 'if (member !== -1 && others.length >= 0)',
    breaks: [9],
  },
  {
    name: 'the end of the link is not heard',
    file: `${proxy}/peer/link.ts`,
    find: 'if (member !== -1 && !others.some(',
    replace: 'if (member < -1 && !others.some(',
    breaks: [9],
  },
  {
    name: 'who has connected once does so no more',
    file: `${proxy}/peer/link.ts`,
    find: "if (this.#o.role === 'connect' && !this.#isStopped) this.#startLater();",
    replace: '',
    breaks: [2, 3],
  },
  {
    name: 'what a process left on the link when it died before it was accepted is not read',
    file: `${proxy}/peer/link.ts`,
    find: 'if (!isOver(error)) this.#end(connection);',
    replace: 'if (isOver(error)) this.#end(connection);',
    breaks: [2],
  },
  {
    name: 'what is read for another member is answered by its listener',
    file: `${proxy}/worker/assemble.ts`,
    find: 'udp.onQueries(listener, count);',
    replace: 'udp.onQueries(handle, count);',
    breaks: [2],
  },
  {
    name: 'the kernel names a policy before the other member serves it',
    file: `${agent}/policy/change-order.ts`,
    find: "  'acknowledge',\n  'require',\n  'feed',\n  'apply',",
    replace: "  'apply',\n  'acknowledge',\n  'require',\n  'feed',",
    breaks: [3, 4, 8],
  },
  {
    name: 'a member that lags behind a policy is not passed over',
    file: `${agent}/policy/change-order.ts`,
    find: "  'require',\n",
    replace: '',
    breaks: [2, 4],
  },
  {
    name: 'the number of a revision that a former agent published is used again',
    file: `${agent}/policy/controller.ts`,
    find: 'newest + options.randomBelow(revisionJumpMax)',
    replace: 'newest',
    breaks: [4],
  },
  {
    name: 'new selectors are not fed with names that were answered before',
    file: `${proxy}/store/selector-feed.ts`,
    find: '    yield* backfill.feedNew(tables, selectors);',
    replace: '',
    breaks: [3],
  },
];
