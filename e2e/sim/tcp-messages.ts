// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Messages over TCP. Each query carries its number in an EDNS option, and a true server gives it back with its
 * own number: so that no answer can be taken for another's, though names are asked again and again.
 */

import { names } from './universe.ts';
import { replyOf } from './upstream.ts';

const typeOpt = 41;
const optHeaderBytes = 11;
/** Option code of the range for local use (RFC 6891 section 9). */
const numberOption = 65_001;
const edeOption = 15;
const paddingOption = 12;
const optionBytes = 4 + 5;
const headerBytes = 12;

/** Length, message and OPT record of a query. */
export function framedQuery(name: number, id: number, number: number): Uint8Array {
  const { query } = names[name] as (typeof names)[number];
  const framed = withOpt(query, number, 0, 0);
  new DataView(framed.buffer).setUint16(2, id);
  return framed;
}

/** A server's answer, framed. */
export function framedReply(o: {
  readonly name: number;
  readonly id: number;
  readonly hosts: number;
  readonly ttl: number;
  readonly number: number;
  readonly server: number;
  readonly paddingBytes: number;
}): Uint8Array {
  const framed = withOpt(replyOf(o.name, o.hosts, o.ttl), o.number, o.server, o.paddingBytes);
  new DataView(framed.buffer).setUint16(2, o.id);
  return framed;
}

function withOpt(
  message: Uint8Array,
  number: number,
  server: number,
  paddingBytes: number,
): Uint8Array {
  const padding = paddingBytes > 0 ? 4 + paddingBytes : 0;
  const length = message.length + optHeaderBytes + optionBytes + padding;
  const framed = new Uint8Array(2 + length);
  const view = new DataView(framed.buffer);
  framed.set(message, 2);
  view.setUint16(0, length);
  view.setUint16(2 + 10, 1);
  const opt = 2 + message.length;
  view.setUint16(opt + 1, typeOpt);
  view.setUint16(opt + 3, 1232);
  view.setUint16(opt + 9, optionBytes + padding);
  view.setUint16(opt + optHeaderBytes, numberOption);
  view.setUint16(opt + optHeaderBytes + 2, 5);
  view.setUint32(opt + optHeaderBytes + 4, number);
  framed[opt + optHeaderBytes + 8] = server;
  if (padding > 0) {
    view.setUint16(opt + optHeaderBytes + optionBytes, paddingOption);
    view.setUint16(opt + optHeaderBytes + optionBytes + 2, paddingBytes);
  }
  return framed;
}

export const idOf = (message: Uint8Array): number => (message[0]! << 8) | message[1]!;

export interface OptFacts {
  /** Number of the query; -1 without the option. */
  readonly number: number;
  readonly server: number;
  /** Info code of the extended error; -1 without one. */
  readonly ede: number;
}

const noOpt: OptFacts = { number: -1, server: -1, ede: -1 };

/** The first option of a message about the name, with addresses in its answer section or none. */
export function optOf(message: Uint8Array, name: number): OptFacts {
  const { query } = names[name] as (typeof names)[number];
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  if (message.length < headerBytes) return noOpt;
  const opt = query.length + view.getUint16(6) * 16;
  const option = opt + optHeaderBytes;
  if (option + 6 > message.length || view.getUint16(opt + 1) !== typeOpt) return noOpt;
  const code = view.getUint16(option);
  if (code === edeOption) return { ...noOpt, ede: view.getUint16(option + 4) };
  if (code !== numberOption || option + optionBytes > message.length) return noOpt;
  return { ...noOpt, number: view.getUint32(option + 4), server: message[option + 8]! };
}
