// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Report of a chaos run: a table on the terminal, and the JSON that is kept and merged. */

import { existsSync, readFileSync } from 'node:fs';
import { type Bound, type PartResult, total, worst } from './part.ts';
import type { RunResult } from './run.ts';

const schema = 1;

export interface Report {
  readonly schema: typeof schema;
  readonly parts: readonly PartResult[];
}

/** All runs of one fault and victim. */
export interface Group {
  readonly fault: string;
  readonly victim: string;
  readonly runs: readonly RunResult[];
}

export const isHeld = ({ parts }: Report): boolean =>
  parts.every(({ bounds }) => bounds.every((bound) => bound.isHeld));

/** Parts that ran now take the place of those in the file, which keep their own commit, seed and date. */
export function mergeInto(file: string | undefined, parts: readonly PartResult[]): Report {
  if (file === undefined || !existsSync(file)) return { schema, parts };
  const before = JSON.parse(readFileSync(file, 'utf8')) as Report;
  if (before.schema !== schema) throw new TypeError(`${file} is no report of this version`);
  const kept = before.parts.filter(({ part }) => !parts.some((now) => now.part === part));
  return { schema, parts: [...kept, ...parts] };
}

export function groupsOf(runs: readonly RunResult[]): Group[] {
  const groups = new Map<string, Group & { runs: RunResult[] }>();
  for (const run of runs) {
    const key = `${run.fault} ${run.victim}`;
    const group = groups.get(key) ?? { fault: run.fault, victim: run.victim, runs: [] };
    group.runs.push(run);
    groups.set(key, group);
  }
  return [...groups.values()];
}

export const groupHead: readonly string[] = [
  ...['fault', 'victim', 'runs', 'sent', 'answered', 'late', 'lost', 'excused'],
  ...['wrongly allowed', 'wrongly refused', 'median ms', 'worst ms'],
  ...['eviction ms', 'recovery ms', 'to LIVE ms'],
];

export function groupRow({ fault, victim, runs }: Group): string[] {
  const spread = (values: readonly number[]): string =>
    values.length === 0 ? '-' : `${Math.min(...values).toFixed(0)}..${worst(values).toFixed(0)}`;
  const medians = runs.map(({ medianMs }) => medianMs).toSorted((a, b) => a - b);
  return [
    ...[fault, victim, String(runs.length)],
    ...[total(runs, 'sent'), runs.reduce((sum, { answered }) => sum + answered, 0)].map(String),
    ...[total(runs, 'late'), total(runs, 'lost'), total(runs, 'excused')].map(String),
    ...[total(runs, 'wronglyAllowed'), total(runs, 'wronglyRefused')].map(String),
    (medians[Math.floor(medians.length / 2)] ?? 0).toFixed(1),
    worst(runs.map(({ worstMs }) => worstMs)).toFixed(1),
    spread(runs.flatMap(({ evictionMs }) => evictionMs)),
    spread(runs.map(({ recoveryMs }) => recoveryMs)),
    spread(runs.flatMap(({ restartMs }) => restartMs)),
  ];
}

export const boundRow = ({ what, seen, limit, isHeld: held }: Bound): string[] => [
  held ? 'held' : 'BROKEN',
  what,
  seen,
  limit,
];

export function factsLine({ facts }: PartResult): string {
  const { date, commit, seed, tier, kernel, cpus, loadAverages, elapsedSeconds } = facts;
  return (
    `commit ${commit}, seed ${seed}, ${tier}, ${date.slice(0, 16)}Z, ${elapsedSeconds} s, ` +
    `load average ${loadAverages.join(' to ')}, ${cpus} CPUs, Linux ${kernel}`
  );
}

/** First problems of each run that had any. */
export function problemsOf({ runs, notes = [] }: PartResult): string[] {
  const wrong = runs.flatMap(({ fault, victim, round, problems }) =>
    problems.slice(0, 5).map((problem) => `${fault} ${victim} ${round}: ${problem}`),
  );
  return [...notes, ...wrong].slice(0, 30);
}

export function textOf(part: PartResult): string {
  const lines = [`${part.part}: ${part.what}`, `  ${factsLine(part)}`];
  if (part.runs.length > 0) lines.push('', ...table(groupHead, groupsOf(part.runs).map(groupRow)));
  lines.push('', ...table(['', 'bound', 'seen', 'limit'], part.bounds.map(boundRow)));
  lines.push(...problemsOf(part).map((problem) => `  ${problem}`));
  return lines.join('\n');
}

function table(head: readonly string[], rows: readonly string[][]): string[] {
  const widths = head.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `  ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join('  ')}`.trimEnd();
  return [line(head), ...rows.map(line)];
}
