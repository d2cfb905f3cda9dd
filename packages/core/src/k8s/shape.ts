// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Reading values of unknown shape, as YAML and the API server give them: every reader takes the field's
 * path, and what does not fit becomes an issue that names the path and the fix, never a throw. A null
 * field is an issue too: `toEndpoints:` with nothing behind it must not mean "any peer". Where Kubernetes says what it
 * means, see `withoutNulls`, `readOwnList` and `readOwnTexts`.
 */

import { objectErrorCharsMax } from '../limits.ts';

export interface Issue {
  /** Path of the field inside the object, `spec.egress[0].toPorts`. */
  readonly path: string;
  /** Fault and fix. */
  readonly message: string;
}

export type Fields = Readonly<Record<string, unknown>>;

/** Collects issues of one object, the first `max` of them. Quoted texts of the object are cut off and escaped. */
export class Issues {
  readonly #max: number;
  readonly #list: Issue[] = [];
  #more = 0;

  constructor(max: number) {
    this.#max = max;
  }

  add(path: string, message: string): void {
    if (this.#list.length < this.#max) {
      this.#list.push({ path: quotable(path), message: quotable(message) });
    } else this.#more++;
  }

  get any(): boolean {
    return this.#list.length > 0;
  }

  get count(): number {
    return this.#list.length + this.#more;
  }

  /** The issues; a last one gives the number of those left out. */
  list(): readonly Issue[] {
    if (this.#more === 0) return this.#list;
    return [...this.#list, { path: '', message: `and ${this.#more} more errors` }];
  }
}

/** Control characters and line breaks, those that change the direction of text, halves of characters. */
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** As a terminal and a log may show it. */
function quotable(text: string): string {
  const isCut = text.length > objectErrorCharsMax;
  const kept = isCut ? `${text.slice(0, objectErrorCharsMax)}...` : text;
  return kept.replace(
    unprintable,
    (found) => `\\u{${(found.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}}`,
  );
}

/** A member of an object's path. */
export function at(path: string, field: string): string {
  if (path === '') return field;
  return `${path}.${field}`;
}

/** A mapping, or null with an issue. */
export function readFields(value: unknown, path: string, issues: Issues): Fields | null {
  if (isFields(value)) return value;
  issues.add(path, `is ${nameOf(value)}, but must be a mapping`);
  return null;
}

/** An optional mapping: undefined when absent, null with an issue when it is something else. */
export function readOptionalFields(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): Fields | null | undefined {
  const value = fields[field];
  return value === undefined ? undefined : readFields(value, at(path, field), issues);
}

/** A list; empty when absent, empty with an issue when it is something else. */
export function readList(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): readonly unknown[] {
  const value = fields[field];
  if (value === undefined) return [];
  if (Array.isArray(value)) return value;
  issues.add(at(path, field), `is ${nameOf(value)}, but must be a list${listFix(value)}`);
  return [];
}

/**
 * As `readList`, of one of Kubernetes' own types: there null is the empty list, and the API server writes it so where the field is
 * not optional (`endpoints` and `ports` of the EndpointSlice of a Service without endpoints).
 */
export function readOwnList(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): readonly unknown[] {
  return fields[field] === null ? [] : readList(fields, field, path, issues);
}

function listFix(value: unknown): string {
  if (typeof value === 'string' && /^[-\w./:]+$/.test(value)) return `: write [${value}]`;
  if (!isFields(value)) return '';
  return Object.keys(value).length === 0
    ? ': [] is the empty one'
    : ': put a dash before its items';
}

/** A text; undefined when absent or, with an issue, when it is something else. */
export function readText(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): string | undefined {
  const value = fields[field];
  if (value === undefined || isText(value)) return value;
  const fix = typeof value === 'object' || typeof value === 'string' ? '' : ': put it in quotes';
  issues.add(at(path, field), `is ${nameOf(value)}, but must be a text${fix}`);
  return undefined;
}

/** A text that must be there and not be empty; '' with an issue otherwise. */
export function readRequiredText(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): string {
  const value = readText(fields, field, path, issues);
  if (value === undefined && fields[field] !== undefined) return '';
  if (value === undefined || value === '') {
    issues.add(at(path, field), 'is missing or empty, but must be given');
    return '';
  }
  return value;
}

/** A truth value; undefined when absent or, with an issue, when it is something else. */
export function readFlag(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): boolean | undefined {
  const value = fields[field];
  if (value === undefined || typeof value === 'boolean') return value;
  issues.add(at(path, field), `is ${nameOf(value)}, but must be true or false`);
  return undefined;
}

/** A whole number in a range; undefined when absent or, with an issue, when it is something else. */
export function readInteger(
  fields: Fields,
  field: string,
  path: string,
  range: { readonly min: number; readonly max: number },
  issues: Issues,
): number | undefined {
  const value = fields[field];
  if (value === undefined) return undefined;
  if (Number.isInteger(value) && (value as number) >= range.min && (value as number) <= range.max) {
    return value as number;
  }
  issues.add(
    at(path, field),
    `is ${nameOf(value)}, but must be a whole number of ${range.min} to ${range.max}`,
  );
  return undefined;
}

/** Texts of a list; those that are none are issues. */
export function readTexts(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): readonly string[] {
  const texts: string[] = [];
  for (const [index, value] of readList(fields, field, path, issues).entries()) {
    if (isText(value)) texts.push(value);
    else {
      issues.add(`${at(path, field)}[${index}]`, `is ${nameOf(value)}, but must be a text`);
    }
  }
  return texts;
}

/** As `readTexts`, of one of Kubernetes' own types: see `readOwnList`. */
export function readOwnTexts(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): readonly string[] {
  return fields[field] === null ? [] : readTexts(fields, field, path, issues);
}

/** A mapping of texts to texts, as labels are; empty when absent. */
export function readTextMap(
  fields: Fields,
  field: string,
  path: string,
  issues: Issues,
): ReadonlyMap<string, string> {
  const map = new Map<string, string>();
  const value = readOptionalFields(fields, field, path, issues);
  for (const [key, text] of Object.entries(value ?? {})) {
    if (isText(key) && isText(text)) map.set(key, text);
    else {
      const fix = text === null ? 'give it, or "" for an empty one' : 'quote it';
      issues.add(at(at(path, field), key), `is ${nameOf(text)}, but must be a text: ${fix}`);
    }
  }
  return map;
}

/** RFC 3339; '' if it is none. YAML parsers may turn a timestamp into a date object. */
export function readTimestamp(value: unknown): string {
  if (typeof value === 'string') return value;
  const hasIso = typeof value === 'object' && value !== null && 'toISOString' in value;
  return hasIso && typeof value.toISOString === 'function' ? String(value.toISOString()) : '';
}

/** Seconds since 1970 of a timestamp; 0 if there is none. */
export function readSeconds(value: unknown): number {
  // oxlint-disable-next-line no-restricted-globals -- it reads no clock
  const ms = Date.parse(readTimestamp(value));
  return Number.isNaN(ms) ? 0 : Math.floor(ms / 1000);
}

/** Not with half of a surrogate pair, as an escape in YAML or JSON can write it: no member could read it in a snapshot. */
export function isText(value: unknown): value is string {
  return typeof value === 'string' && value.isWellFormed();
}

/** Kind of a value, for messages. */
export function nameOf(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value === 'string') {
    const what = value.isWellFormed() ? 'the text' : 'half of a character, in';
    return `${what} ${JSON.stringify(value.slice(0, 80))}`;
  }
  return `the ${typeof value} ${String(value)}`;
}

/** A mapping of one of Kubernetes' own types as the API server reads it: a known field that is null is absent. */
export function withoutNulls(fields: Fields, known: readonly string[]): Fields {
  const isPresent = ([field, value]: [string, unknown]): boolean =>
    value !== null || !known.includes(field);
  return Object.fromEntries(Object.entries(fields).filter(isPresent));
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
