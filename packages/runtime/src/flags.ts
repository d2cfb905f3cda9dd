// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Arguments of a program by its table of options: --name value, --name=value, -n value, --name and --no-name of a
 * switch. A list may be given several times. Nothing is guessed, and every wrong argument is an error, so that a
 * program says all of them at once. What the values mean is the options' own (config-option.ts).
 */

import { parseArgs } from 'node:util';
import type { Option } from './config-option.ts';
import { nearestName } from './nearest-name.ts';

/** An option for each field of a configuration. Names are camelCase. */
export type OptionTable<Config> = { readonly [Name in keyof Config]: Option<Config[Name]> };

/** `OptionTable` of any configuration. */
export type AnyOptions = Readonly<Record<string, Option<unknown>>>;

/** "fqdnGraceSeconds" as a flag: "fqdn-grace-seconds". */
export function flagName(option: string): string {
  return option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** Flags that every program of a kind has beside its own table. */
export interface GeneralFlags {
  /** "help" and "version" are switches; another one takes a text. */
  readonly general: readonly string[];
  /** Most arguments that are no options. */
  readonly wordsMax: number;
}

export interface Flags {
  /** Texts by option or general flag, unchecked. */
  readonly values: ReadonlyMap<string, string>;
  readonly words: readonly string[];
  /** Wins over every error. */
  readonly wants: 'help' | 'version' | null;
  readonly errors: readonly string[];
}

const switches: readonly string[] = ['help', 'version'];

/** Reads the arguments that follow a program's name. */
export function readFlags(
  argv: readonly string[],
  options: AnyOptions,
  { general, wordsMax }: GeneralFlags,
): Flags {
  const byFlag = new Map(Object.keys(options).map((option) => [flagName(option), option]));
  const errors: string[] = [];
  const words: string[] = [];
  const values = new Map<string, string>();
  const wanted = new Set<string>();
  const hint = wordsMax === 0 ? ': options are given as --name value' : '';
  const unexpected = (argument: string): void => {
    errors.push(`unexpected argument "${argument}"${hint}`);
  };

  /** False: there is no such flag. */
  const readOption = (name: string, given: string | undefined): boolean => {
    let option = byFlag.get(name);
    let value = given;
    if (switches.includes(name) && general.includes(name)) {
      if (given === undefined) wanted.add(name);
      else errors.push(`flag --${name} takes no value`);
      return true;
    }
    if (option !== undefined && options[option]?.type === 'bool') value ??= 'true';
    if (option === undefined && value === undefined && name.startsWith('no-')) {
      const positive = byFlag.get(name.slice('no-'.length));
      if (positive !== undefined && options[positive]?.type === 'bool') {
        [option, value] = [positive, 'false'];
      }
    }
    if (option === undefined && !general.includes(name)) {
      const nearest = nearestName(name, [...byFlag.keys(), ...general]);
      errors.push(`unknown flag --${name}; the nearest is --${nearest}`);
      return false;
    }
    if (value === undefined) {
      errors.push(`flag --${name} needs a value`);
    } else {
      const key = option ?? name;
      const isList = options[key]?.type.startsWith('list of ') === true;
      const earlier = isList ? values.get(key) : undefined;
      values.set(key, earlier === undefined ? value : `${earlier},${value}`);
    }
    return true;
  };

  const { tokens } = parseArgs({
    args: [...argv],
    options: parserOptions(byFlag, options, general),
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  // The value of an unknown flag, and the rest of an argument such as -xyz, are said no second time.
  let passedOver = -1;
  for (const token of tokens) {
    const { index } = token;
    const argument = argv[index] as string;
    if (token.kind === 'positional') {
      if (words.length < wordsMax && index !== passedOver) words.push(token.value);
      else if (index !== passedOver) unexpected(argument);
    } else if (token.kind === 'option-terminator') {
      if (wordsMax === 0) unexpected(argument);
    } else if (token.rawName.startsWith('--') || token.rawName !== `-${token.name}`) {
      const { name, value } = token;
      const hasValue = value !== undefined || argv[index + 1]?.startsWith('-') === true;
      if (!readOption(name, value) && !hasValue) passedOver = index + 1;
    } else if (index !== passedOver) {
      unexpected(argument);
      passedOver = index;
    }
  }
  const wants = wanted.has('help') ? 'help' : wanted.has('version') ? 'version' : null;
  return { values, words, wants, errors };
}

function parserOptions(
  byFlag: ReadonlyMap<string, string>,
  options: AnyOptions,
  general: readonly string[],
): Record<string, { type: 'boolean' | 'string'; short?: string }> {
  const made: Record<string, { type: 'boolean' | 'string'; short?: string }> = {};
  for (const name of general) {
    made[name] = { type: switches.includes(name) ? 'boolean' : 'string' };
  }
  if (general.includes('help')) made['help'] = { type: 'boolean', short: 'h' };
  for (const [flag, name] of byFlag) {
    const { type, short } = options[name] as Option<unknown>;
    made[flag] = {
      type: type === 'bool' ? 'boolean' : 'string',
      ...(short === undefined ? {} : { short }),
    };
  }
  return made;
}
