// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Breaks of the product, one line each, that the simulator must find: a check that finds nothing proves
 * nothing. Each names the file, the text that is replaced, and the invariants that may break first.
 */

import type { Invariant } from './oracle.ts';

export interface Mutation {
  readonly name: string;
  /** From the repository's root. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  readonly breaks: readonly Invariant[];
}

const proxy = 'packages/dns-proxy/src';

export const mutations: readonly Mutation[] = [
  {
    name: 'a copy of what was just received can be taken over before it has its id',
    file: `${proxy}/journal/replay.ts`,
    find: 'words[at + slotClientId] = ((target[id] as number) << 8) | (target[id + 1] as number);',
    replace: 'if (id < 0) words[at + slotClientId] = 0;',
    breaks: [2],
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
    breaks: [3],
  },
  {
    name: 'the earlier expiry wins in the name cache',
    file: 'packages/core/src/fqdn/cache.ts',
    find: 'if (expires <= (this.#entryExpires[entry] as number)) {',
    replace: 'if (expires >= (this.#entryExpires[entry] as number)) {',
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
    breaks: [3],
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
    find: 'const isFree = group.takeDrainToken(monotonicNs);',
    replace: 'const isFree = monotonicNs > 0 || group.takeDrainToken(monotonicNs);',
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
    file: `${proxy}/group.ts`,
    find: 'if (this.isOtherServing(monotonicNs)) return true;',
    replace: 'if (monotonicNs > 0) return true;',
    breaks: [5, 2],
  },
];
