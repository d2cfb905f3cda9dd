// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The command line of ./run chaos. */

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parts } from './catalogue.ts';
import type { Part, Tier } from './part.ts';
import { faults } from './parts/faults.ts';

const defaultSeed = 1;

export const help: string = `usage: ./run chaos [OPTIONS]

Breaks one process, both, or what they need, under a load of which every right answer is known. Ends with
0 only when every bound held.

  --full          as often and as long as is asked of Tandem: about 45 minutes
  --seed N        what is chosen: victims, times, names; default ${defaultSeed}. The same seed, the same run.
  --only A,B      parts by name: ${parts.map(({ name }) => name).join(', ')}
  --fault A,B     of the part "faults" only these: see --list
  --rounds N      of each fault, instead of the usual number
  --seconds N     length of one run, instead of the usual one
  --json FILE     the results; parts that FILE has and that do not run now stay in it
  --html FILE     a page with a plot of each run
  --save          both, as docs/results/chaos-DATE
  --list          parts and faults, and what cannot be had
  --cluster       instead: faults of a Kubernetes in namespaces; --cluster --help says more
`;

export interface CommandLine {
  readonly action: 'run' | 'help' | 'list';
  readonly parts: readonly Part[];
  readonly tier: Tier;
  readonly seed: number;
  readonly faults: readonly string[] | undefined;
  readonly rounds: number | undefined;
  readonly seconds: number | undefined;
  readonly jsonFile: string | undefined;
  readonly htmlFile: string | undefined;
}

/** A wrong option is an error with its name. */
export function readCommandLine(args: readonly string[], date: string): CommandLine {
  const { values } = parseArgs({
    args: [...args],
    options: {
      full: { type: 'boolean', default: false },
      seed: { type: 'string', default: String(defaultSeed) },
      only: { type: 'string' },
      fault: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      json: { type: 'string' },
      html: { type: 'string' },
      save: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const only = values.only?.split(',');
  checkNames('--only: there is no part', only, parts);
  const chosenFaults = values.fault?.split(',');
  checkNames('--fault: there is no fault', chosenFaults, faults);
  const saved = fileURLToPath(new URL(`../../docs/results/chaos-${date}`, import.meta.url));
  return {
    action: values.help ? 'help' : values.list ? 'list' : 'run',
    parts: parts.filter(
      ({ name }) => only?.includes(name) ?? (chosenFaults === undefined || name === 'faults'),
    ),
    tier: values.full ? 'full' : 'usual',
    seed: integer('seed', values.seed, 0, 0xffffffff),
    faults: chosenFaults,
    rounds: values.rounds === undefined ? undefined : integer('rounds', values.rounds, 1, 1000),
    seconds: values.seconds === undefined ? undefined : integer('seconds', values.seconds, 2, 3600),
    jsonFile: values.json ?? (values.save ? `${saved}.json` : undefined),
    htmlFile: values.html ?? (values.save ? `${saved}.html` : undefined),
  };
}

function checkNames(
  problem: string,
  names: readonly string[] | undefined,
  known: readonly { readonly name: string }[],
): void {
  const unknown = names?.find((name) => !known.some((item) => item.name === name));
  if (unknown !== undefined) throw new TypeError(`${problem} ${unknown}`);
}

function integer(name: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new TypeError(`--${name} must be a whole number from ${low} to ${high}, not ${text}`);
}
