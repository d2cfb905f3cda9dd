// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS messages octet by octet, malformed ones as well: built without any encoder that would correct them, and
 * read as far as they can be read. Shares no code with the product.
 */

import { concatBytes } from '@tandem/testing/packet';

export const flagsRd = 0x0100;

export interface EdnsOption {
  readonly code: number;
  readonly data: Uint8Array;
}

export interface EdnsSpec {
  readonly size: number;
  readonly dnssecOk?: boolean;
  readonly version?: number;
  /** The 15 flags behind DO. */
  readonly zeroFlags?: number;
  readonly options?: readonly EdnsOption[];
  /** RDLENGTH differs from the true one by so much. */
  readonly lengthError?: number;
}

export interface MessageSpec {
  readonly name: string;
  readonly type: number;
  readonly class?: number;
  /** The 16 bits after the id; default RD. */
  readonly flags?: number;
  readonly edns?: EdnsSpec;
}

export type Counts = readonly [number, number, number, number];

/** A query with one question. */
export function query(spec: MessageSpec): Uint8Array {
  const { name, type, edns } = spec;
  const sections = [question(wireName(name), type, spec.class)];
  if (edns !== undefined) sections.push(optRecord(edns));
  return message(spec.flags ?? flagsRd, [1, 0, 0, edns === undefined ? 0 : 1], sections);
}

/** A header with these counts, then the octets as they are. */
export function message(
  flags: number,
  counts: Counts,
  sections: readonly Uint8Array[],
): Uint8Array {
  return concatBytes([words(0, flags, ...counts), ...sections]);
}

export function question(name: Uint8Array, type: number, klass = 1): Uint8Array {
  return concatBytes([name, words(type, klass)]);
}

export function optRecord(edns: EdnsSpec): Uint8Array {
  const { size, dnssecOk = false, version = 0, zeroFlags = 0, options = [] } = edns;
  const data = concatBytes(
    options.map(({ code, data: value }) => concatBytes([words(code, value.length), value])),
  );
  const flags = (dnssecOk ? 0x8000 : 0) | zeroFlags;
  const length = Math.max(0, data.length + (edns.lengthError ?? 0));
  return concatBytes([
    Uint8Array.of(0),
    words(typeOpt, size),
    Uint8Array.of(0, version),
    words(flags, length),
    data,
  ]);
}

export function record(name: Uint8Array, type: number, data: Uint8Array, klass = 1): Uint8Array {
  return concatBytes([name, words(type, klass, 0, 60, data.length), data]);
}

/** Presentation form to wire form, letters as they are; `\DDD` is an octet. */
export function wireName(text: string): Uint8Array {
  const octets = text.replace(/\\(\d{3})/g, (_, digits: string) =>
    digits === '046' ? dotInLabel : String.fromCharCode(Number(digits)),
  );
  const labels = octets.split('.').filter((label) => label !== '');
  return concatBytes([
    ...labels.map((label) => {
      const bytes = Buffer.from(label.replaceAll(dotInLabel, '.'), 'latin1');
      return concatBytes([Uint8Array.of(bytes.length), bytes]);
    }),
    Uint8Array.of(0),
  ]);
}

/** Stands for a dot that does not end a label while labels are split. */
const dotInLabel = '\u{100}';

export function words(...values: readonly number[]): Uint8Array {
  return Uint8Array.from(values.flatMap((value) => [(value >> 8) & 255, value & 255]));
}

const typeOpt = 41;

export interface ReadRecord {
  readonly section: 'answer' | 'authority' | 'additional';
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  readonly data: Uint8Array;
}

export interface ReadMessage {
  readonly flags: number;
  readonly opcode: number;
  /** With the upper bits of the OPT record. */
  readonly rcode: number;
  readonly counts: Counts;
  readonly questions: readonly { readonly name: string; type: number; class: number }[];
  /** Length of the header and the questions. */
  readonly questionEnd: number;
  readonly records: readonly ReadRecord[];
  /** Octets behind the last record; null when something before is cut or malformed. */
  readonly trailing: number | null;
}

/** Reads what can be read of a message: null without a whole header. */
export function readMessage(bytes: Uint8Array): ReadMessage | null {
  if (bytes.length < 12) return null;
  const word = (at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  const flags = word(2);
  const counts: Counts = [word(4), word(6), word(8), word(10)];
  const questions: { name: string; type: number; class: number }[] = [];
  const records: ReadRecord[] = [];
  let at = 12;
  let isWhole = true;
  for (let i = 0; i < counts[0] && isWhole; i++) {
    const name = readName(bytes, at);
    isWhole = name !== null && name.end + 4 <= bytes.length;
    if (name === null || !isWhole) break;
    questions.push({ name: name.text, type: word(name.end), class: word(name.end + 2) });
    at = name.end + 4;
  }
  const questionEnd = at;
  for (const [index, section] of (['answer', 'authority', 'additional'] as const).entries()) {
    for (let i = 0; i < (counts[index + 1] ?? 0) && isWhole; i++) {
      const name = readName(bytes, at);
      const fixed = name?.end ?? 0;
      const end = fixed + 10 + word(fixed + 8);
      isWhole = name !== null && fixed + 10 <= bytes.length && end <= bytes.length;
      if (name === null || !isWhole) break;
      records.push({
        ...{ section, name: name.text, type: word(fixed), class: word(fixed + 2) },
        ttl: word(fixed + 4) * 0x10000 + word(fixed + 6),
        data: bytes.subarray(fixed + 10, end),
      });
      at = end;
    }
  }
  const upper = (records.find(({ type }) => type === typeOpt)?.ttl ?? 0) >>> 24;
  return {
    ...{ flags, opcode: (flags >> 11) & 15, rcode: upper * 16 + (flags & 15), counts },
    ...{ questions, questionEnd, records, trailing: isWhole ? bytes.length - at : null },
  };
}

/** The EDNS options of a message's OPT record, as far as they can be read; null without an OPT record. */
export function ednsOptions(read: ReadMessage): readonly EdnsOption[] | null {
  const data = read.records.find(({ type }) => type === typeOpt)?.data;
  if (data === undefined) return null;
  const options: EdnsOption[] = [];
  for (let at = 0; at + 4 <= data.length; ) {
    const code = ((data[at] ?? 0) << 8) | (data[at + 1] ?? 0);
    const end = at + 4 + (((data[at + 2] ?? 0) << 8) | (data[at + 3] ?? 0));
    options.push({ code, data: data.subarray(at + 4, end) });
    at = end;
  }
  return options;
}

function readName(bytes: Uint8Array, start: number): { text: string; end: number } | null {
  const labels: string[] = [];
  let end = 0;
  let at = start;
  for (let steps = 0; steps < 256; steps++) {
    const length = bytes[at];
    if (length === undefined || (length > 63 && length < 0xc0)) return null;
    if (length === 0) {
      const text = labels.length === 0 ? '.' : labels.join('.');
      return { text, end: end === 0 ? at + 1 : end };
    }
    if (length >= 0xc0) {
      if (end === 0) end = at + 2;
      at = ((length & 63) << 8) | (bytes[at + 1] ?? 0);
      continue;
    }
    const label = Buffer.from(bytes.subarray(at + 1, at + 1 + length)).toString('latin1');
    labels.push(
      label.replace(/[^-_*/0-9a-zA-Z]/g, (c) => `\\${String(c.charCodeAt(0)).padStart(3, '0')}`),
    );
    at += 1 + length;
  }
  return null;
}

/** How much of a message `describe` writes in hexadecimal digits. */
const hexOctetsMax = 1024;

/** For a person: what it says, as far as it can be read, and its octets. */
export function describeMessage(bytes: Uint8Array | null): string {
  if (bytes === null) return '(nothing)';
  const lines: string[] = [];
  const read = readMessage(bytes);
  if (read !== null) {
    const { opcode, rcode, flags, counts, trailing } = read;
    const names = ['QR', 'AA', 'TC', 'RD', 'RA', 'Z', 'AD', 'CD'];
    const bits = [15, 10, 9, 8, 7, 6, 5, 4];
    const set = names.filter((_, i) => (flags & (1 << (bits[i] ?? 0))) !== 0);
    lines.push(`opcode ${opcode}, rcode ${rcode}, ${set.join(' ')}, counts ${counts.join('/')}`);
    for (const { name, type, class: klass } of read.questions) {
      lines.push(`  question ${name} class ${klass} type ${type}`);
    }
    for (const { section, name, type, class: klass, ttl, data } of read.records.slice(0, 20)) {
      const hex = Buffer.from(data.subarray(0, 64)).toString('hex');
      lines.push(`  ${section} ${name} ${ttl} class ${klass} type ${type} ${data.length}: ${hex}`);
    }
    if (read.records.length > 20) lines.push(`  and ${read.records.length - 20} records`);
    if (trailing !== 0)
      lines.push(`  ${trailing ?? 'cut or malformed'}: octets behind the records`);
  }
  const hex = Buffer.from(bytes.subarray(0, hexOctetsMax)).toString('hex');
  lines.push(`  ${bytes.length} octets: ${hex}${bytes.length > hexOctetsMax ? '...' : ''}`);
  return lines.join('\n');
}
