// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Structs of bpf/include/tandem/abi.h as bytes, by the names and offsets of the object's own BTF. */

import assert from 'node:assert/strict';
import type { BtfTypes, StructLayout } from '@tandem/bpf-loader-node/btf';

export type FieldValue = number | bigint | Uint8Array;

export class Structs {
  readonly #types: BtfTypes;

  constructor(types: BtfTypes) {
    this.#types = types;
  }

  /** Value of an enumerator, e.g. TD_EP_DNS. */
  number(enumerator: string): number {
    const value = this.#types.enumerators.get(enumerator);
    assert.ok(value !== undefined, `enumerator ${enumerator}`);
    return value;
  }

  layout(name: string): StructLayout {
    const layout = this.#types.structs.get(name);
    assert.ok(layout !== undefined, `struct ${name}`);
    return layout;
  }

  /** A struct with the given fields; what is not named is zero. Fields named *_be take a host number. */
  bytes(name: string, fields: Readonly<Record<string, FieldValue>>): Uint8Array {
    const bytes = new Uint8Array(this.layout(name).size);
    for (const [field, value] of Object.entries(fields)) this.write(name, bytes, field, value);
    return bytes;
  }

  write(name: string, bytes: Uint8Array, field: string, value: FieldValue): void {
    const at = this.layout(name).fields.get(field);
    assert.ok(at !== undefined, `field ${name}.${field}`);
    if (value instanceof Uint8Array) {
      assert.ok(value.length <= at.size, `${name}.${field} has ${at.size} bytes`);
      bytes.set(value, at.offset);
      return;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset + at.offset, at.size);
    const isLittle = !field.endsWith('_be');
    if (at.size === 8) view.setBigUint64(0, BigInt(value), isLittle);
    else if (at.size === 4) view.setUint32(0, Number(value), isLittle);
    else if (at.size === 2) view.setUint16(0, Number(value), isLittle);
    else view.setUint8(0, Number(value));
  }

  read(name: string, bytes: Uint8Array, field: string): number {
    const at = this.layout(name).fields.get(field);
    assert.ok(at !== undefined, `field ${name}.${field}`);
    const view = new DataView(bytes.buffer, bytes.byteOffset + at.offset, at.size);
    if (at.size === 8) return Number(view.getBigUint64(0, true));
    if (at.size === 4) return at.isSigned ? view.getInt32(0, true) : view.getUint32(0, true);
    if (at.size === 2) return at.isSigned ? view.getInt16(0, true) : view.getUint16(0, true);
    return view.getUint8(0);
  }

  /** The bytes of a field, e.g. of an address. */
  slice(name: string, bytes: Uint8Array, field: string): Uint8Array {
    const at = this.layout(name).fields.get(field);
    assert.ok(at !== undefined, `field ${name}.${field}`);
    return bytes.subarray(at.offset, at.offset + at.size);
  }
}
