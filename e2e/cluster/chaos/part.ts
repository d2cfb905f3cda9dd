// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Faults of a cluster, one after the other and two at once, drawn by a seed, for as long as is asked. */

import { atMost, type Bound, equal, noWrongAnswer, type Part, total } from '../../chaos/part.ts';
import type { RunResult } from '../../chaos/run.ts';
import type { ClusterConfig, Layout } from '../layout.ts';
import { describe } from '../up.ts';
import { clusterFaults } from './catalogue.ts';
import type { ClusterFault } from './fault.ts';
import { type DrawnFault, messageOf, rate, runOnce } from './run.ts';
import { settle } from './settle.ts';
import { ClusterStage } from './stage.ts';

/** One of so many runs has a second fault. */
const pairEvery = 3;
/** These touch no pod: they may come beside any that needs no API server. */
const seconds: readonly ClusterFault[] = clusterFaults.filter(({ subject }) =>
  ['API server', 'kubelet'].includes(subject),
);
const two = 'two at once';

export interface ClusterPartOptions {
  readonly layout: Layout;
  readonly config: ClusterConfig;
  readonly minutes: number;
}

export function clusterPart({ layout, config, minutes }: ClusterPartOptions): Part {
  return {
    name: 'cluster',
    what: `faults of a Kubernetes cluster for ${minutes} minutes: ${describe(config)}; ${rate} queries a second on each node`,
    run: async ({ seed, faults: only, progress }) => {
      const chosen = clusterFaults.filter(
        ({ name, isOnlyByName = false }) => only?.includes(name) ?? !isOnlyByName,
      );
      await using stage = await ClusterStage.start(layout, config, seed, progress);
      await settle(stage, progress);
      const begun = await stage.guarded();
      const runs: RunResult[] = [];
      const failed: string[] = [];
      const notes: string[] = [];
      /** Gives false when it could not be made: what follows could not be either. */
      const one = async (drawn: readonly DrawnFault[], round: number): Promise<boolean> => {
        const outcome = await runOnce(stage, drawn, round).catch(messageOf);
        if (typeof outcome === 'string') {
          failed.push(`a run could not be made, and none after it: ${outcome}`);
          progress(`  ${failed.at(-1)}`);
          return false;
        }
        const { result, failed: reason } = outcome;
        runs.push(result);
        if (reason !== '') failed.push(`${result.fault} ${result.victim} ${round}: ${reason}`);
        const {
          sent = 0,
          late = 0,
          lost = 0,
          wronglyRefused = 0,
          problems = [],
        } = result.direct ?? {};
        const seen = result.late + result.lost + result.wronglyRefused;
        if (seen + late + lost + wronglyRefused > 0) {
          notes.push(
            `${result.fault} ${result.victim} ${round}: of ${sent} queries of pods without policy ${late} came late, ${lost} were lost and ${wronglyRefused} had a wrong answer, which the DNS servers gave: ${[...problems.slice(0, 3), ...problems.slice(3).slice(-1)].join('; ')}`,
          );
        }
        for (const problem of [reason, ...result.problems.slice(0, 3)].filter(Boolean)) {
          progress(`  ${result.fault} ${result.victim}: ${problem}`);
        }
        return true;
      };
      progress('a control run');
      let isWell = await one([], 0);
      const startedMs = performance.now();
      const passedMinutes = (): number => (performance.now() - startedMs) / 60_000;
      const drawing = new Drawing(stage, chosen);
      while (isWell && passedMinutes() < minutes) {
        const { drawn, round } = drawing.next();
        const names = drawn.map(({ fault, node }) =>
          fault.isOfNode ? `${fault.name} n${node}` : fault.name,
        );
        progress(`${passedMinutes().toFixed(1)} of ${minutes} minutes: ${names.join(' + ')}`);
        isWell = await one(drawn, round);
      }
      if (isWell) {
        progress('a control run');
        await one([], 1);
      }
      const ended = await stage.guarded().catch(messageOf);
      if (typeof ended === 'string') failed.push(`captures: ${ended}`);
      const captured =
        typeof ended === 'string'
          ? []
          : [
              `talkers of every node: ${ended.allowed - begun.allowed} packets that policy allows were captured, ${ended.denied - begun.denied} that it denies`,
            ];
      return {
        runs,
        bounds: boundsOf(runs, failed.length),
        notes: [...captured, ...failed, ...notes],
      };
    },
  };
}

/** Every fault once, in another order in each round. */
export class Drawing {
  readonly #stage: Pick<ClusterStage, 'random' | 'nodes'>;
  readonly #all: readonly ClusterFault[];
  #left: ClusterFault[] = [];
  #round = 0;
  #runs = 0;

  constructor(stage: Pick<ClusterStage, 'random' | 'nodes'>, all: readonly ClusterFault[]) {
    this.#stage = stage;
    this.#all = all;
  }

  next(): { readonly drawn: readonly DrawnFault[]; readonly round: number } {
    const { random } = this.#stage;
    if (this.#left.length === 0) {
      this.#left = [...this.#all];
      this.#round += 1;
    }
    const [fault] = this.#left.splice(random.between(0, this.#left.length - 1), 1);
    if (fault === undefined) throw new Error('there is no fault');
    this.#runs += 1;
    const drawn = [this.#draw(fault)];
    if (this.#runs % pairEvery === 0 && fault.isAlone !== true) {
      const others = seconds.filter(({ subject }) => subject !== fault.subject);
      drawn.push(this.#draw(random.pick(others)));
    }
    return { drawn, round: this.#round };
  }

  #draw(fault: ClusterFault): DrawnFault {
    const { random, nodes } = this.#stage;
    const node = random.pick(nodes);
    const [least, most] = fault.seconds ?? [0, 0];
    return {
      fault,
      node: fault.isOfNode ? node : 1,
      holdMs: random.between(least * 1000, most * 1000),
    };
  }
}

/**
 * No more than of the pods without policy, which ask as many: a CoreDNS or a machine without a free CPU loses and delays some of
 * those, too. A query that is lost behind a member may be asked again by it, and is late then: so `late` counts both on both sides.
 */
function asDirect(runs: readonly RunResult[], kind: string, count: 'late' | 'lost'): Bound {
  const counts = count === 'late' ? (['late', 'lost'] as const) : (['lost'] as const);
  const seen = counts.reduce((sum, each) => sum + total(runs, each), 0);
  const directOf = ({ direct }: RunResult): number =>
    counts.reduce((sum, each) => sum + (direct?.[each] ?? 0), 0);
  const limit = runs.reduce((sum, run) => sum + directOf(run), 0);
  const what = { late: 'lost or later than 1 s', lost: 'lost' }[count];
  return atMost(`${kind}: ${what}, as pods without policy`, seen, limit);
}

/** Bounds that these runs must keep. */
export function boundsOf(runs: readonly RunResult[], failed: number): Bound[] {
  const isPair = ({ fault }: RunResult): boolean => fault.includes(' + ');
  const kinds = new Set(runs.map((run) => (isPair(run) ? two : run.fault)));
  const bounds = [...kinds].flatMap((kind) => {
    const own = runs.filter((run) => (kind === two ? isPair(run) : run.fault === kind));
    const isTimed = clusterFaults.some(
      ({ name, mayBeLate = false }) => name === kind && !mayBeLate,
    );
    const late = isTimed ? [asDirect(own, kind, 'late')] : [];
    return [asDirect(own, kind, 'lost'), ...noWrongAnswer(own, kind), ...late];
  });
  return [
    ...bounds,
    equal('runs after which something did not come right, or could not be judged', failed, 0),
  ];
}
