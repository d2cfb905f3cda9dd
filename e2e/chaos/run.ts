// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One run: a load, a fault in the middle of it, and what the oracle says of it afterwards. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { learnedAddresses } from '../kit/learned.ts';
import { type RunningLoad, startLoad } from '../kit/load.ts';
import { isFiller, type Question } from './names.ts';
import { type AskedLoad, type Interval, type Judgement, judge } from './oracle.ts';
import { readRecords } from './records.ts';
import { loadPods, type Stage } from './stage.ts';
import { type Mark, recoveryMs, type Timeline, timelineOf } from './timeline.ts';
import { upstreamAddress } from './upstream.ts';
import { type Eviction, MemberWatch, monotonicMs } from './watch.ts';

/** A query that has no answer by then is lost; pods ask again after 2.5 to 5 seconds. */
export const answerTimeoutMs = 5000;
const knocksPerSecond = 100;
/** One of so many answers is used at once, by a connection. */
const connectEvery = 8;
/** Answers of this last part of a run must be in the map at its end: their TTL is 60 s. */
const learnedForMs = 30_000;
const socketsPerPod = 16;

export interface RunSpec {
  readonly fault: string;
  readonly victim: string;
  readonly round: number;
  /** Queries per second of all pods. */
  readonly rate: number;
  /** The load's length; or as long as the fault takes, and at most so long. */
  readonly seconds: number;
  readonly untilDone?: boolean;
  readonly faultAtMs: number;
  /** Addresses may find no room in the map. */
  readonly mayNotLearn?: boolean;
  /** Before the load starts; undone after the run. */
  readonly prepare?: () => Promise<AsyncDisposable>;
  readonly inject: (context: RunContext) => Promise<unknown>;
}

/** Argument of a fault while the load runs. */
export interface RunContext {
  readonly stage: Stage;
  /** Notes a moment, for the timeline. */
  mark(what: string): void;
  /**
   * From here to the end of `work` no process can run: silence is right. Also for what was sent within
   * `unreadMs` before: it may lie unread in a socket, and dies with it.
   */
  silent<T>(unreadMs: number, work: () => Promise<T>): Promise<T>;
  /** From a start to LIVE, milliseconds. */
  restarted(ms: number): void;
}

export interface RunResult extends Omit<Judgement, 'problems'> {
  readonly fault: string;
  readonly victim: string;
  readonly round: number;
  readonly faultAtMs: number;
  /** From the victim's last beat until the survivor stood in, each time that it did. */
  readonly evictionMs: readonly number[];
  /** From the fault to the answer of the last slow query; 0: none was slow. */
  readonly recoveryMs: number;
  /** From starts of processes to LIVE. */
  readonly restartMs: readonly number[];
  /** Result of pods that no policy selects and that ask the same at the same time; on a cluster alone. */
  readonly direct?: Pick<Judgement, 'sent' | 'late' | 'lost' | 'wronglyRefused' | 'problems'>;
  /** SYNs to an address that was not learned; on a cluster talkers send, and are not counted. */
  readonly knocks?: number;
  readonly problems: readonly string[];
  readonly timeline: Timeline;
}

interface StartedLoad {
  readonly questions: readonly Question[];
  readonly recordsFile: string;
  readonly load: RunningLoad;
}

export async function run(stage: Stage, spec: RunSpec): Promise<RunResult> {
  await using stack = new AsyncDisposableStack();
  await stage.settle();
  if (spec.prepare !== undefined) stack.use(await spec.prepare());
  await stage.upstream.takeSeen();
  using watch = new MemberWatch(stage.tandem);
  const startedMs = monotonicMs();
  const loads = loadPods.map((pod) => startPodLoad(stage, pod, spec, stack));
  stage.gate.knock(knocksPerSecond);
  const context = new Context(stage, startedMs);
  await delay(spec.faultAtMs);
  const faultMs = monotonicMs();
  context.mark(spec.fault);
  await spec.inject(context);
  if (spec.untilDone === true) for (const { load } of loads) load.end();
  const results = await Promise.all(loads.map(({ load }) => load.result));
  const { knocks, escaped } = await stage.gate.count();
  const asked = loads.map(({ questions, recordsFile }): AskedLoad => {
    const records = readRecords(recordsFile);
    rmSync(recordsFile);
    return { questions, records };
  });
  const { lost, leaked } = await stage.upstream.takeSeen();
  const judgement = judge({
    loads: asked,
    unsent: results.reduce((sum, { sendFailed }) => sum + sendFailed, 0),
    lostUpstream: lost,
    leaked,
    escaped,
    learned: learnedBy(stage),
    mayNotLearn: spec.mayNotLearn ?? false,
    mayBeLearned: (address) => stage.names.mayBeLearned(address),
    learnedSinceMs: monotonicMs() - learnedForMs,
    silence: context.silence,
  });
  const evictions = watch.evictions();
  const { fault, victim, round } = spec;
  return {
    fault,
    victim,
    round,
    ...judgement,
    faultAtMs: Math.round(faultMs - startedMs),
    evictionMs: evictions.map(({ sinceLastBeatMs }) => tenths(sinceLastBeatMs)),
    recoveryMs: tenths(recoveryMs(asked, faultMs)),
    restartMs: context.restartMs.map(tenths),
    knocks,
    problems: judgement.problems,
    timeline: timelineOf(asked, startedMs, [...context.marks, ...marksOf(evictions, startedMs)]),
  };
}

function startPodLoad(
  stage: Stage,
  pod: string,
  spec: RunSpec,
  stack: AsyncDisposableStack,
): StartedLoad {
  const rate = spec.rate / loadPods.length;
  const questions = stage.names.take(Math.ceil(rate * (spec.seconds + 1)));
  const namesFile = join(stage.directory, `names-${pod}`);
  const recordsFile = join(stage.directory, `records-${pod}`);
  writeFileSync(namesFile, questions.map(({ name }) => `${name}\n`).join(''));
  const load = stack.use(
    startLoad(stage.standard.node.pod(pod).namespace, {
      server: upstreamAddress,
      rate,
      seconds: spec.seconds,
      timeoutMs: answerTimeoutMs,
      sockets: socketsPerPod,
      namesFile,
      recordsFile,
      connectEvery,
    }),
  );
  return { questions, recordsFile, load };
}

/** Entries of the map of learned addresses, without those with which a fault filled it. */
function learnedBy({ tandem }: Stage): Set<string> {
  return new Set([...learnedAddresses(tandem).keys()].filter((address) => !isFiller(address)));
}

function marksOf(evictions: readonly Eviction[], startedMs: number): Mark[] {
  return evictions.map(({ atMs, victim }) => ({
    atMs: Math.round(atMs - startedMs),
    what: `${victim} left out`,
  }));
}

const tenths = (ms: number): number => Math.round(ms * 10) / 10;

class Context implements RunContext {
  readonly stage: Stage;
  readonly #startedMs: number;
  readonly marks: Mark[] = [];
  readonly silence: Interval[] = [];
  readonly restartMs: number[] = [];

  constructor(stage: Stage, startedMs: number) {
    this.stage = stage;
    this.#startedMs = startedMs;
  }

  mark(what: string): void {
    this.marks.push({ atMs: Math.round(monotonicMs() - this.#startedMs), what });
  }

  async silent<T>(unreadMs: number, work: () => Promise<T>): Promise<T> {
    const fromMs = monotonicMs() - unreadMs;
    try {
      return await work();
    } finally {
      this.silence.push({ fromMs, toMs: monotonicMs() });
    }
  }

  restarted(ms: number): void {
    this.restartMs.push(ms);
    this.mark('serves again');
  }
}
