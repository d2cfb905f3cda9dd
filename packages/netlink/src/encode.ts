// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Values to messages. */

import { NLA_F_NESTED } from './constants.ts';
import { align4, isLittleEndian, viewOf } from './decode.ts';
import {
  type AnyKind,
  type AttributeTable,
  isTable,
  type MessageFormat,
  type ScalarKind,
  type Struct,
  scalarBytes,
} from './format.ts';
import { messageBytesMax } from './limits.ts';

const attributeHeaderBytes = 4;
const utf8 = new TextEncoder();

/** The payload of a message. Members that are not given are zero. @throws RangeError: it is too long */
export function encodeMessage<H, A>(
  format: MessageFormat<H, A>,
  header: Partial<H>,
  attributes: A,
): Uint8Array {
  const writer = new Writer();
  writer.struct(format.header, header);
  writer.attributes(format.attributes, attributes);
  return writer.bytes;
}

class Writer {
  #memory = new Uint8Array(256);
  #view = viewOf(this.#memory);
  #length = 0;

  get bytes(): Uint8Array {
    return this.#memory.slice(0, this.#length);
  }

  struct<T>({ bytes, members }: Struct<T>, values: Partial<T>): void {
    const at = this.#reserve(align4(bytes));
    for (const name in members) {
      const value = values[name];
      if (value === undefined) continue;
      const [kind, offset] = members[name];
      this.#scalar(kind, at + offset, value as number);
    }
  }

  attributes<A>(table: AttributeTable<A>, values: A): void {
    for (const name in values) {
      const value = values[name];
      const row = table.byName.get(name);
      if (row !== undefined && value !== undefined) this.#attribute(row.type, row.kind, value);
    }
  }

  #attribute(type: number, kind: AnyKind, value: unknown): void {
    const at = this.#reserve(attributeHeaderBytes);
    this.#view.setUint16(at + 2, isTable(kind) ? type | NLA_F_NESTED : type, isLittleEndian);
    const length = attributeHeaderBytes + this.#value(kind, value);
    this.#view.setUint16(at, length, isLittleEndian);
  }

  /** The length without what aligns the next attribute. */
  #value(kind: AnyKind, value: unknown): number {
    const begin = this.#length;
    if (kind === 'flag') return 0;
    if (kind === 'bytes') return this.#bytes(value as Uint8Array);
    if (kind === 'text') return this.#bytes(utf8.encode(`${value as string}\0`));
    if (typeof kind === 'string') {
      this.#scalar(kind, this.#reserve(align4(scalarBytes[kind])), value as number);
      return scalarBytes[kind];
    }
    if (isTable(kind)) {
      this.attributes(kind, value as Readonly<Record<string, unknown>>);
      return this.#length - begin;
    }
    this.struct(kind, value as Readonly<Record<string, number>>);
    return kind.bytes;
  }

  #bytes(bytes: Uint8Array): number {
    const at = this.#reserve(align4(bytes.length));
    this.#memory.set(bytes, at);
    return bytes.length;
  }

  #scalar(kind: ScalarKind, at: number, value: number): void {
    switch (kind) {
      case 'u8':
        this.#view.setUint8(at, value);
        break;
      case 'u16':
        this.#view.setUint16(at, value, isLittleEndian);
        break;
      case 'be16':
        this.#view.setUint16(at, value, false);
        break;
      case 'u32':
        this.#view.setUint32(at, value, isLittleEndian);
        break;
      case 's32':
        this.#view.setInt32(at, value, isLittleEndian);
        break;
    }
  }

  /** Room at the end, zeroed; its offset. */
  #reserve(bytes: number): number {
    const at = this.#length;
    const length = at + bytes;
    if (length > messageBytesMax) throw new RangeError(`a message of ${length} bytes`);
    if (length > this.#memory.length) {
      const grown = new Uint8Array(Math.max(length, 2 * this.#memory.length));
      grown.set(this.#memory.subarray(0, at));
      this.#memory = grown;
      this.#view = viewOf(grown);
    }
    this.#length = length;
    return at;
  }
}
