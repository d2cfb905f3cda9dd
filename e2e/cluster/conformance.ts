// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Kubernetes' own specs of NetworkPolicy against Tandem on a cluster of the bed. Those of SCTP connections are left out: the
 * kernel of the bed may have no SCTP.
 */

import { execFileSync } from 'node:child_process';
import { createWriteStream, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startProcess } from '@tandem/testing/process';
import { adminKubeconfig } from './kubectl.ts';
import type { ClusterConfig, Layout } from './layout.ts';
import { importProductImages, installProduct } from './product.ts';
import { binary } from './programs.ts';
import type { Progress } from './progress.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const skipped = 'SCTPConnectivity';
/** Each spec takes 4 s when all is right, and about a minute when it is wrong. */
const timeoutMs = 5_400_000;

export interface ConformanceOptions {
  /** Only specs whose text matches; '': all. */
  readonly focus: string;
  /** Whether the result goes to docs/results. */
  readonly save: boolean;
}

interface Outcome {
  readonly spec: string;
  readonly isPassed: boolean;
  readonly seconds: number;
}

/** Gives the exit code: 0 when every spec passed. */
export async function conformance(
  layout: Layout,
  config: ClusterConfig,
  { focus, save }: ConformanceOptions,
  progress: Progress,
): Promise<number> {
  await progress.slow('importing images and installing the chart', async () => {
    await importProductImages(layout, config);
    await installProduct(layout);
  });
  const outcomes: Outcome[] = [];
  let current = '';
  const log = createWriteStream(join(layout.logs, 'conformance.log'));
  const onLine = (raw: string): void => {
    log.write(`${raw}\n`);
    // oxlint-disable-next-line no-control-regex -- ginkgo colours its report
    const line = raw.replaceAll(/\u001B\[[0-9;]*m/g, '');
    const title = /\[sig-network\] (?:Netpol|NetworkPolicy\S*) (.*)$/.exec(line)?.[1];
    if (title !== undefined && !line.startsWith('•')) current = title.trim();
    const ended = /^• (\[FAILED\] )?\[([0-9.]+) seconds\]/.exec(line);
    if (ended === null) return;
    const outcome = {
      spec: current,
      isPassed: ended[1] === undefined,
      seconds: Number(ended[2]),
    };
    outcomes.push(outcome);
    progress.say(
      `${String(outcomes.length).padStart(3)} ${outcome.isPassed ? 'passed' : 'FAILED'} ${outcome.seconds.toFixed(0)} s  ${current}`,
    );
  };
  const child = startProcess(
    'nsenter',
    [
      `--net=/run/netns/${layout.controlPlaneNetns}`,
      binary('netpol'),
      `--kubeconfig=${adminKubeconfig(layout)}`,
      ...['--provider=skeleton', '--ginkgo.v', `--ginkgo.skip=${skipped}`],
      ...(focus === '' ? [] : [`--ginkgo.focus=${focus}`]),
    ],
    { onLine, timeoutMs },
  );
  const { status } = await child.exited;
  log.end();
  const failed = outcomes.filter(({ isPassed }) => !isPassed);
  progress.say(`${outcomes.length - failed.length} of ${outcomes.length} specs passed`);
  if (save) saveResult(config, outcomes);
  return status === 0 && failed.length === 0 && outcomes.length > 0 ? 0 : 1;
}

function saveResult({ nodes, cni, proxyMode }: ClusterConfig, outcomes: readonly Outcome[]): void {
  const date = new Date().toISOString().slice(0, 10);
  const path = join(root, `docs/results/network-policy-specs-${cni}-${date}.md`);
  const commit = execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12'], {
    cwd: root,
    encoding: 'utf8',
  }).trim();
  const passed = outcomes.filter(({ isPassed }) => isPassed).length;
  const lines = [
    `# Kubernetes' NetworkPolicy specs, ${date}`,
    '',
    `Commit ${commit}, ${nodes} nodes, CNI ${cni}, kube-proxy with ${proxyMode}: ${passed} of ${outcomes.length} passed (${skipped} left out).`,
    '',
    '| spec | | seconds |',
    '|---|---|---|',
    ...outcomes.map(
      ({ spec, isPassed, seconds }) =>
        `| ${spec.replaceAll('|', '\\|')} | ${isPassed ? 'passed' : '**failed**'} | ${seconds.toFixed(1)} |`,
    ),
  ];
  writeFileSync(path, `${lines.join('\n')}\n`);
}
