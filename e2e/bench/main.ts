// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ./run bench: what a query costs, beside other forwarders, interleaved in one run so that the machine's
 * mood hits all alike, and what a packet costs in BPF. Absolutes mean little on a shared machine; read
 * the ratios.
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  boolOption,
  enumOption,
  intOption,
  listOption,
  stringOption,
} from '@tandem/runtime/config-option';
import { optional, runTool, type ToolSpec } from '@tandem/runtime/tool';
import { ownPrefix } from '@tandem/testing/namespace';
import type { TestNode } from '@tandem/testing/netns';
import { keepAwake } from './awake.ts';
import { journalCost } from './journal-cost.ts';
import { lastPackets } from './last-packets.ts';
import { type LoadSettings, measure, type Sample } from './load-run.ts';
import { nodeFigures } from './node-figures.ts';
import { packetCosts } from './packet-cost.ts';
import { type PolicyCost, policyCost, policyTables } from './policy/policy-cost.ts';
import {
  type ComparedTables,
  factLines,
  type Measured,
  markdown,
  type PartCosts,
  packetTable,
  policyPage,
  queryTable,
  type RunFacts,
  summarise,
  tcpTable,
} from './report.ts';
import {
  missingPrograms,
  nameOf,
  type Subject,
  type SubjectSpec,
  sameProcesses,
  startPeers,
  startTandem,
  subjectSpecs,
} from './subjects.ts';
import { lastTargets, targetsOf, targetTable } from './targets.ts';

const resultsDirectory = fileURLToPath(new URL('../../docs/results', import.meta.url));
const namesCount = 1000;
const warmUpSeconds = 2;

interface Arguments {
  readonly json: string | null;
  readonly markdown: string | null;
  readonly save: boolean;
  readonly rounds: number;
  readonly seconds: number;
  readonly rate: number;
  readonly only: readonly string[] | null;
  readonly skipLarge: boolean;
  readonly skipTcp: boolean;
  readonly skipUdp: boolean;
  readonly skipPackets: boolean;
  readonly skipNode: boolean;
  readonly skipPolicy: boolean;
  readonly policy: boolean;
  readonly changes: number;
  readonly churn: number;
}

const off = (description: string) => boolOption({ description, default: false });
const count = (description: string, fallback: number) =>
  intOption({ description, default: fallback, min: 1, max: 10_000_000 });
const fileOption = (description: string) =>
  optional(stringOption({ description, placeholder: 'FILE' }));

const tool: ToolSpec<Arguments> = {
  program: './run bench',
  description:
    'What a query costs, beside other DNS forwarders, and what a packet costs in BPF; read the ratios.',
  options: {
    json: fileOption('write the results of queries, packets and targets as JSON'),
    markdown: fileOption('write all results as a page'),
    save: off('write both to docs/results/bench-DATE'),
    rounds: count('interleaved rounds', 7),
    seconds: count('length of one measurement', 3),
    rate: count('queries per second of the fixed rate', 2000),
    only: optional(
      listOption(
        enumOption({
          description: 'subjects by name',
          values: [...new Set(subjectSpecs.map(({ name }) => name))],
        }),
      ),
    ),
    skipLarge: off('leave out 10,000 patterns'),
    skipTcp: off('leave out TCP'),
    skipUdp: off('leave out UDP'),
    skipPackets: off('leave out the BPF programs and the journal alone'),
    skipNode: off('leave out the reconciliation, and rules that are deleted by hand'),
    skipPolicy: off('leave out compilation in a large cluster'),
    policy: off('nothing but compilation in a large cluster'),
    changes: count('changes of each kind there', 200),
    churn: count('seconds of a hundred changes a second there', 60),
  },
};

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly rate: number;
  readonly specs: readonly SubjectSpec[];
  readonly hasPackets: boolean;
  readonly hasNode: boolean;
  readonly hasPolicy: boolean;
  readonly isPolicyAlone: boolean;
  readonly changes: number;
  readonly churnSeconds: number;
  readonly jsonFile: string | undefined;
  readonly markdownFile: string | undefined;
}

function chosen(values: Arguments, date: string): Options {
  const { rounds, seconds, rate, changes, only } = values;
  const saved = join(resultsDirectory, `bench-${date}`);
  return {
    ...{ rounds, seconds, rate, changes },
    specs: subjectSpecs.filter(
      ({ name, patterns, transport }) =>
        !values.policy &&
        (only?.includes(name) ?? true) &&
        !(values.skipLarge && patterns === 10_000) &&
        !(values.skipTcp && transport !== 'udp') &&
        !(values.skipUdp && transport === 'udp'),
    ),
    hasPackets: !values.skipPackets && !values.policy,
    hasNode: !values.skipNode && !values.policy,
    hasPolicy: !values.skipPolicy,
    isPolicyAlone: values.policy,
    churnSeconds: values.churn,
    jsonFile: values.json ?? (values.save ? `${saved}.json` : undefined),
    markdownFile: values.markdown ?? (values.save ? `${saved}.md` : undefined),
  };
}

/** One line that is overwritten, on a terminal; elsewhere lines. */
function progress(text: string): void {
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${text}` : `${text}\n`);
}

async function startSubjects(specs: readonly SubjectSpec[], nodes: TestNode[]): Promise<Subject[]> {
  progress('starting the peers');
  const subjects = await startPeers(specs, nodes);
  for (const spec of specs) {
    if (!spec.name.startsWith('tandem')) continue;
    progress(`starting ${titleOf(spec)}`);
    subjects.push(sameProcesses(spec, subjects) ?? (await startTandem(spec, nodes)));
  }
  return subjects;
}

function titleOf({ name, patterns, processes, transport }: SubjectSpec): string {
  const title = patterns === 0 ? name : `${name}, ${patterns} patterns, ${processes} process(es)`;
  return `${title}, ${transport}`;
}

/** Each round begins with another subject, so that none always follows the same one. */
async function measureAll(
  subjects: readonly Subject[],
  rounds: number,
  settings: LoadSettings,
): Promise<Measured[]> {
  const samples = new Map<Subject, Sample[]>(subjects.map((subject) => [subject, []]));
  for (let round = 0; round <= rounds; round++) {
    for (let i = 0; i < subjects.length; i++) {
      const subject = subjects[(i + round) % subjects.length] as Subject;
      const isWarmUp = round === 0;
      progress(
        `${isWarmUp ? 'warm-up' : `round ${round} of ${rounds}`}, ${i + 1} of ${subjects.length}: ${titleOf(subject)}`,
      );
      const seconds = isWarmUp ? Math.min(warmUpSeconds, settings.seconds) : settings.seconds;
      const sample = await measure(subject, { ...settings, seconds });
      if (!isWarmUp) samples.get(subject)?.push(sample);
    }
  }
  return subjects.map((subject) => summarise(subject, samples.get(subject) ?? []));
}

async function run(options: Options, date: string): Promise<void> {
  const { rounds, seconds, rate, specs } = options;
  const loads = [oneMinuteLoad()];
  const parts: PartCosts = { packets: [], journal: null, node: null, policies: [] };
  if (options.hasPackets) {
    progress('BPF programs');
    parts.packets = await packetCosts();
    progress('journal');
    parts.journal = await journalCost();
  }
  if (options.hasNode) {
    progress('the agent on a node');
    parts.node = await nodeFigures();
  }
  if (options.hasPolicy) parts.policies = await policyCosts(options);
  if (options.isPolicyAlone) return reportPolicy(options, date, parts);
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}bench-`));
  const nodes: TestNode[] = [];
  let measured: Measured[];
  try {
    const namesFile = join(directory, 'names');
    writeFileSync(namesFile, Array.from({ length: namesCount }, (_, i) => nameOf(i)).join('\n'));
    const subjects = await startSubjects(specs, nodes);
    loads.push(oneMinuteLoad());
    await using _awake = await keepAwake();
    measured = await measureAll(subjects, rounds, { seconds, rate, namesFile });
  } finally {
    for (const node of nodes) await node[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  }
  loads.push(oneMinuteLoad());
  progress('');
  report(options, { date, rounds, seconds, rate, loadAverages: loads }, measured, parts);
}

async function policyCosts({ changes, churnSeconds }: Options): Promise<PolicyCost[]> {
  const costs: PolicyCost[] = [];
  for (const size of ['tenth', 'whole', 'dual'] as const) {
    progress(`policy of a large cluster: ${size}`);
    costs.push(await policyCost(size, changes, size === 'whole' ? churnSeconds : 0));
  }
  progress('');
  return costs;
}

function reportPolicy({ jsonFile, markdownFile }: Options, date: string, parts: PartCosts): void {
  console.log(policyTables(parts.policies));
  if (jsonFile !== undefined) write(jsonFile, `${JSON.stringify(parts.policies, null, 2)}\n`);
  if (markdownFile !== undefined) write(markdownFile, policyPage(date, parts.policies));
}

function oneMinuteLoad(): number {
  return loadavg()[0]!;
}

function report(
  { jsonFile, markdownFile }: Options,
  facts: RunFacts,
  measured: readonly Measured[],
  parts: PartCosts,
): void {
  const { packets, policies } = parts;
  const targets = targetsOf(measured, parts);
  const tables: ComparedTables = {
    targets: targetTable(targets, lastTargets(resultsDirectory, facts.date)),
    packets:
      packets.length === 0 ? '' : packetTable(packets, lastPackets(resultsDirectory, facts.date)),
  };
  const lines = [
    ...factLines(facts),
    '',
    queryTable(measured),
    '',
    tcpTable(measured),
    '',
    tables.targets,
  ];
  if (tables.packets !== '') lines.push('', tables.packets);
  if (policies.length > 0) lines.push('', policyTables(policies));
  console.log(lines.join('\n'));
  if (jsonFile !== undefined) {
    const results = measured.map(({ result }) => result);
    write(jsonFile, `${JSON.stringify({ results, packets, targets }, null, 2)}\n`);
  }
  if (markdownFile !== undefined) write(markdownFile, markdown(facts, measured, policies, tables));
}

function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  console.log(`written: ${file}`);
}

async function main(values: Arguments): Promise<number> {
  const date = new Date().toISOString().slice(0, 10);
  const options = chosen(values, date);
  const missing = await missingPrograms(options.specs);
  if (missing.length > 0) {
    process.stderr.write(
      `bench: ${missing.join(', ')} not installed: ./run bench installs them, or leave them out with --only\n`,
    );
    return 2;
  }
  await run(options, date);
  return 0;
}

process.exitCode = await runTool(tool, main);
