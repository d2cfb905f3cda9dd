// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Layouts of messages as tables: a fixed header, then attributes (type, length, value), some of which nest
 * others. A table is checked against the interface that it decodes to by the compiler.
 */

export type ScalarKind = 'u8' | 'u16' | 'u32' | 's32' | 'be16';

export const scalarBytes: Readonly<Record<ScalarKind, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  s32: 4,
  be16: 2,
};

/** A C struct of numbers: by member, its kind and offset. What lies between members is zero. */
export interface Struct<T> {
  readonly bytes: number;
  readonly members: { readonly [K in keyof T]: readonly [kind: ScalarKind, offset: number] };
}

export type AttributeKind<V> = V extends number
  ? ScalarKind
  : V extends string
    ? 'text'
    : V extends Uint8Array
      ? 'bytes'
      : V extends true
        ? 'flag'
        : Struct<V> | AttributeTable<V>;

export type AttributeRows<T> = {
  readonly [K in keyof T]-?: readonly [type: number, kind: AttributeKind<NonNullable<T[K]>>];
};

export type AnyKind =
  | ScalarKind
  | 'text'
  | 'bytes'
  | 'flag'
  | Struct<Readonly<Record<string, number>>>
  | AttributeTable<Readonly<Record<string, unknown>>>;

export interface AttributeRow {
  readonly name: string;
  readonly type: number;
  readonly kind: AnyKind;
}

/** Attributes of one message or nest, found by name and by type. */
export interface AttributeTable<T> {
  readonly byType: ReadonlyMap<number, AttributeRow>;
  readonly byName: ReadonlyMap<keyof T & string, AttributeRow>;
}

export interface MessageFormat<H, A> {
  readonly header: Struct<H>;
  readonly attributes: AttributeTable<A>;
}

export interface Decoded<H, A> {
  readonly header: H;
  readonly attributes: A;
}

export function attributeTable<T>(rows: AttributeRows<T>): AttributeTable<T> {
  const all = Object.entries(rows as AttributeRows<Record<string, unknown>>).map(
    ([name, [type, kind]]): AttributeRow => ({ name, type, kind: kind as AnyKind }),
  );
  return {
    byType: new Map(all.map((row) => [row.type, row])),
    byName: new Map(all.map((row) => [row.name as keyof T & string, row])),
  };
}

export function isTable(kind: AnyKind): kind is AttributeTable<Readonly<Record<string, unknown>>> {
  return typeof kind === 'object' && 'byType' in kind;
}
