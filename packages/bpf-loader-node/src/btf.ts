// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Struct layouts, enumerators and variables from an object's BTF (kernel Documentation/bpf/btf.rst),
// so that TypeScript never repeats an offset of a C header by hand. Only types that a program or map
// of the object uses are in its BTF. Little-endian, as the objects that can run here.

import { BpfError } from './errors.ts';
import type { BpfObject } from './object.ts';

/** One field. Fields of anonymous structs and unions appear as fields of what contains them. */
export interface FieldLayout {
  /** Bytes from the start of the outermost struct; of a bit field the byte that its first bit is in. */
  readonly offset: number;
  /** Bytes; of a bit field the bytes that it touches. */
  readonly size: number;
  /** Elements of an array, all dimensions together; 1 otherwise. */
  readonly count: number;
  /** Bytes of one element; equal to `size` when `count` is 1. */
  readonly elementSize: number;
  /** Whether it is a signed integer, or an array of signed integers. */
  readonly isSigned: boolean;
  /** The struct or union that the field (or each element) is; empty for anything else. */
  readonly structName: string;
  /** Only of a bit field: bits from the lowest bit of the byte at `offset`. */
  readonly bits?: { readonly offset: number; readonly size: number };
}

/** A named struct or union. */
export interface StructLayout {
  readonly name: string;
  /** sizeof. */
  readonly size: number;
  readonly isUnion: boolean;
  readonly fields: ReadonlyMap<string, FieldLayout>;
}

/** A global variable. */
export interface VariableLayout {
  /** ".rodata", ".data", ".bss", "license", ... */
  readonly section: string;
  readonly offset: number;
  readonly size: number;
  /** The struct or union that it is; empty for anything else. */
  readonly structName: string;
}

export interface BtfTypes {
  readonly structs: ReadonlyMap<string, StructLayout>;
  /** By the enumerator's own name, anonymous enums too; values beyond 2^53 are left out. */
  readonly enumerators: ReadonlyMap<string, number>;
  readonly variables: ReadonlyMap<string, VariableLayout>;
}

/** enum values of linux/btf.h. */
const kindOf = {
  int: 1,
  pointer: 2,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  functionPrototype: 13,
  variable: 14,
  dataSection: 15,
  float: 16,
  declarationTag: 17,
  typeTag: 18,
  enum64: 19,
} as const;

const magic = 0xeb9f;
const typeBytes = 12;
const pointerBytes = 8;
/** Typedefs, qualifiers, arrays and anonymous structs inside each other. */
const nestingMax = 32;
/** Fields of one BTF, copies in containing structs counted again: damaged data could nest for ever. */
const fieldsMax = 1 << 22;
const intSigned = 1 << 24;

interface Type {
  readonly name: string;
  readonly kind: number;
  readonly kindFlag: boolean;
  readonly memberCount: number;
  /** Bytes, or the type referred to. */
  readonly sizeOrType: number;
  /** Where the kind's own data begins. */
  readonly at: number;
}

/** A type without names, qualifiers and array dimensions. */
interface Resolved {
  readonly elementSize: number;
  readonly count: number;
  readonly isSigned: boolean;
  readonly structName: string;
}

function malformed(why: string): BpfError {
  return new BpfError({
    code: 'TANDEM_BPF_OPEN',
    action: `decode (${why})`,
    object: 'BTF',
    errno: 0,
  });
}

/** Bytes that follow the 12 common ones. */
function trailerBytes(kind: number, memberCount: number): number {
  switch (kind) {
    case kindOf.int:
    case kindOf.variable:
    case kindOf.declarationTag:
      return 4;
    case kindOf.array:
      return 12;
    case kindOf.struct:
    case kindOf.union:
    case kindOf.dataSection:
    case kindOf.enum64:
      return 12 * memberCount;
    case kindOf.enum:
    case kindOf.functionPrototype:
      return 8 * memberCount;
    default:
      return 0;
  }
}

class Decoder {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #stringsAt: number;
  readonly #stringsEnd: number;
  readonly types: readonly Type[];
  #fields = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.u32(0) % 0x10000 !== magic) throw malformed('wrong magic');
    const headerBytes = this.u32(4);
    const typesAt = headerBytes + this.u32(8);
    const typesEnd = typesAt + this.u32(12);
    this.#stringsAt = headerBytes + this.u32(16);
    this.#stringsEnd = this.#stringsAt + this.u32(20);
    if (typesEnd > bytes.length || this.#stringsEnd > bytes.length) throw malformed('cut short');
    this.types = this.#readTypes(typesAt, typesEnd);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  i32(at: number): number {
    return this.#view.getInt32(at, true);
  }

  string(offset: number): string {
    const start = this.#stringsAt + offset;
    const end = this.#bytes.indexOf(0, start);
    if (end < 0 || end >= this.#stringsEnd) throw malformed('string outside its section');
    return Buffer.from(this.#bytes.subarray(start, end)).toString('latin1');
  }

  type(id: number): Type {
    const type = this.types[id];
    if (type === undefined) throw malformed(`no type ${id}`);
    return type;
  }

  #readTypes(start: number, end: number): readonly Type[] {
    // Type 0 is void and not in the data.
    const types: Type[] = [
      { name: '', kind: 0, kindFlag: false, memberCount: 0, sizeOrType: 0, at: 0 },
    ];
    for (let at = start; at < end; ) {
      const info = this.u32(at + 4);
      const kind = (info >>> 24) & 0x1f;
      const memberCount = info & 0xffff;
      types.push({
        name: this.string(this.u32(at)),
        kind,
        kindFlag: info >>> 31 === 1,
        memberCount,
        sizeOrType: this.u32(at + 8),
        at: at + typeBytes,
      });
      at += typeBytes + trailerBytes(kind, memberCount);
    }
    return types;
  }

  resolve(id: number, depth = 0): Resolved {
    if (depth > nestingMax) throw malformed('types nested too deep');
    const type = this.type(id);
    const plain = { elementSize: type.sizeOrType, count: 1, isSigned: false, structName: '' };
    switch (type.kind) {
      case kindOf.int:
        return { ...plain, isSigned: (this.u32(type.at) & intSigned) !== 0 };
      case kindOf.pointer:
        return { ...plain, elementSize: pointerBytes };
      case kindOf.enum:
      case kindOf.enum64:
        return { ...plain, isSigned: type.kindFlag };
      case kindOf.float:
        return plain;
      case kindOf.struct:
      case kindOf.union:
        return { ...plain, structName: type.name };
      case kindOf.array: {
        const element = this.resolve(this.u32(type.at), depth + 1);
        return { ...element, count: element.count * this.u32(type.at + 8) };
      }
      case kindOf.typedef:
      case kindOf.volatile:
      case kindOf.const:
      case kindOf.restrict:
      case kindOf.typeTag:
        return this.resolve(type.sizeOrType, depth + 1);
      default:
        return { ...plain, elementSize: 0 };
    }
  }

  /** The struct or union behind qualifiers, or null. */
  aggregate(id: number, depth = 0): Type | null {
    const type = this.type(id);
    if (type.kind === kindOf.struct || type.kind === kindOf.union) return type;
    const isQualifier =
      type.kind === kindOf.volatile || type.kind === kindOf.const || type.kind === kindOf.typeTag;
    if (!isQualifier || depth > nestingMax) return null;
    return this.aggregate(type.sizeOrType, depth + 1);
  }

  addFields(type: Type, baseBits: number, fields: Map<string, FieldLayout>, depth: number): void {
    if (depth > nestingMax) throw malformed('structs nested too deep');
    this.#fields += type.memberCount;
    if (this.#fields > fieldsMax) throw malformed('too many fields');
    for (let i = 0; i < type.memberCount; i++) {
      const at = type.at + 12 * i;
      const name = this.string(this.u32(at));
      const typeId = this.u32(at + 4);
      const position = this.u32(at + 8);
      // With the kind flag the upper 8 bits are the width of a bit field, 0 for a plain one.
      const bitSize = type.kindFlag ? position >>> 24 : 0;
      const bitOffset = baseBits + (type.kindFlag ? position & 0xffffff : position);
      if (name === '') {
        const inner = this.aggregate(typeId);
        if (inner !== null) this.addFields(inner, bitOffset, fields, depth + 1);
      } else {
        fields.set(name, this.#field(typeId, bitOffset, bitSize));
      }
    }
  }

  #field(typeId: number, bitOffset: number, bitSize: number): FieldLayout {
    const { elementSize, count, isSigned, structName } = this.resolve(typeId);
    const offset = bitOffset >>> 3;
    if (bitSize === 0) {
      return { offset, size: elementSize * count, count, elementSize, isSigned, structName };
    }
    const bits = { offset: bitOffset & 7, size: bitSize };
    const size = (bits.offset + bits.size + 7) >>> 3;
    return { offset, size, count: 1, elementSize: size, isSigned, structName, bits };
  }
}

function addEnumerators(decoder: Decoder, type: Type, enumerators: Map<string, number>): void {
  const isWide = type.kind === kindOf.enum64;
  for (let i = 0; i < type.memberCount; i++) {
    const at = type.at + (isWide ? 12 : 8) * i;
    const low = type.kindFlag && !isWide ? decoder.i32(at + 4) : decoder.u32(at + 4);
    const high = isWide ? (type.kindFlag ? decoder.i32(at + 8) : decoder.u32(at + 8)) : 0;
    const value = high * 2 ** 32 + low;
    if (Number.isSafeInteger(value)) enumerators.set(decoder.string(decoder.u32(at)), value);
  }
}

function addVariables(
  decoder: Decoder,
  section: Type,
  variables: Map<string, VariableLayout>,
): void {
  for (let i = 0; i < section.memberCount; i++) {
    const at = section.at + 12 * i;
    const variable = decoder.type(decoder.u32(at));
    if (variable.kind !== kindOf.variable) continue;
    variables.set(variable.name, {
      section: section.name,
      offset: decoder.u32(at + 4),
      size: decoder.u32(at + 8),
      structName: decoder.resolve(variable.sizeOrType).structName,
    });
  }
}

function decode(bytes: Uint8Array): BtfTypes {
  const decoder = new Decoder(bytes);
  const structs = new Map<string, StructLayout>();
  const enumerators = new Map<string, number>();
  const variables = new Map<string, VariableLayout>();
  for (const type of decoder.types) {
    if (type.kind === kindOf.struct || type.kind === kindOf.union) {
      if (type.name === '' || structs.has(type.name)) continue;
      const fields = new Map<string, FieldLayout>();
      decoder.addFields(type, 0, fields, 0);
      const isUnion = type.kind === kindOf.union;
      structs.set(type.name, { name: type.name, size: type.sizeOrType, isUnion, fields });
    } else if (type.kind === kindOf.enum || type.kind === kindOf.enum64) {
      addEnumerators(decoder, type, enumerators);
    } else if (type.kind === kindOf.dataSection) {
      addVariables(decoder, type, variables);
    }
  }
  return { structs, enumerators, variables };
}

/** Decodes raw BTF. @throws BpfError OPEN when it is malformed. */
export function decodeBtf(bytes: Uint8Array): BtfTypes {
  try {
    return decode(bytes);
  } catch (error) {
    if (error instanceof RangeError) throw malformed('a number outside the data');
    throw error;
  }
}

/** Everything that an opened object's BTF says. */
export function btfTypes(object: BpfObject): BtfTypes {
  return decodeBtf(object.btf());
}

/** The named structs and unions of an opened object. */
export function layouts(object: BpfObject): ReadonlyMap<string, StructLayout> {
  return btfTypes(object).structs;
}
