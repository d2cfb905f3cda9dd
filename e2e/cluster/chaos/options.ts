// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The command line of ./run chaos --cluster. */

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { ClusterConfig } from '../layout.ts';
import {
  clusterOptions,
  clusterOptionsHelp,
  count,
  oneOf,
  readConfig,
  UsageError,
} from '../options.ts';
import { clusterFaults } from './catalogue.ts';

const seedMax = 2 ** 32 - 1;
const minutesMax = 600;

export const help: string = `usage: ./run chaos --cluster [OPTIONS]

Members, nodes, API server, CoreDNS, node-local caches and kubelets of a Kubernetes in namespaces (./run cluster) are killed, hung and
cut off, while pods of every node ask and connect. Brings the cluster up if none of the name is; it stays. Ends with 0 only when every
bound held.

  --minutes N           default 10; the run that is begun then is brought to its end
  --seed N              what is chosen: faults, victims, times, names; default 1. The same seed, the same order
  --fault A,B           only these: see --list
  -o, --output FORMAT   text, or json: the report on standard output, everything else on standard error
  --json FILE           the results
  --html FILE           a page with a plot of each run
  --save                both and the text, as docs/results/chaos-cluster-CNI-DATE
  --list                faults, and what may fail under each

${clusterOptionsHelp}`;

export interface CommandLine {
  readonly action: 'run' | 'help' | 'list';
  readonly config: ClusterConfig;
  readonly minutes: number;
  readonly seed: number;
  readonly faults: readonly string[] | undefined;
  readonly isJson: boolean;
  readonly jsonFile: string | undefined;
  readonly htmlFile: string | undefined;
  readonly textFile: string | undefined;
}

/** @throws UsageError that names the option which is wrong. */
export function readCommandLine(args: readonly string[], date: string): CommandLine {
  const values = parse(args);
  const config = readConfig(values);
  const faults = values.fault?.split(',');
  const unknown = faults?.find((name) => !clusterFaults.some((fault) => fault.name === name));
  if (unknown !== undefined) throw new UsageError(`--fault: there is no fault ${unknown}`);
  const saved = fileURLToPath(
    new URL(`../../../docs/results/chaos-cluster-${config.cni}-${date}`, import.meta.url),
  );
  return {
    action: values.help ? 'help' : values.list ? 'list' : 'run',
    config,
    minutes: count('--minutes', values.minutes, minutesMax),
    seed: count('--seed', values.seed, seedMax),
    faults,
    isJson: oneOf(['text', 'json'] as const, '--output', values.output) === 'json',
    jsonFile: values.json ?? (values.save ? `${saved}.json` : undefined),
    htmlFile: values.html ?? (values.save ? `${saved}.html` : undefined),
    textFile: values.save ? `${saved}.md` : undefined,
  };
}

function parse(args: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ...clusterOptions,
        cluster: { type: 'boolean', default: false },
        minutes: { type: 'string', default: '10' },
        seed: { type: 'string', default: '1' },
        fault: { type: 'string' },
        output: { type: 'string', short: 'o', default: 'text' },
        json: { type: 'string' },
        html: { type: 'string' },
        save: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

export function listText(): string {
  const rows = clusterFaults.map(({ name, what, isOfNode, seconds }) => {
    const lasts = seconds === undefined ? '' : `, ${seconds.join(' to ')} s`;
    return `  ${name.padEnd(20)} ${isOfNode ? 'of a node' : 'of the cluster'}${lasts}: ${what}`;
  });
  return `Under none of them does a packet pass that policy denies, or a denied name get an address.\n\n${rows.join('\n')}\n`;
}
