// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A part of a chaos run, and its result. */

import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release } from 'node:os';
import type { RunResult } from './run.ts';

/** 'short': in `./run test`, seconds a part. 'usual': `./run chaos`. 'full': what issues ask for. */
export type Tier = 'short' | 'usual' | 'full';

export interface ChaosOptions {
  readonly seed: number;
  readonly tier: Tier;
  /** Instead of what the tier has. */
  readonly rounds?: number;
  readonly seconds?: number;
  /** Names of faults of the catalogue; absent: all. */
  readonly faults?: readonly string[];
  readonly progress: (text: string) => void;
}

export interface Bound {
  readonly what: string;
  readonly seen: string;
  readonly limit: string;
  readonly isHeld: boolean;
}

/** Where and when a part ran; each part has its own, because reports are merged. */
export interface Facts {
  readonly date: string;
  readonly commit: string;
  readonly seed: number;
  readonly tier: Tier;
  readonly kernel: string;
  readonly cpus: number;
  /** One minute, before and after; the harness's own load is in the second. */
  readonly loadAverages: readonly [number, number];
  readonly elapsedSeconds: number;
}

export interface Outcome {
  readonly bounds: readonly Bound[];
  readonly runs: readonly RunResult[];
  /** Findings that are not numbers. */
  readonly notes?: readonly string[];
}

export interface PartResult extends Outcome {
  readonly part: string;
  readonly what: string;
  readonly facts: Facts;
}

export interface Part {
  readonly name: string;
  readonly what: string;
  run(options: ChaosOptions): Promise<Outcome>;
}

export async function runPart(part: Part, options: ChaosOptions): Promise<PartResult> {
  const started = performance.now();
  const before = oneMinuteLoad();
  const date = new Date().toISOString();
  const outcome = await part.run(options);
  const facts: Facts = {
    date,
    commit: commit(),
    seed: options.seed,
    tier: options.tier,
    kernel: release(),
    cpus: cpus().length,
    loadAverages: [before, oneMinuteLoad()],
    elapsedSeconds: Math.round((performance.now() - started) / 1000),
  };
  return { part: part.name, what: part.what, facts, ...outcome };
}

const oneMinuteLoad = (): number => Number(loadavg()[0]!.toFixed(2));

/** Commit of the tree that ran; with "+" if it has changes that are not committed. */
function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
    const isDirty = git('status', '--porcelain', '--untracked-files=no') !== '';
    return `${git('rev-parse', '--short=12', 'HEAD')}${isDirty ? '+' : ''}`;
  } catch {
    return 'unknown'; // unpacked without its history
  }
}

export function atMost(what: string, seen: number, limit: number, unit = ''): Bound {
  const text = (value: number): string => `${Number(value.toFixed(1))}${unit}`;
  return { what, seen: text(seen), limit: `at most ${text(limit)}`, isHeld: seen <= limit };
}

export function equal(what: string, seen: number, wanted: number): Bound {
  return { what, seen: String(seen), limit: String(wanted), isHeld: seen === wanted };
}

type Count = 'sent' | 'late' | 'lost' | 'wronglyAllowed' | 'wronglyRefused' | 'excused';

export const total = (runs: readonly RunResult[], count: Count): number =>
  runs.reduce((sum, run) => sum + run[count], 0);

export const worst = (values: readonly number[]): number => Math.max(0, ...values);

/** Bounds that hold for every run of every part. */
export function nothingWrong(runs: readonly RunResult[], what = ''): Bound[] {
  const prefix = prefixOf(what);
  return [equal(`${prefix}lost`, total(runs, 'lost'), 0), ...noWrongAnswer(runs, what)];
}

const prefixOf = (what: string): string => (what === '' ? '' : `${what}: `);

/** The part of it that is not about time. */
export function noWrongAnswer(runs: readonly RunResult[], what = ''): Bound[] {
  const prefix = prefixOf(what);
  return [
    equal(`${prefix}wrongly allowed`, total(runs, 'wronglyAllowed'), 0),
    equal(`${prefix}wrongly refused`, total(runs, 'wronglyRefused'), 0),
  ];
}

/** The value that `share` (0..1) of all do not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}
