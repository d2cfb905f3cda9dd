// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A TCP query in flight, with the data to send it again and to answer it. */

import { setId } from '@tandem/core/dns/edit';
import type { QueryView } from '@tandem/core/dns/query';
import { protocolTcp, QueryFacts } from '../query/facts.ts';
import { framedMessage } from './blocks.ts';
import { frame } from './framing.ts';

export class TcpQuery {
  readonly facts: QueryFacts = new QueryFacts(protocolTcp);
  /** The message with its length before it, as it is sent to the server. */
  readonly framed: Uint8Array;
  readonly messageStart: number = framedMessage;
  /** Offset after the question, from the start of the message. */
  readonly questionEnd: number;
  readonly clientId: number;
  /** When it was received, CLOCK_MONOTONIC. */
  readonly startedNs: number;
  /** Octets that were written to its connection, it among them. */
  writtenTo = 0;
  /** When it was written to it. */
  sentNs = 0;
  /** It was asked again on another connection. */
  isRetried = false;
  /** Connections that answered later queries, and ended without its answer. */
  passedOver = 0;
  /** After these it was asked on a connection of its own. */
  wasAlone = false;
  /** The first connection for it was not made in time. */
  isReopened = false;

  /** The query that `query` holds, at `start` of `bytes`; `facts` is copied. */
  constructor(
    bytes: Uint8Array,
    start: number,
    query: QueryView,
    facts: QueryFacts,
    startedNs: number,
  ) {
    this.framed = frame(bytes, start, start + query.messageEnd);
    this.questionEnd = query.questionEnd;
    this.clientId = query.id;
    this.startedNs = startedNs;
    Object.assign(this.facts, facts);
    this.facts.startedUs = startedNs / 1000;
  }

  /** The id with which it is sent. */
  setId(id: number): void {
    setId(this.framed, framedMessage, id);
  }
}
