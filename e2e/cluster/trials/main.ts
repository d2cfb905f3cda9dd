// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The trials by name, and what is written down of one. */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ClusterConfig, Layout } from '../layout.ts';
import { describe } from '../up.ts';
import { apiAway, apiCut } from './api-away.ts';
import { burst } from './burst.ts';
import { churn } from './churn.ts';
import { controller } from './controller.ts';
import { bothFamilies } from './families.ts';
import { gateFaults } from './gate-faults.ts';
import { localDns } from './local-dns.ts';
import { monitoring } from './monitoring.ts';
import { reboot } from './reboot.ts';
import { sources } from './sources.ts';
import { tiers } from './tiers.ts';
import { Trial } from './trial.ts';
import { uninstall } from './uninstall.ts';
import { upgrade } from './upgrade.ts';
import { upgradeFrom } from './upgrade-from.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

export const trialNames = [
  'burst',
  'gate',
  'reboot',
  'sources',
  'tiers',
  'families',
  'api-away',
  'api-cut',
  'churn',
  'upgrade',
  'upgrade-from',
  'uninstall',
  'local-dns',
  'monitoring',
  'controller',
] as const;
export type TrialName = (typeof trialNames)[number];

export interface TrialOptions {
  readonly pods: number;
  readonly minutes: number;
  readonly seed: number;
  readonly rounds: number;
  /** A commit of this repository; '': none. */
  readonly from: string;
  /** Whether what was seen goes to docs/results. */
  readonly save: boolean;
}

const runs: Readonly<Record<TrialName, (trial: Trial, options: TrialOptions) => Promise<void>>> = {
  burst: (trial, { pods }) => burst(trial, pods),
  gate: (trial) => gateFaults(trial),
  reboot: (trial) => reboot(trial),
  sources: (trial) => sources(trial),
  tiers: (trial) => tiers(trial),
  families: (trial) => bothFamilies(trial),
  'api-away': (trial, { minutes }) => apiAway(trial, minutes),
  'api-cut': (trial, { minutes }) => apiCut(trial, minutes),
  churn: (trial, { minutes, seed }) => churn(trial, minutes, seed),
  upgrade: (trial, { rounds }) => upgrade(trial, rounds),
  'upgrade-from': (trial, { from, rounds }) => upgradeFrom(trial, from, rounds),
  uninstall: (trial) => uninstall(trial),
  'local-dns': (trial) => localDns(trial),
  monitoring: (trial) => monitoring(trial),
  controller: (trial) => controller(trial),
};

/** These install Tandem themselves. */
const startsEmpty: readonly TrialName[] = ['uninstall', 'controller', 'upgrade-from'];

/** On a cluster that is up. Gives the exit code: 0 when each step held. */
export async function runTrial(
  layout: Layout,
  config: ClusterConfig,
  name: TrialName,
  options: TrialOptions,
): Promise<number> {
  // of what is installed, whatever the checkout is when the trial is over
  const begun = { commit: commitOf(), load: load() };
  const isInstalled = !startsEmpty.includes(name);
  await using trial = await Trial.begin(layout, config, isInstalled);
  await runs[name](trial, options);
  const { steps } = trial;
  process.stdout.write(`\n${steps.summary()}\n`);
  if (options.save) save(name, config, [...steps.lines, '', steps.summary()], begun);
  return steps.failed === 0 ? 0 : 1;
}

const load = (): string => readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ');

const commitOf = (): string =>
  execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12'], {
    cwd: root,
    encoding: 'utf8',
  }).trim();

function save(
  name: TrialName,
  config: ClusterConfig,
  steps: readonly string[],
  begun: { readonly commit: string; readonly load: string },
): void {
  const date = new Date().toISOString().slice(0, 10);
  const lines = [
    `# Trial ${name}, ${date}`,
    '',
    `Commit ${begun.commit}; ${describe(config)}; load average before ${begun.load}, after ${load()}.`,
    ...['', '```', ...steps.slice(1), '```'],
  ];
  const path = join(root, `docs/results/trial-${name}-${config.cni}-${date}.md`);
  writeFileSync(path, `${lines.join('\n')}\n`);
}
