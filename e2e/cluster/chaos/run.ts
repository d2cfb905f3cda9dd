// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One run: pods of every node ask, faults are done, everything comes right, and the oracle says what was wrong. */

import { setTimeout as delay } from 'node:timers/promises';
import { type AskedLoad, type Excuse, judge } from '../../chaos/oracle.ts';
import type { RunResult } from '../../chaos/run.ts';
import { type Mark, recoveryMs, timelineOf } from '../../chaos/timeline.ts';
import { monotonicMs } from '../../chaos/watch.ts';
import { nodeName } from '../layout.ts';
import { BacklogDrops } from './backlog.ts';
import { type Counters, grown, readCounters } from './counters.ts';
import { DirectTraffic } from './direct-traffic.ts';
import type { ClusterFault, FaultContext } from './fault.ts';
import { type NodeSaw, NodeTraffic, newNamesSeconds } from './node-traffic.ts';
import { settle } from './settle.ts';
import { askerOf, type ClusterStage } from './stage.ts';

/** Queries of a node per second. */
export const rate = 100;
/** With traffic, before the fault and after everything came right. */
const calmMs = 1500;
/** Queries sent so shortly before all members end may be unanswered: the upstream takes 20 ms. */
const unreadMs = 300;
/** A member that took its DNS server for unreachable tries it ten times a second. */
const tailMs = 500;
/** Answers of this last part of a run must be in the map at its end: their TTL is 60 s. */
const learnedForMs = 20_000;
const problemsMax = 20;

export interface DrawnFault {
  readonly fault: ClusterFault;
  readonly node: number;
  readonly holdMs: number;
}

export interface RunOutcome {
  readonly result: RunResult;
  /** Checks that failed or could not be made; '': none. */
  readonly failed: string;
}

/** `drawn`: at once; none: a control run. */
export async function runOnce(
  stage: ClusterStage,
  drawn: readonly DrawnFault[],
  round: number,
): Promise<RunOutcome> {
  const running = new Run(stage);
  return running.run(drawn, round);
}

class Run {
  readonly #stage: ClusterStage;
  readonly #traffic: NodeTraffic[] = [];
  readonly #direct: DirectTraffic[] = [];
  readonly #excuses: { readonly node: number; readonly excuse: Excuse }[] = [];
  readonly #marks: Mark[] = [];
  #startedMs = 0;

  constructor(stage: ClusterStage) {
    this.#stage = stage;
  }

  async run(drawn: readonly DrawnFault[], round: number): Promise<RunOutcome> {
    const stage = this.#stage;
    await using stack = new AsyncDisposableStack();
    using backlog = new BacklogDrops();
    const before = await stage.guarded();
    const counted = await this.#counters();
    await stage.upstream.takeSeen();
    this.#startedMs = monotonicMs();
    const asks = {
      rate: Math.max(...drawn.map(({ fault }) => fault.rate ?? rate), rate),
      // so that new names stay new
      seconds: Math.max(
        ...drawn.map(({ holdMs }) => holdMs / 1000 + newNamesSeconds),
        newNamesSeconds,
      ),
    };
    const start = async (node: number): Promise<void> => {
      this.#traffic.push(stack.use(await NodeTraffic.start(stage, node, asks)));
      this.#direct.push(stack.use(await DirectTraffic.start(stage, node, asks)));
    };
    await Promise.all(stage.nodes.map(start));
    await delay(calmMs);
    const faultMs = monotonicMs();
    let failed = '';
    try {
      await Promise.all(drawn.map((each) => each.fault.inject(this.#context(each))));
    } catch (error) {
      failed = messageOf(error);
    }
    const overMs = monotonicMs();
    if (drawn.length > 0) this.#mark('over');
    try {
      await settle(stage, (text) => this.#mark(text));
      this.#mark('all is well');
      const cut = this.#traffic.filter(({ isCut }) => isCut).map(({ node }) => node);
      for (const node of cut) await stage.watchAgain(node);
      await Promise.all(cut.map(start));
    } catch (error) {
      failed = [failed, messageOf(error)].filter(Boolean).join('; ');
    }
    const settledMs = monotonicMs();
    await delay(calmMs);
    const saw = await Promise.all(
      this.#traffic.map(async (each) => ({ traffic: each, saw: await each.end() })),
    );
    const asked = await Promise.all(
      saw.map(({ traffic, saw: own }) => this.#askedLoad(traffic, own)),
    );
    const direct = await Promise.all(
      this.#direct.map(async (each) => ({
        ...(await each.end()),
        asker: `a pod without policy of ${nodeName(each.node)}`,
        excuses: this.#excusesOf(each),
      })),
    );
    for (const { fault } of drawn) {
      const problem = await fault.after?.(stage).then(() => '', messageOf);
      failed = [failed, problem ?? ''].filter(Boolean).join('; ');
    }
    const after = await stage.guarded().catch((error: unknown) => messageOf(error));
    if (typeof after === 'string') failed = [failed, after].filter(Boolean).join('; ');
    const { lost, leaked } = await stage.upstream.takeSeen();
    const startedMs = this.#startedMs;
    const judgement = judge({
      ...{ startedMs, loads: asked, lostUpstream: lost, leaked, silence: [], mayNotLearn: false },
      unsent: saw.reduce((sum, { saw: { unsent } }) => sum + unsent, 0),
      escaped: typeof after === 'string' ? 0 : after.denied - before.denied,
      learned: new Set(asked.flatMap(({ learned }) => [...(learned ?? [])])),
      mayBeLearned: (address) => stage.mayBeLearned(address),
      learnedSinceMs: monotonicMs() - learnedForMs,
    });
    const without = judge({
      ...{
        startedMs,
        loads: direct,
        lostUpstream: lost,
        leaked: [],
        silence: [],
        mayNotLearn: true,
      },
      ...{ unsent: 0, escaped: 0, learned: new Set(), mayBeLearned: () => true },
      learnedSinceMs: Number.POSITIVE_INFINITY,
    });
    const broken = this.#brokenOf(saw);
    const isWell = judgement.lost + judgement.late + judgement.wronglyRefused === 0;
    const dropped = backlog.text(startedMs);
    const machine = dropped === '' ? [] : [dropped];
    const what = isWell ? [] : [this.#marksText(), ...(await this.#grownSince(counted))];
    const texts =
      typeof after === 'string' || after.denied === before.denied ? [] : after.texts.slice(-5);
    return {
      failed,
      result: {
        ...judgement,
        direct: {
          ...{ sent: without.sent, late: without.late, lost: without.lost },
          wronglyRefused: without.wronglyRefused,
          problems: [
            ...without.problems.filter((each) => /^(lost|late): | got rcode /.test(each)),
            ...(without.late + without.lost === 0 ? [] : machine),
          ],
        },
        fault: drawn.map(({ fault }) => fault.name).join(' + ') || 'none',
        victim: drawn.map(victimOf).join(' + ') || '-',
        round,
        wronglyRefused: judgement.wronglyRefused + broken.length,
        faultAtMs: Math.round(faultMs - this.#startedMs),
        evictionMs: [],
        recoveryMs: Math.round(recoveryMs(asked, faultMs)),
        restartMs: drawn.length === 0 ? [] : [Math.round(settledMs - overMs)],
        problems: [
          ...texts,
          ...broken,
          ...judgement.problems.slice(0, problemsMax / 2),
          ...(isWell ? [] : machine),
          ...what,
        ].slice(0, problemsMax),
        timeline: timelineOf(asked, this.#startedMs, this.#marks),
      },
    };
  }

  async #counters(): Promise<ReadonlyMap<number, Counters>> {
    const { nodes } = this.#stage;
    const read = nodes.map(async (node) => [node, await readCounters(this.#stage, node)] as const);
    return new Map(await Promise.all(read));
  }

  async #grownSince(before: ReadonlyMap<number, Counters>): Promise<string[]> {
    const after = await this.#counters();
    return [...after].map(
      ([node, counters]) => `${nodeName(node)}: ${grown(before.get(node) ?? new Map(), counters)}`,
    );
  }

  #mark(what: string): void {
    this.#marks.push({ atMs: Math.round(monotonicMs() - this.#startedMs), what });
  }

  #marksText(): string {
    return this.#marks.map(({ atMs, what }) => `${what} at ${atMs} ms`).join(', ');
  }

  #context({ fault, node, holdMs }: DrawnFault): FaultContext {
    this.#mark(fault.name);
    return {
      stage: this.#stage,
      node,
      mark: (what) => this.#mark(what),
      hold: async () => {
        await delay(holdMs);
      },
      excuse: async (what, nodes, work) => {
        const fromMs = monotonicMs() - unreadMs;
        try {
          await work();
        } finally {
          const excuse = { what, fromMs, toMs: monotonicMs() + (what === 'silence' ? 0 : tailMs) };
          for (const each of nodes) this.#excuses.push({ node: each, excuse });
        }
      },
      losesPower: () => {
        const nowMs = monotonicMs();
        const excuse = { what: 'silence', fromMs: nowMs - 1000, toMs: nowMs + 1000 } as const;
        this.#excuses.push({ node, excuse });
        for (const traffic of [...this.#traffic, ...this.#direct]) {
          if (traffic.node === node) traffic.cut();
        }
      },
    };
  }

  async #askedLoad({ node, isCut }: NodeTraffic, saw: NodeSaw): Promise<AskedLoad> {
    const { questions, records } = saw;
    // What a load of before the power cut learned is gone; the one after it has its own excuses: none.
    const excuses = this.#excusesOf({ node });
    const learned = isCut ? null : await this.#stage.learned(node).catch(() => null);
    return { questions, records, asker: askerOf(node), excuses, learned };
  }

  #excusesOf({ node }: { readonly node: number }): readonly Excuse[] {
    return this.#excuses.flatMap((each) => (each.node === node ? [each.excuse] : []));
  }

  /** A server ends a connection on which nothing came for five seconds: behind a cut link that may be. */
  #brokenOf(saw: readonly { readonly traffic: NodeTraffic; readonly saw: NodeSaw }[]): string[] {
    return saw.flatMap(({ traffic: { node }, saw: { broken } }) => {
      const isCut = this.#excuses.some((each) => each.node === node && each.excuse.what === 'cut');
      return isCut ? [] : broken.map((how) => `${nodeName(node)}: an open connection: ${how}`);
    });
  }
}

const victimOf = ({ fault, node }: DrawnFault): string => (fault.isOfNode ? nodeName(node) : '-');

export const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
