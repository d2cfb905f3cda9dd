// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Suites of upstream against Tandem on a cluster of the bed. */

import { execFileSync } from 'node:child_process';
import { createWriteStream, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startProcess } from '@tandem/testing/process';
import { type Outcome, type Suite, type SuiteName, suites } from './conformance-suites.ts';
import { adminKubeconfig } from './kubectl.ts';
import type { ClusterConfig, Layout } from './layout.ts';
import { importProductImages, installProduct } from './product.ts';
import { binary } from './programs.ts';
import type { Progress } from './progress.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Each spec takes 4 s when all is right, and about a minute when it is wrong. */
const timeoutMs = 5_400_000;

export interface ConformanceOptions {
  /** Only specs whose text matches; '': all. */
  readonly focus: string;
  readonly suite: SuiteName;
  /** Whether the result goes to docs/results. */
  readonly save: boolean;
}

/** Gives the exit code: 0 when every spec passed. */
export async function conformance(
  layout: Layout,
  config: ClusterConfig,
  { focus, suite: suiteName, save }: ConformanceOptions,
  progress: Progress,
): Promise<number> {
  const suite = suites[suiteName];
  await progress.slow('importing images and installing the chart', async () => {
    await importProductImages(layout, config);
    await installProduct(layout);
    await suite.prepare?.(layout);
  });
  const outcomes: Outcome[] = [];
  const log = createWriteStream(join(layout.logs, `conformance-${suiteName}.log`));
  const reportFile = join(layout.logs, `conformance-${suiteName}.yaml`);
  rmSync(reportFile, { force: true });
  const read = suite.reader();
  const onLine = (line: string): void => {
    log.write(`${line}\n`);
    const outcome = read(line);
    if (outcome === null) return;
    outcomes.push(outcome);
    const { spec, result, seconds } = outcome;
    const word = result === 'failed' ? 'FAILED' : result;
    progress.say(`${String(outcomes.length).padStart(3)} ${word} ${seconds.toFixed(0)} s  ${spec}`);
  };
  const child = startProcess(
    'nsenter',
    [
      `--net=/run/netns/${layout.controlPlaneNetns}`,
      binary(suite.program),
      `--kubeconfig=${adminKubeconfig(layout)}`,
      ...suite.args(focus, reportFile),
    ],
    { onLine, timeoutMs },
  );
  const { status } = await child.exited;
  log.end();
  progress.say(`${summary(outcomes)}; exit code ${status}`);
  if (save) saveResult(suite, config, outcomes, reportFile);
  const specsMin = focus === '' ? suite.specsMin : 1;
  if (outcomes.length < specsMin)
    progress.say(`${outcomes.length} specs ended, of at least ${specsMin}: some were not run`);
  const isConformant =
    outcomes.length >= specsMin && outcomes.every(({ result }) => result !== 'failed');
  return status === 0 && isConformant ? 0 : 1;
}

function summary(outcomes: readonly Outcome[]): string {
  const count = (wanted: Outcome['result']): number =>
    outcomes.filter(({ result }) => result === wanted).length;
  const skipped = count('skipped');
  const more = skipped === 0 ? '' : `, ${skipped} skipped`;
  return `${count('passed')} of ${outcomes.length - skipped} specs passed${more}`;
}

function saveResult(
  { title, fileName, leftOut }: Suite,
  { nodes, cni, proxyMode }: ClusterConfig,
  outcomes: readonly Outcome[],
  reportFile: string,
): void {
  const date = new Date().toISOString().slice(0, 10);
  const path = join(root, `docs/results/${fileName}-${cni}-${date}.md`);
  const commit = execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12'], {
    cwd: root,
    encoding: 'utf8',
  }).trim();
  const without = leftOut === '' ? '' : ` (left out: ${leftOut})`;
  const report = existsSync(reportFile)
    ? ['', 'Report of the suite:', '', '```yaml', readFileSync(reportFile, 'utf8').trim(), '```']
    : [];
  const lines = [
    `# ${title}, ${date}`,
    '',
    `Commit ${commit}, ${nodes} nodes, CNI ${cni}, kube-proxy with ${proxyMode}: ${summary(outcomes)}${without}.`,
    '',
    '| spec | | seconds |',
    '|---|---|---|',
    ...outcomes.map(({ spec, result, seconds }) => {
      const word = result === 'failed' ? '**failed**' : result;
      return `| ${spec.replaceAll('|', '\\|')} | ${word} | ${seconds.toFixed(1)} |`;
    }),
    ...report,
  ];
  writeFileSync(path, `${lines.join('\n')}\n`);
}
