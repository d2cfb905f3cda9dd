// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The command line of ./run chaos. */

import { fileURLToPath } from 'node:url';
import {
  boolOption,
  enumOption,
  intOption,
  listOption,
  stringOption,
} from '@tandem/runtime/config-option';
import { optional, type ToolSpec } from '@tandem/runtime/tool';
import { parts } from './catalogue.ts';
import type { Part, Tier } from './part.ts';
import { faults } from './parts/faults.ts';

export interface ChaosArguments {
  readonly full: boolean;
  readonly seed: number;
  readonly only: readonly string[] | null;
  readonly fault: readonly string[] | null;
  readonly rounds: number | null;
  readonly seconds: number | null;
  readonly json: string | null;
  readonly html: string | null;
  readonly save: boolean;
  readonly list: boolean;
  readonly cluster: boolean;
}

export const chaosTool: ToolSpec<ChaosArguments> = {
  program: './run chaos',
  description:
    'Breaks one process, both, or what they need, under a load of which every right answer is known. Ends with 0 only when every bound held.',
  options: {
    full: boolOption({
      description: 'as often and as long as is asked of Tandem: about 45 minutes',
      default: false,
    }),
    seed: intOption({
      description: 'what is chosen: victims, times, names. The same seed, the same run.',
      ...{ default: 1, min: 0, max: 0xffffffff },
    }),
    only: optional(
      listOption(
        enumOption({ description: 'parts by name', values: parts.map(({ name }) => name) }),
      ),
    ),
    fault: optional(
      listOption(
        enumOption({
          description: 'of the part "faults" only these',
          values: faults.map(({ name }) => name),
          range: 'a fault of --list',
        }),
      ),
    ),
    rounds: optional(
      intOption({ description: 'of each fault, instead of the usual number', min: 1, max: 1000 }),
    ),
    seconds: optional(
      intOption({ description: 'length of one run, instead of the usual one', min: 2, max: 3600 }),
    ),
    json: optional(
      stringOption({
        placeholder: 'FILE',
        description: 'the results; parts that FILE has and that do not run now stay in it',
      }),
    ),
    html: optional(
      stringOption({ placeholder: 'FILE', description: 'a page with a plot of each run' }),
    ),
    save: boolOption({ description: 'both, as docs/results/chaos-DATE', default: false }),
    list: boolOption({ description: 'parts and faults, and what cannot be had', default: false }),
    cluster: boolOption({
      description: 'instead: faults of a Kubernetes in namespaces; --cluster --help says more',
      default: false,
    }),
  },
};

export interface ChaosRun {
  readonly parts: readonly Part[];
  readonly tier: Tier;
  readonly seed: number;
  readonly faults: readonly string[] | undefined;
  readonly rounds: number | undefined;
  readonly seconds: number | undefined;
  readonly jsonFile: string | undefined;
  readonly htmlFile: string | undefined;
}

export function chosenRun(values: ChaosArguments, date: string): ChaosRun {
  const { only, fault, rounds, seconds } = values;
  const saved = fileURLToPath(new URL(`../../docs/results/chaos-${date}`, import.meta.url));
  return {
    // Naming a fault is enough to choose its part.
    parts: parts.filter(
      ({ name }) => only?.includes(name) ?? (fault === null || name === 'faults'),
    ),
    tier: values.full ? 'full' : 'usual',
    seed: values.seed,
    faults: fault ?? undefined,
    rounds: rounds ?? undefined,
    seconds: seconds ?? undefined,
    jsonFile: values.json ?? (values.save ? `${saved}.json` : undefined),
    htmlFile: values.html ?? (values.save ? `${saved}.html` : undefined),
  };
}
