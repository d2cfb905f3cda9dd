// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The envelope of every netlink message, and what the kernel answers to a request. */

import { err, ok, type Result } from '@tandem/core/result';
import { NLM_F_ACK_TLVS, NLM_F_CAPPED } from './constants.ts';
import { align4, decodeAttributes, isLittleEndian, viewOf } from './decode.ts';
import { type AttributeTable, attributeTable } from './format.ts';

/** struct nlmsghdr: length, type, flags, sequence, port. */
export const envelopeBytes = 16;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Uint8Array;
}

export function encodeEnvelope({ type, flags, sequence, payload }: NetlinkMessage): Uint8Array {
  const bytes = new Uint8Array(align4(envelopeBytes + payload.length));
  const view = viewOf(bytes);
  view.setUint32(0, envelopeBytes + payload.length, isLittleEndian);
  view.setUint16(4, type, isLittleEndian);
  view.setUint16(6, flags, isLittleEndian);
  view.setUint32(8, sequence, isLittleEndian);
  bytes.set(payload, envelopeBytes);
  return bytes;
}

/** Calls `visit` for each message; the payload lies in `bytes`. An error: the rest cannot be read. */
export function visitMessages(
  bytes: Uint8Array,
  visit: (message: NetlinkMessage) => void,
): Result<void, string> {
  const view = viewOf(bytes);
  let at = 0;
  while (bytes.length - at >= envelopeBytes) {
    const length = view.getUint32(at, isLittleEndian);
    const left = bytes.length - at;
    if (length < envelopeBytes || length > left) {
      return err(`a message of ${length} bytes where ${left} are left`);
    }
    visit({
      type: view.getUint16(at + 4, isLittleEndian),
      flags: view.getUint16(at + 6, isLittleEndian),
      sequence: view.getUint32(at + 8, isLittleEndian),
      payload: bytes.subarray(at + envelopeBytes, at + length),
    });
    at += align4(length);
  }
  return at >= bytes.length
    ? ok(undefined)
    : err(`${bytes.length - at} bytes after the last message`);
}

interface AckAttributes {
  readonly message?: string;
  readonly missingType?: number;
}

/** linux/netlink.h, enum nlmsgerr_attrs */
const ackAttributes: AttributeTable<AckAttributes> = attributeTable<AckAttributes>({
  message: [1, 'text'],
  missingType: [5, 'u32'],
});

export interface Ack {
  /** Positive; 0: done. */
  readonly errno: number;
  /** The kernel's words (extended acknowledgement), or empty. */
  readonly text: string;
}

/** NLMSG_ERROR, which is also the acknowledgement of what succeeded. */
export function decodeAck({ payload, flags }: NetlinkMessage): Result<Ack, string> {
  const view = viewOf(payload);
  if (payload.length < 4 + envelopeBytes)
    return err(`an acknowledgement of ${payload.length} bytes`);
  const requestBytes =
    (flags & NLM_F_CAPPED) === 0 ? view.getUint32(4, isLittleEndian) : envelopeBytes;
  return withText(view.getInt32(0, isLittleEndian), flags, payload, 4 + align4(requestBytes));
}

/** NLMSG_DONE: the end of a dump, with its error if it has one. */
export function decodeDone({ payload, flags }: NetlinkMessage): Result<Ack, string> {
  if (payload.length < 4) return err(`the end of a dump of ${payload.length} bytes`);
  return withText(viewOf(payload).getInt32(0, isLittleEndian), flags, payload, 4);
}

function withText(
  error: number,
  flags: number,
  payload: Uint8Array,
  at: number,
): Result<Ack, string> {
  const errno = error < 0 ? -error : 0;
  if ((flags & NLM_F_ACK_TLVS) === 0 || at >= payload.length) return ok({ errno, text: '' });
  const decoded = decodeAttributes(ackAttributes, payload.subarray(at));
  if (!decoded.ok) return ok({ errno, text: '' });
  const { message, missingType } = decoded.value;
  const missing = missingType === undefined ? [] : [`attribute ${missingType} is missing`];
  return ok({ errno, text: [...(message === undefined ? [] : [message]), ...missing].join('; ') });
}
