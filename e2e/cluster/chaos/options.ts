// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The command line of ./run chaos --cluster. */

import { fileURLToPath } from 'node:url';
import {
  boolOption,
  enumOption,
  intOption,
  listOption,
  stringOption,
} from '@tandem/runtime/config-option';
import { optional, type ToolSpec } from '@tandem/runtime/tool';
import type { ClusterConfig } from '../layout.ts';
import { type ClusterArguments, clusterConfig, clusterOptions } from '../options.ts';
import { clusterFaults } from './catalogue.ts';

const seedMax = 2 ** 32 - 1;
const minutesMax = 600;

export interface ClusterChaosArguments extends ClusterArguments {
  readonly minutes: number;
  readonly seed: number;
  readonly fault: readonly string[] | null;
  readonly output: 'text' | 'json';
  readonly json: string | null;
  readonly html: string | null;
  readonly save: boolean;
  readonly list: boolean;
  readonly cluster: boolean;
}

export const clusterChaosTool: ToolSpec<ClusterChaosArguments> = {
  program: './run chaos --cluster',
  description:
    'Members, nodes, API server, CoreDNS, node-local caches and kubelets of a Kubernetes in namespaces (./run cluster) are killed, hung and cut off, while pods of every node ask and connect. Brings the cluster up if none of the name is; it stays. Ends with 0 only when every bound held.',
  options: {
    minutes: intOption({
      description: 'the run that is begun then is brought to its end',
      ...{ default: 10, min: 1, max: minutesMax },
    }),
    seed: intOption({
      description: 'what is chosen: faults, victims, times, names. The same seed, the same order',
      ...{ default: 1, min: 1, max: seedMax },
    }),
    fault: optional(
      listOption(
        enumOption({
          description: 'only these',
          values: clusterFaults.map(({ name }) => name),
          range: 'a fault of --list',
        }),
      ),
    ),
    output: enumOption({
      ...{ short: 'o', placeholder: 'FORMAT', values: ['text', 'json'] as const, default: 'text' },
      description:
        'of the report on standard output; with json everything else is on standard error',
    }),
    json: optional(stringOption({ placeholder: 'FILE', description: 'the results' })),
    html: optional(
      stringOption({ placeholder: 'FILE', description: 'a page with a plot of each run' }),
    ),
    save: boolOption({
      description:
        'both and the text, as docs/results/chaos-cluster-CNI-DATE; of one fault alone with its name',
      default: false,
    }),
    list: boolOption({ description: 'faults, and what may fail under each', default: false }),
    cluster: boolOption({
      description: 'this program instead of the faults of one node',
      default: false,
    }),
    ...clusterOptions,
  },
};

export interface ClusterChaosRun {
  readonly config: ClusterConfig;
  readonly minutes: number;
  readonly seed: number;
  readonly faults: readonly string[] | undefined;
  readonly isJson: boolean;
  readonly jsonFile: string | undefined;
  readonly htmlFile: string | undefined;
  readonly textFile: string | undefined;
}

/** @throws UsageError of options that do not go together. */
export function chosenRun(values: ClusterChaosArguments, date: string): ClusterChaosRun {
  const config = clusterConfig(values);
  const [only, ...more] = values.fault ?? [];
  // A run of one fault is not the day's run of all.
  const about = only === undefined || more.length > 0 ? '' : `-${only.replaceAll(' ', '-')}`;
  const name = `chaos-cluster${about}-${config.cni}-${date}`;
  const saved = fileURLToPath(new URL(`../../../docs/results/${name}`, import.meta.url));
  return {
    config,
    minutes: values.minutes,
    seed: values.seed,
    faults: values.fault ?? undefined,
    isJson: values.output === 'json',
    jsonFile: values.json ?? (values.save ? `${saved}.json` : undefined),
    htmlFile: values.html ?? (values.save ? `${saved}.html` : undefined),
    textFile: values.save ? `${saved}.md` : undefined,
  };
}

export function listText(): string {
  const rows = clusterFaults.map(({ name, what, isOfNode, seconds }) => {
    const lasts = seconds === undefined ? '' : `, ${seconds.join(' to ')} s`;
    return `  ${name.padEnd(20)} ${isOfNode ? 'of a node' : 'of the cluster'}${lasts}: ${what}`;
  });
  return `Under none of them does a packet pass that policy denies, or a denied name get an address.\n\n${rows.join('\n')}\n`;
}
