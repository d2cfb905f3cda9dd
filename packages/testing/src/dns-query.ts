// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** DNS questions through a probe, decoded for assertions. dns-packet may read what test servers send. */

import {
  type Answer,
  decode,
  encode,
  type Packet,
  RECURSION_DESIRED,
  type RecordType,
} from 'dns-packet';
import type { Probe } from './probe.ts';
import type { SocketOptions } from './probe-types.ts';

/** Names of the response codes 0..5 (RFC 1035, 4.1.1). */
const rcodeNames = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'] as const;
export type Rcode = (typeof rcodeNames)[number] | `RCODE${number}`;

export interface DnsQuestion extends SocketOptions {
  readonly server: string;
  /** Default 53. */
  readonly port?: number;
  readonly name: string;
  /** Default A. */
  readonly type?: RecordType;
  /** Default udp. */
  readonly transport?: 'udp' | 'tcp';
  /** Adds an OPT record with this UDP payload size. */
  readonly ednsBytes?: number;
  readonly id?: number;
}

export interface DnsReply {
  readonly rcode: Rcode;
  readonly isTruncated: boolean;
  readonly answers: readonly Answer[];
  /** Data of the A and AAAA answers. */
  readonly addresses: readonly string[];
  /** Codes of Extended DNS Errors (RFC 8914) in the OPT record. */
  readonly extendedErrors: readonly number[];
  /** Where the reply came from (UDP). */
  readonly from: string;
  readonly bytes: Uint8Array;
}

/** Asks once. ETIMEDOUT and socket errors are `ProbeError`s; an rcode is a value. */
export async function askDns(probe: Probe, question: DnsQuestion): Promise<DnsReply> {
  const { server, port = 53, transport = 'udp' } = question;
  const query = encodeQuestion(question);
  if (transport === 'udp') {
    const { replies } = await probe.udp({ ...question, to: server, port, data: query });
    const [reply] = replies;
    if (reply === undefined) throw new Error('unreachable: the probe times out without a reply');
    return readReply(reply.data, reply.from);
  }
  const data = withLength(query);
  const { data: bytes } = await probe.tcp({ ...question, to: server, port, data, messages: 1 });
  return readReply(bytes.subarray(2), server);
}

export function encodeQuestion(question: DnsQuestion): Uint8Array {
  const { name, type = 'A', ednsBytes } = question;
  const packet: Packet = {
    type: 'query',
    id: question.id ?? Math.floor(Math.random() * 0x10000),
    flags: RECURSION_DESIRED,
    questions: [{ name, type }],
  };
  if (ednsBytes !== undefined) {
    const opt = {
      type: 'OPT',
      name: '.',
      udpPayloadSize: ednsBytes,
      flags: 0,
      options: [],
    } as const;
    packet.additionals = [
      { ...opt, options: [], extendedRcode: 0, ednsVersion: 0, flag_do: false },
    ];
  }
  return new Uint8Array(encode(packet));
}

/** The message with its two-byte length, as TCP carries it. */
export function withLength(message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(message.length + 2);
  bytes[0] = message.length >> 8;
  bytes[1] = message.length & 0xff;
  bytes.set(message, 2);
  return bytes;
}

export function readReply(bytes: Uint8Array, from: string): DnsReply {
  const packet = decode(Buffer.from(bytes));
  const rcode = (bytes[3] ?? 0) & 15;
  const answers = packet.answers ?? [];
  return {
    rcode: rcodeNames[rcode] ?? `RCODE${rcode}`,
    isTruncated: ((bytes[2] ?? 0) & 2) !== 0,
    answers,
    addresses: answers.flatMap((answer) =>
      answer.type === 'A' || answer.type === 'AAAA' ? [answer.data] : [],
    ),
    extendedErrors: extendedErrors(packet),
    from,
    bytes,
  };
}

function extendedErrors(packet: Packet): number[] {
  const extendedErrorOption = 15;
  return (packet.additionals ?? []).flatMap((record) => {
    if (record.type !== 'OPT') return [];
    const options = record.options as readonly { code: number; data?: Uint8Array }[];
    return options
      .filter(({ code }) => code === extendedErrorOption)
      .map(({ data }) => (data?.[0] ?? 0) * 256 + (data?.[1] ?? 0));
  });
}
