// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The queries of a pod's connection that closed connections to the server left unanswered. They are sent again in the
 * turns of the pod's connection and not at once: a server that closes after each answer would have all of them sent each time.
 */

import { tcpPassedOverMax, upstreamTimeoutMs } from '../limits.ts';
import type { TcpQuery } from './query.ts';
import type { UpstreamEnd } from './upstream.ts';

export class TcpRetries {
  /** Oldest first. */
  readonly #queries: TcpQuery[] = [];

  get count(): number {
    return this.#queries.length;
  }

  /**
   * Takes the queries that a connection left unanswered, oldest first, and returns those without another attempt. After a
   * connection with answers ('useful') a query may be sent again, and alone when it was passed over too often (alone.ts);
   * after one without ('useless') once. A query that was never sent has another attempt unless no connection could be made ('unmade').
   */
  leave(unanswered: readonly TcpQuery[], end: UpstreamEnd): readonly TcpQuery[] {
    const wasAsked = end === 'useful' || end === 'useless';
    const again: TcpQuery[] = [];
    const over: TcpQuery[] = [];
    for (const query of unanswered) {
      (hasTry(query, end) ? again : over).push(query);
      query.isRetried ||= wasAsked;
      query.isReopened ||= end === 'late';
    }
    // Before those that wait already, which are younger.
    this.#queries.unshift(...again);
    return over;
  }

  /** The oldest, which is not here any more. */
  next(): TcpQuery | undefined {
    return this.#queries.shift();
  }

  /** The oldest, if it was received too long ago; it is not here any more. */
  nextOverdue(nowNs: number): TcpQuery | undefined {
    const [oldest] = this.#queries;
    if (oldest === undefined || nowNs - oldest.startedNs < upstreamTimeoutMs * 1e6) return;
    return this.#queries.shift();
  }
}

/** The query may be what ends connections: it is sent on no connection of others any more. */
export function isSuspect({ passedOver }: TcpQuery): boolean {
  return passedOver > tcpPassedOverMax;
}

function hasTry(query: TcpQuery, end: UpstreamEnd): boolean {
  if (end === 'useless') return !query.isRetried;
  if (end === 'useful') return !query.wasAlone;
  return end !== 'unmade';
}
