// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Messages for tests, octet by octet: everything can be wrong, nothing is checked. */

/** Wire form of labels that are given as text or as octets; text is not folded or unescaped. */
export function labels(...parts: readonly (string | readonly number[])[]): number[] {
  const octets = parts.flatMap((part) => {
    const label = typeof part === 'string' ? [...part].map((c) => c.charCodeAt(0)) : part;
    return [label.length, ...label];
  });
  return [...octets, 0];
}

/** Wire form of "a.b.c" as it is written, without escapes. */
export function name(text: string): number[] {
  return text === '.' ? [0] : labels(...text.split('.'));
}

export function word(value: number): number[] {
  return [(value >>> 8) & 255, value & 255];
}

export function long(value: number): number[] {
  return [...word(value >>> 16), ...word(value & 0xffff)];
}

/** A compression pointer. */
export function pointer(offset: number): number[] {
  return word(0xc000 | offset);
}

export interface RecordParts {
  readonly owner: readonly number[];
  readonly type: number;
  readonly class?: number;
  readonly ttl?: number;
  readonly data: readonly number[];
  /** When RDLENGTH lies. */
  readonly dataLength?: number;
}

export function record(parts: RecordParts): number[] {
  const { owner, type, data } = parts;
  const fixed = [...word(type), ...word(parts.class ?? 1), ...long(parts.ttl ?? 300)];
  return [...owner, ...fixed, ...word(parts.dataLength ?? data.length), ...data];
}

export interface MessageParts {
  readonly id?: number;
  readonly flags: number;
  readonly question?: readonly number[];
  readonly questions?: number;
  readonly answer?: readonly (readonly number[])[];
  readonly authority?: readonly (readonly number[])[];
  readonly additional?: readonly (readonly number[])[];
  /** Counts that lie: answer, authority, additional. */
  readonly counts?: readonly [number, number, number];
}

export function message(parts: MessageParts): Uint8Array {
  const { answer = [], authority = [], additional = [], question: asked = [] } = parts;
  const counts = parts.counts ?? [answer.length, authority.length, additional.length];
  const questions = parts.questions ?? (asked.length > 0 ? 1 : 0);
  const head = [parts.id ?? 0x1234, parts.flags, questions, ...counts].flatMap(word);
  return Uint8Array.from([...head, ...asked, ...[...answer, ...authority, ...additional].flat()]);
}

/** A question of class IN. */
export function question(text: string, type = 1, dnsClass = 1): number[] {
  return [...name(text), ...word(type), ...word(dnsClass)];
}

/** An OPT record: payload size, flags word of the TTL, extended RCODE, options, version. */
export function opt(
  size = 1232,
  flags = 0,
  extendedRcode = 0,
  options: number[] = [],
  version = 0,
): number[] {
  const fixed = [...word(41), ...word(size), extendedRcode, version, ...word(flags)];
  return [0, ...fixed, ...word(options.length), ...options];
}

/** A query of flags RD. */
export function query(text: string, type = 1, additional: number[][] = []): Uint8Array {
  return message({ flags: 0x0100, question: question(text, type), additional });
}
