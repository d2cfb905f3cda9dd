// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// The kinds of configuration options: how a value is written as text (flag, environment) and in YAML, what
// is accepted, and how it is described. One builder per kind; `config.ts` combines them with the sources.

import {
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '@tandem/core/net/ip';
import { err, ok, type Result } from '@tandem/core/result';

/** Longest text of one value, characters. */
export const optionCharsMax = 4096;
/** Most elements of a list. */
export const optionListItemsMax = 1024;

export type OptionType =
  | 'string'
  | 'int'
  | 'bool'
  | 'duration'
  | 'enum'
  | 'ip'
  | 'prefix'
  | `list of ${string}`;

/** One option with values of type T. Made by the functions below. */
export interface Option<T> {
  readonly type: OptionType;
  /** Undefined: the option must be given. */
  readonly fallback: T | undefined;
  /** One or two sentences for help and docs; the unit where the type has none. */
  readonly description: string;
  /** Heading under which help and docs list it. */
  readonly group: string;
  /** Set by the command line alone: neither the environment nor a file may set it. */
  readonly isFlagOnly?: boolean;
  /** Letter of a flag of one letter. */
  readonly short?: string;
  /** Placeholder for the value in the help of a tool (tool.ts). Default: by the type. */
  readonly placeholder?: string;
  /** Accepted values, for people: "1..65535". May be empty. */
  readonly range: string;
  /** From a flag or the environment. The error names the fault of the value, not its origin. */
  parseText(text: string): Result<T, string>;
  /** From YAML: the type must be right, nothing is guessed. */
  parseYaml(value: unknown): Result<T, string>;
  /** Text that parseText takes. */
  format(value: T): string;
}

/** Properties that every builder takes. */
interface Described extends Pick<Option<unknown>, 'description' | 'short' | 'placeholder'> {
  /** Default none: a tool has one list of options. */
  readonly group?: string;
}

function described({ description, group = '', short, placeholder }: Described) {
  return {
    ...{ description, group },
    ...(short === undefined ? {} : { short }),
    ...(placeholder === undefined ? {} : { placeholder }),
  };
}

function yamlType(value: unknown): string {
  if (value === null || value === undefined) return 'no value';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'a map' : `a ${typeof value}`;
}

/** parseYaml for kinds that are text in YAML too. */
function textInYaml<T>(parseText: (text: string) => Result<T, string>, example: string) {
  return (value: unknown): Result<T, string> =>
    typeof value === 'string'
      ? parseText(value)
      : err(`must be text (such as ${example}), is ${yamlType(value)}: quote it`);
}

/** Accepted values, and their description. */
export interface StringPattern {
  readonly test: RegExp;
  readonly range: string;
}

export function stringOption(
  spec: Described & {
    readonly default?: string;
    /** Default: anything. */
    readonly pattern?: StringPattern;
  },
): Option<string> {
  const parseText = (text: string): Result<string, string> => {
    if (text.length > optionCharsMax) return err(`is longer than ${optionCharsMax} characters`);
    if (spec.pattern !== undefined && !spec.pattern.test.test(text)) {
      return err(`"${text}" is not ${spec.pattern.range}`);
    }
    return ok(text);
  };
  return {
    type: 'string',
    fallback: spec.default,
    ...described(spec),
    range: spec.pattern?.range ?? '',
    parseText,
    parseYaml: textInYaml(parseText, '"text"'),
    format: (value) => value,
  };
}

export function intOption(
  spec: Described & { readonly default?: number; readonly min: number; readonly max: number },
): Option<number> {
  const check = (value: number): Result<number, string> =>
    value >= spec.min && value <= spec.max
      ? ok(value)
      : err(`${value} is not in ${spec.min}..${spec.max}`);
  return {
    type: 'int',
    fallback: spec.default,
    ...described(spec),
    range: `${spec.min}..${spec.max}`,
    parseText: (text) => {
      if (/^-?\d{1,15}$/.test(text)) return check(Number(text));
      // Marks and masks are customarily hexadecimal.
      if (/^0x[0-9a-fA-F]{1,12}$/.test(text)) return check(Number(text));
      return err(`"${text}" is not a whole number`);
    },
    parseYaml: (value) =>
      typeof value === 'number' && Number.isSafeInteger(value)
        ? check(value)
        : err(`must be a whole number, is ${yamlType(value)}`),
    format: String,
  };
}

/** A value that the program finds by itself unless it is given; that is the default. */
export function autoOption<T>(item: Option<T>): Option<T | 'auto'> {
  return {
    ...item,
    fallback: 'auto',
    range: `auto or ${item.range}`,
    parseText: (text) => (text === 'auto' ? ok('auto') : item.parseText(text)),
    parseYaml: (value) => (value === 'auto' ? ok('auto') : item.parseYaml(value)),
    format: (value) => (value === 'auto' ? 'auto' : item.format(value as T)),
  };
}

export function boolOption(spec: Described & { readonly default?: boolean }): Option<boolean> {
  return {
    type: 'bool',
    fallback: spec.default,
    ...described(spec),
    range: '',
    parseText: (text) =>
      text === 'true' || text === 'false'
        ? ok(text === 'true')
        : err(`"${text}" is not true or false`),
    parseYaml: (value) =>
      typeof value === 'boolean' ? ok(value) : err(`must be true or false, is ${yamlType(value)}`),
    format: String,
  };
}

const durationUnitsMs: readonly (readonly [string, number])[] = [
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
];

/** A duration in ms as its shortest text: 90000 is "90s". */
export function formatDuration(valueMs: number): string {
  for (const [unit, unitMs] of durationUnitsMs) {
    if (valueMs % unitMs === 0 && valueMs >= unitMs) return `${valueMs / unitMs}${unit}`;
  }
  return `${valueMs}ms`;
}

/** A span of time, written "100ms", "2s", "5m", "1h"; the value is in ms. */
export function durationOption(
  spec: Described & { readonly default?: number; readonly min: number; readonly max: number },
): Option<number> {
  const range = `${formatDuration(spec.min)}..${formatDuration(spec.max)}`;
  const parseText = (text: string): Result<number, string> => {
    const match = /^(\d{1,12})(ms|s|m|h)$/.exec(text);
    if (match === null) return err(`"${text}" is not a duration such as 100ms, 2s, 5m or 1h`);
    const unitMs = durationUnitsMs.find(([unit]) => unit === match[2])?.[1] ?? 1;
    const value = Number(match[1]) * unitMs;
    return value >= spec.min && value <= spec.max ? ok(value) : err(`${text} is not in ${range}`);
  };
  return {
    type: 'duration',
    fallback: spec.default,
    ...described(spec),
    range,
    parseText,
    parseYaml: textInYaml(parseText, '2s'),
    format: formatDuration,
  };
}

export function enumOption<T extends string>(
  spec: Described & {
    readonly default?: T;
    readonly values: readonly T[];
    /** Words for values that are too many for a line. Default: all of them. */
    readonly range?: string;
  },
): Option<T> {
  const range = spec.range ?? `one of ${spec.values.join(', ')}`;
  const parseText = (text: string): Result<T, string> => {
    const value = spec.values.find((candidate) => candidate === text);
    return value === undefined ? err(`"${text}" is not ${range}`) : ok(value);
  };
  return {
    type: 'enum',
    fallback: spec.default,
    ...described(spec),
    range,
    parseText,
    parseYaml: textInYaml(parseText, spec.values[0] ?? ''),
    format: (value) => value,
  };
}

/** An address; the value is 16 bytes, IPv4 as ::ffff:a.b.c.d. */
export function ipOption(spec: Described & { readonly default?: string }): Option<Uint8Array> {
  const parseText = (text: string): Result<Uint8Array, string> => {
    const address = parseAddress(text);
    return address === null ? err(`"${text}" is not an IP address`) : ok(address);
  };
  return {
    type: 'ip',
    fallback: parseDefault(spec.default, parseText),
    ...described(spec),
    range: 'IPv4 or IPv6 address',
    parseText,
    parseYaml: textInYaml(parseText, '10.0.0.1'),
    format: (value) => formatAddress(value),
  };
}

/** An address prefix, such as 10.0.0.0/8. */
export function prefixOption(spec: Described & { readonly default?: string }): Option<Prefix> {
  const parseText = (text: string): Result<Prefix, string> => {
    const prefix = parsePrefix(text);
    return prefix === null ? err(`"${text}" is not an address prefix`) : ok(prefix);
  };
  return {
    type: 'prefix',
    fallback: parseDefault(spec.default, parseText),
    ...described(spec),
    range: 'prefix such as 10.0.0.0/8',
    parseText,
    parseYaml: textInYaml(parseText, '10.0.0.0/8'),
    format: formatPrefix,
  };
}

/** A default that is given as text. One that does not parse is a bug of the table. */
function parseDefault<T>(
  text: string | undefined,
  parseText: (text: string) => Result<T, string>,
): T | undefined {
  if (text === undefined) return undefined;
  const value = parseText(text);
  if (!value.ok) throw new TypeError(`default value: ${value.error}`);
  return value.value;
}

/** A list: in YAML a sequence, as text separated by commas. A flag may be given several times. */
export function listOption<T>(
  item: Option<T>,
  spec: { readonly default?: readonly T[]; readonly itemsMax?: number } = {},
): Option<readonly T[]> {
  const itemsMax = spec.itemsMax ?? optionListItemsMax;
  const parseAll = <U>(
    values: readonly U[],
    parse: (value: U) => Result<T, string>,
  ): Result<readonly T[], string> => {
    if (values.length > itemsMax)
      return err(`has ${values.length} items, the limit is ${itemsMax}`);
    const items: T[] = [];
    for (const value of values) {
      const parsed = parse(value);
      if (!parsed.ok) return parsed;
      items.push(parsed.value);
    }
    return ok(items);
  };
  return {
    type: `list of ${item.type}`,
    fallback: spec.default,
    ...described(item),
    range: item.range,
    parseText: (text) =>
      text === '' ? ok([]) : parseAll(text.split(','), (part) => item.parseText(part.trim())),
    parseYaml: (value) =>
      Array.isArray(value)
        ? parseAll(value, (element: unknown) => item.parseYaml(element))
        : err(`must be a list, is ${yamlType(value)}`),
    format: (values) => values.map((value) => item.format(value)).join(','),
  };
}
