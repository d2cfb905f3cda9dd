// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A program whose arguments are all that configures it, such as those behind ./run: its table of options gives the
 * help, the errors and the values. Exit code 2: an argument is wrong; 1: it failed, or as the program says.
 *
 *   interface Options { readonly rounds: number }
 *   const tool: ToolSpec<Options> = { program: './run bench', description: '...', options: { rounds: intOption({ ... }) } };
 *   process.exitCode = await runTool(tool, async ({ rounds }) => 0);
 */

import { inspect } from 'node:util';
import { ok } from '@tandem/core/result';
import type { Option } from './config-option.ts';
import { type AnyOptions, flagName, type OptionTable, readFlags } from './flags.ts';
import { exitCodes } from './lifecycle.ts';
import { wrap } from './text-lines.ts';

export interface ToolSpec<Config> {
  /** As it is called: "./run bench". */
  readonly program: string;
  /** Purpose of the tool, for help. */
  readonly description: string;
  readonly options: OptionTable<Config>;
  /** Arguments that are no options: how they stand in the usage, and how many there may be. */
  readonly words?: { readonly usage: string; readonly max: number };
  /** Help before and after the options, as it is printed. */
  readonly before?: string;
  readonly after?: string;
}

/** An argument is wrong; the message names it, a line for each. */
export class UsageError extends Error {}

/** An option that need not be given; null without it. */
export function optional<T>(option: Option<T>): Option<T | null> {
  return {
    ...option,
    fallback: null,
    parseText: (text) => option.parseText(text),
    parseYaml: (value) => (value === null ? ok(null) : option.parseYaml(value)),
    format: (value) => (value === null ? '' : option.format(value)),
  };
}

export interface ToolArguments<Config> {
  readonly config: Config;
  readonly words: readonly string[];
}

/** Null: help is asked for. @throws UsageError that names every wrong argument. */
export function readTool<Config extends object>(
  spec: ToolSpec<Config>,
  argv: readonly string[],
): ToolArguments<Config> | null {
  const options = spec.options as unknown as AnyOptions;
  const general = { general: ['help'], wordsMax: spec.words?.max ?? 0 };
  const flags = readFlags(argv, options, general);
  if (flags.wants !== null) return null;
  const errors = [...flags.errors];
  const config: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) {
    const text = flags.values.get(name);
    if (text === undefined) {
      config[name] = option.fallback;
      if (option.fallback === undefined) errors.push(`--${flagName(name)} must be given`);
      continue;
    }
    const parsed = option.parseText(text);
    if (parsed.ok) config[name] = parsed.value;
    else errors.push(`--${flagName(name)}: ${parsed.error}`);
  }
  if (errors.length > 0) throw new UsageError(errors.join('\n'));
  return { config: config as Config, words: flags.words };
}

/**
 * Runs the program with what its arguments say. Returns the exit code; prints what it throws, with the stack
 * if it is no plain Error, because then its text was not written for users.
 */
export async function runTool<Config extends object>(
  spec: ToolSpec<Config>,
  main: (config: Config, words: readonly string[]) => number | Promise<number>,
  argv: readonly string[] = process.argv.slice(2),
): Promise<number> {
  const { program } = spec;
  try {
    const read = readTool(spec, argv);
    if (read !== null) return await main(read.config, read.words);
    process.stdout.write(toolHelp(spec));
    return exitCodes.ok;
  } catch (error) {
    if (error instanceof UsageError) {
      for (const line of error.message.split('\n')) process.stderr.write(`${program}: ${line}\n`);
      process.stderr.write(`${program} --help lists the options\n`);
      return exitCodes.usage;
    }
    const isPlain = error instanceof Error && error.constructor === Error;
    process.stderr.write(`${program}: ${isPlain ? error.message : inspect(error)}\n`);
    return exitCodes.startFailed;
  }
}

const columnMax = 24;

/** Text that `--help` prints. */
export function toolHelp<Config>({
  program,
  description,
  options,
  words,
  before = '',
  after = '',
}: ToolSpec<Config>): string {
  const rows = [
    ...Object.entries<Option<unknown>>(options).map(([name, option]) => ({
      flag: flagText(name, option),
      text: `${option.description}${remarks(option)}`,
    })),
    { flag: '-h, --help', text: 'print this' },
  ];
  const width = Math.min(columnMax, Math.max(...rows.map(({ flag }) => flag.length)) + 4);
  const usage = words === undefined ? '' : `${words.usage} `;
  let text = `usage: ${program} ${usage}[OPTIONS]\n\n${wrap(description, '')}\n`;
  if (before !== '') text += `${before}\n`;
  for (const row of rows) {
    text += wrap(row.text, ' '.repeat(width), `  ${row.flag.padEnd(width - 3)} `);
  }
  return after === '' ? text : `${text}\n${after}`;
}

function flagText(name: string, option: Option<unknown>): string {
  const short = option.short === undefined ? '' : `-${option.short}, `;
  const value = option.placeholder ?? placeholders[option.type] ?? 'A,B';
  return `${short}--${flagName(name)}${value === '' ? '' : ` ${value}`}`;
}

const placeholders: Readonly<Partial<Record<Option<unknown>['type'], string>>> = {
  string: 'TEXT',
  int: 'N',
  bool: '',
  duration: 'TIME',
  enum: 'NAME',
  ip: 'ADDRESS',
  prefix: 'PREFIX',
};

/** Choices of an option, and its default. */
function remarks(option: Option<unknown>): string {
  const { type, range, fallback } = option;
  const isChoice = type === 'enum' || type === 'list of enum';
  const parts = isChoice ? [range.replace(/^one of /, '')] : [];
  if (fallback === undefined) parts.push('required');
  else if (type !== 'bool' && option.format(fallback) !== '') {
    parts.push(`default ${option.format(fallback)}`);
  }
  return parts.length === 0 ? '' : ` (${parts.join('; ')})`;
}
