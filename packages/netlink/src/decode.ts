// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Messages to values. Any bytes are legal input: what does not fit is an error value. */

import { err, ok, type Result } from '@tandem/core/result';
import { NLA_TYPE_MASK } from './constants.ts';
import {
  type AnyKind,
  type AttributeTable,
  type Decoded,
  isTable,
  type MessageFormat,
  type ScalarKind,
  type Struct,
  scalarBytes,
} from './format.ts';

/** Netlink speaks the byte order of the machine. */
export const isLittleEndian: boolean = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

const attributeHeaderBytes = 4;
const text = new TextDecoder();

export const align4 = (length: number): number => (length + 3) & ~3;

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The payload of a message in this format. */
export function decodeMessage<H, A>(
  format: MessageFormat<H, A>,
  payload: Uint8Array,
): Result<Decoded<H, A>, string> {
  const view = viewOf(payload);
  const { header, attributes } = format;
  if (payload.length < header.bytes) {
    return err(`${payload.length} bytes, less than a header of ${header.bytes}`);
  }
  const decoded = decodeRange(attributes, view, align4(header.bytes), payload.length);
  if (!decoded.ok) return decoded;
  return ok({ header: decodeStruct(header, view, 0), attributes: decoded.value });
}

export function decodeAttributes<A>(
  table: AttributeTable<A>,
  bytes: Uint8Array,
): Result<A, string> {
  return decodeRange(table, viewOf(bytes), 0, bytes.length);
}

/** Types that the table does not have are skipped: newer kernels send more. */
function decodeRange<A>(
  table: AttributeTable<A>,
  view: DataView,
  begin: number,
  end: number,
): Result<A, string> {
  const decoded: Record<string, unknown> = {};
  let at = begin;
  while (end - at >= attributeHeaderBytes) {
    const length = view.getUint16(at, isLittleEndian);
    const type = view.getUint16(at + 2, isLittleEndian) & NLA_TYPE_MASK;
    if (length < attributeHeaderBytes || length > end - at) {
      return err(`attribute ${type} of ${length} bytes where ${end - at} are left`);
    }
    const row = table.byType.get(type);
    if (row !== undefined) {
      const value = decodeValue(row.kind, view, at + attributeHeaderBytes, at + length);
      if (!value.ok) return err(`attribute ${row.name}: ${value.error}`);
      decoded[row.name] = value.value;
    }
    at += align4(length);
  }
  return ok(decoded as A);
}

function decodeValue(
  kind: AnyKind,
  view: DataView,
  begin: number,
  end: number,
): Result<unknown, string> {
  if (kind === 'flag') return ok(true);
  if (kind === 'bytes') return ok(bytesOf(view, begin, end).slice());
  if (kind === 'text') return ok(textOf(bytesOf(view, begin, end)));
  const wanted = typeof kind === 'string' ? scalarBytes[kind] : isTable(kind) ? 0 : kind.bytes;
  if (end - begin < wanted) return err(`${end - begin} bytes, less than ${wanted}`);
  if (typeof kind === 'string') return ok(readScalar(kind, view, begin));
  return isTable(kind) ? decodeRange(kind, view, begin, end) : ok(decodeStruct(kind, view, begin));
}

function decodeStruct<T>({ members }: Struct<T>, view: DataView, at: number): T {
  const decoded: Partial<Record<keyof T, number>> = {};
  for (const name in members) {
    const [kind, offset] = members[name];
    decoded[name] = readScalar(kind, view, at + offset);
  }
  return decoded as T;
}

function readScalar(kind: ScalarKind, view: DataView, at: number): number {
  switch (kind) {
    case 'u8':
      return view.getUint8(at);
    case 'u16':
      return view.getUint16(at, isLittleEndian);
    case 'be16':
      return view.getUint16(at, false);
    case 'u32':
      return view.getUint32(at, isLittleEndian);
    case 's32':
      return view.getInt32(at, isLittleEndian);
  }
}

function bytesOf(view: DataView, begin: number, end: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + begin, end - begin);
}

/** Up to the zero that ends a string in C, if there is one. */
function textOf(bytes: Uint8Array): string {
  const zero = bytes.indexOf(0);
  return text.decode(zero < 0 ? bytes : bytes.subarray(0, zero));
}
