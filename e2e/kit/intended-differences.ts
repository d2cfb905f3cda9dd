// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where an answer through Tandem may differ from the server's own: the whole list, each entry a line of
 * docs/policy.md. An entry says which queries it is about, judged by their octets, and what the pod gets.
 */

import { tcpQueryBytesMax, udpQueryBytesMax } from '@tandem/dns-proxy/limits';
import type { Transport } from './differential-ask.ts';
import { ednsOptions, type ReadMessage, readMessage } from './dns-message.ts';

export interface Compared {
  readonly query: Uint8Array;
  readonly transport: Transport;
  /** With id 0; null: no answer, or over TCP a closed connection. */
  readonly direct: Uint8Array | null;
  readonly proxied: Uint8Array | null;
  /** The direct answer to another of the questions, asked over the same transport. */
  readonly directTo: (query: Uint8Array) => Uint8Array | null | undefined;
}

export interface IntendedDifference {
  /** Words of docs/policy.md. */
  readonly inDocs: string;
  readonly concerns: (read: ReadMessage, compared: Compared) => boolean;
  /** Whether the pod gets it; asked where the two answers are not the same. */
  readonly holds: (compared: Compared) => boolean;
}

const rcodeFormErr = 1;
const rcodeNotImp = 4;
const rcodeBadVers = 16;
const classIn = 1;
const typeOpt = 41;
const optionCookie = 10;
const typeTsig = 250;
const typeIxfr = 251;
const typeAxfr = 252;
/** Size of a query that goes over UDP in one piece: an MTU of 1,500 without the headers of IPv6 and UDP. */
const unfragmentedOctetsMax = 1452;

/** The first that concerns a query counts. */
export const intendedDifferences: readonly IntendedDifference[] = [
  {
    inDocs: 'opcode other than QUERY',
    concerns: ({ opcode }) => opcode !== 0,
    holds: isOwnAnswer(rcodeNotImp),
  },
  {
    inDocs: 'in fragments',
    concerns: (_, { query, transport }) =>
      transport === 'udp' && query.length > unfragmentedOctetsMax,
    holds: ({ proxied }) => proxied === null,
  },
  {
    inDocs: `more than ${udpQueryBytesMax} octets over UDP`,
    concerns: (_, { query, transport }) => transport === 'udp' && query.length > udpQueryBytesMax,
    holds: isOwnAnswer(rcodeFormErr),
  },
  {
    inDocs: `or ${tcpQueryBytesMax} over TCP`,
    concerns: (_, { query, transport }) => transport === 'tcp' && query.length > tcpQueryBytesMax,
    holds: isOwnAnswer(rcodeFormErr),
  },
  {
    inDocs: 'no question, or more than one',
    concerns: ({ counts }) => counts[0] !== 1,
    holds: isOwnAnswer(rcodeFormErr),
  },
  {
    inDocs: 'a question that is cut, compressed or over 255 octets',
    concerns: ({ questions }, { query }) => questions.length !== 1 || isOddName(query),
    holds: isOwnAnswer(rcodeFormErr),
  },
  {
    inDocs: 'records other than one OPT and one TSIG',
    concerns: (read) =>
      read.trailing === null ||
      read.counts[1] + read.counts[2] > 0 ||
      read.records.some(({ type }) => type !== typeOpt && type !== typeTsig) ||
      read.records.filter(({ type }) => type === typeOpt).length > 1 ||
      read.records.slice(0, -1).some(({ type }) => type === typeTsig) ||
      read.records.some(({ type, name }) => type === typeOpt && name !== '.'),
    holds: isOwnAnswer(rcodeFormErr),
  },
  {
    inDocs: 'class other than IN',
    concerns: ({ questions }) => questions[0]?.class !== classIn,
    holds: isOwnAnswer(rcodeNotImp),
  },
  {
    inDocs: 'zone transfer (AXFR, IXFR)',
    concerns: ({ questions }) => questions[0]?.type === typeAxfr || questions[0]?.type === typeIxfr,
    holds: isOwnAnswer(rcodeNotImp),
  },
  {
    inDocs: 'octets behind the last record',
    concerns: ({ trailing }) => trailing !== 0,
    holds: ({ query, proxied, directTo }) => {
      const trailing = readMessage(query)?.trailing ?? 0;
      const direct = directTo(query.subarray(0, query.length - trailing));
      return direct !== undefined && isSame(direct, proxied);
    },
  },
  {
    inDocs: 'Original ID of a TSIG',
    concerns: ({ records }) => records.some(({ type }) => type === typeTsig),
    holds: ({ direct, proxied }) => isSame(withoutOriginalId(direct), withoutOriginalId(proxied)),
  },
  {
    inDocs: 'server cookie',
    concerns: (read) => optionOf(read, optionCookie) !== undefined,
    holds: ({ direct, proxied }) =>
      isSame(withoutServerCookie(direct), withoutServerCookie(proxied)),
  },
];

/** Why an answer through Tandem is not the direct one: words of the docs, nothing (`same`), or `not intended`. */
export function differenceOf(compared: Compared): string {
  if (isSame(compared.direct, compared.proxied)) return 'same';
  const read = readMessage(compared.query);
  const entry =
    read === null ? undefined : intendedDifferences.find((one) => one.concerns(read, compared));
  return entry?.holds(compared) === true ? entry.inDocs : 'not intended';
}

function isSame(one: Uint8Array | null, other: Uint8Array | null): boolean {
  return one === null || other === null ? one === other : Buffer.compare(one, other) === 0;
}

/**
 * A reply with the query's own question or none, and without records but an OPT: exactly if the query has one (RFC 6891
 * section 6.1.1), whole within the octets that are read. Without an OPT a client takes an error for that of a server
 * which has no EDNS, and asks again without: so its long query becomes a short one. To an EDNS version over 0 it is BADVERS, unless
 * the query is malformed.
 */
function isOwnAnswer(rcode: number): IntendedDifference['holds'] {
  return ({ query, transport, proxied }) => {
    const taken = transport === 'udp' ? udpQueryBytesMax : tcpQueryBytesMax;
    const asked = readMessage(query.subarray(0, taken));
    const got = proxied === null ? null : readMessage(proxied);
    if (asked === null || got === null || proxied === null) return false;
    const { counts, questionEnd } = got;
    const version = (asked.records.find(({ type }) => type === typeOpt)?.ttl ?? 0) >>> 16;
    const isBadVersion = (version & 255) !== 0 && rcode !== rcodeFormErr;
    const echoes = isSame(query.subarray(12, questionEnd), proxied.subarray(12, questionEnd));
    return (
      got.rcode === (isBadVersion ? rcodeBadVers : rcode) &&
      got.opcode === asked.opcode &&
      got.trailing === 0 &&
      counts[1] + counts[2] === 0 &&
      got.records.every(({ type }) => type === typeOpt) &&
      got.records.length === (hasOpt(asked) ? 1 : 0) &&
      (counts[0] === 0 || (counts[0] === 1 && echoes))
    );
  };
}

function hasOpt({ records }: ReadMessage): boolean {
  return records.some(
    ({ section, type, name }) => section === 'additional' && type === typeOpt && name === '.',
  );
}

/** A first question whose name is compressed or too long. */
function isOddName(query: Uint8Array): boolean {
  let at = 12;
  for (let length = query[at] ?? 0; length !== 0; length = query[at] ?? 0) {
    if (length > 63) return true;
    at += 1 + length;
  }
  return at + 1 - 12 > 255;
}

/** The data of an EDNS option; a part of the message's own octets. */
function optionOf(read: ReadMessage, code: number): Uint8Array | undefined {
  return ednsOptions(read)?.find((option) => option.code === code)?.data;
}

/** A server makes its cookie from the address that asks and the time (RFC 9018): 16 octets behind the client's 8. */
function withoutServerCookie(message: Uint8Array | null): Uint8Array | null {
  if (message === null) return null;
  const copy = message.slice();
  const read = readMessage(copy);
  if (read !== null) optionOf(read, optionCookie)?.fill(0, 8, 24);
  return copy;
}

/** The last record's data ends in Original ID, error, and the length of no other data. */
function withoutOriginalId(message: Uint8Array | null): Uint8Array | null {
  if (message === null) return null;
  const copy = message.slice();
  const data = readMessage(copy)?.records.find(({ type }) => type === typeTsig)?.data;
  data?.fill(0, data.length - 6, data.length - 4);
  return copy;
}
