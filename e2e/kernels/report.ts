// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Report on the kernels' runs: as expected or not, one line each, and the page for docs/results. */

import { execFileSync } from 'node:child_process';
import { loadavg } from 'node:os';
import type { KernelSpec } from './kernels.ts';
import type { GuestFacts, TestResult } from './results.ts';

export interface KernelRun {
  readonly spec: KernelSpec;
  readonly release: string;
  readonly version: string;
  /** It powered off by itself, in time. */
  readonly ended: boolean;
  readonly seconds: number;
  /** Null: the guest got no further. */
  readonly facts: GuestFacts | null;
  readonly tests: readonly TestResult[];
}

/** Without these the agent ends at its start, and `tandem doctor` names them. */
const needed = ['tcx_link', 'netfilter_link'];

/** The lines by which `tandem doctor` refuses a node without the feature: the reason and the fix; null: it says nothing of it. */
export function refusalOf(feature: string, text: string): string | null {
  const check = `kernel-${feature.replaceAll('_', '-')}`;
  return new RegExp(`^fail +${check} .*\\n +fix: .*6\\.6.*$`, 'm').exec(text)?.[0] ?? null;
}

export function isAsExpected({ spec, ended, facts, tests }: KernelRun): boolean {
  if (!ended || facts === null) return false;
  if (spec.expected === 'refused') {
    return (
      facts.doctor.code === 1 &&
      needed.every(
        (name) =>
          facts.missing.some((missing) => missing.name === name) &&
          refusalOf(name, facts.doctor.text) !== null,
      )
    );
  }
  return (
    facts.missing.length === 0 &&
    facts.objectError === '' &&
    facts.programs.every(({ isAccepted }) => isAccepted) &&
    tests.length > 0 &&
    tests.every(({ outcome }) => outcome !== 'failed')
  );
}

function count(tests: readonly TestResult[], outcome: TestResult['outcome']): number {
  return tests.filter((test) => test.outcome === outcome).length;
}

export function summary(run: KernelRun): string {
  const verdict = isAsExpected(run) ? 'as expected' : 'NOT as expected';
  const { facts, tests } = run;
  if (facts === null) return `${verdict}: the guest came to no result`;
  const accepted = facts.programs.filter(({ isAccepted }) => isAccepted).length;
  return [
    `${verdict} (${run.spec.expected})${run.ended ? '' : ', ended after its time'}`,
    `${accepted} of ${facts.programs.length} programs accepted`,
    `${facts.missing.length} features missing`,
    `tests: ${count(tests, 'passed')} passed, ${count(tests, 'failed')} failed, ${count(tests, 'skipped')} skipped`,
  ].join('; ');
}

export function markdown(runs: readonly KernelRun[]): string {
  const commit = execFileSync(
    'git',
    ['describe', '--always', '--dirty= with changes', '--abbrev=12'],
    { encoding: 'utf8' },
  ).trim();
  const date = new Date().toISOString().slice(0, 10);
  return [
    `# Kernels, ${date}`,
    '',
    `- commit ${commit}, node ${process.version}, qemu in software emulation (TCG), 2 CPUs, 1.5 GiB`,
    `- load average of the machine after the runs: ${loadavg()
      .map((load) => load.toFixed(1))
      .join(', ')}`,
    '- kernels are packages of Debian; again: `./run test --kernels --save`',
    '',
    '| kernel | package | expected | found | programs accepted | tests passed | failed | skipped | seconds |',
    '|---|---|---|---|---|---|---|---|---|',
    ...runs.map(row),
    '',
    '## The verifier',
    '',
    ...verifierTable(runs),
    '',
    ...runs.flatMap(details),
  ].join('\n');
}

function row(run: KernelRun): string {
  const { spec, facts, tests } = run;
  const accepted = facts?.programs.filter(({ isAccepted }) => isAccepted).length ?? 0;
  const cells = [
    run.release,
    `${run.version} (${spec.suite})`,
    `${spec.expected}: ${spec.why}`,
    isAsExpected(run) ? 'as expected' : '**not as expected**',
    `${accepted} of ${facts?.programs.length ?? 0}`,
    count(tests, 'passed'),
    count(tests, 'failed'),
    count(tests, 'skipped'),
    `${Math.round(run.seconds)}${run.ended ? '' : ', ended'}`,
  ];
  return `| ${cells.join(' | ')} |`;
}

/** Instructions that the verifier walked for each program, per kernel. */
function verifierTable(runs: readonly KernelRun[]): string[] {
  const known = runs.filter(({ facts }) => facts !== null);
  const names = [...new Set(known.flatMap(({ facts }) => facts?.programs.map(({ name }) => name)))];
  const cell = (run: KernelRun, name: string | undefined): string => {
    const program = run.facts?.programs.find((one) => one.name === name);
    if (program === undefined) return '-';
    return program.isAccepted ? `${program.instructions}` : 'refused';
  };
  return [
    `| instructions walked | ${known.map(({ release }) => release).join(' | ')} |`,
    `|---|${known.map(() => '---').join('|')}|`,
    ...names.map((name) => `| \`${name}\` | ${known.map((run) => cell(run, name)).join(' | ')} |`),
  ];
}

function details({ release, facts, tests }: KernelRun): string[] {
  const lines: string[] = [];
  for (const { name, reason } of facts?.missing ?? []) lines.push(`- \`${name}\` ${reason}`);
  const refusals = needed.flatMap((name) => refusalOf(name, facts?.doctor.text ?? '') ?? []);
  if (refusals.length > 0)
    lines.push('- `tandem doctor --preflight`:', '', ...fenced(refusals.join('\n')), '');
  const refused = facts?.programs.filter(({ isAccepted }) => !isAccepted) ?? [];
  for (const [reason, programs] of Map.groupBy(refused, (program) => program.reason)) {
    const names = programs.map(({ name }) => `\`${name}\``).join(', ');
    lines.push(`- ${names} refused:`, '', ...fenced(reason), '');
  }
  for (const { file, name, error } of tests.filter(({ outcome }) => outcome === 'failed')) {
    lines.push(`- ${file}, "${name}" failed:`, '', ...fenced(error), '');
  }
  const files = [...new Set(tests.map(({ file }) => file))];
  for (const file of files) {
    const own = tests.filter((test) => test.file === file);
    lines.push(`- ${file}: ${count(own, 'passed')} of ${own.length} passed`);
  }
  return lines.length === 0 ? [] : [`## ${release}`, '', ...lines, ''];
}

function fenced(text: string): string[] {
  return ['  ```', ...text.split('\n').map((line) => `  ${line}`), '  ```'];
}
