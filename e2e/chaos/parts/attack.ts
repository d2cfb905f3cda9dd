// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One pod attacks with all it has (threats T1, T13): messages made to be expensive, slow TCP connections,
 * garbage. The other pods' p99 stays under three times what it is without, and no member is left out.
 */

import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { encodeQuestion, withLength } from '@tandem/testing/dns-query';
import { concatBytes } from '@tandem/testing/packet';
import { Probe, type Stream } from '@tandem/testing/probe';
import { KEPT_DATA } from '@tandem/testing/probe-types';
import { goOn } from '../../kit/attack.ts';
import { clusterDns4 } from '../../kit/standard-node.ts';
import {
  atMost,
  type ChaosOptions,
  equal,
  nothingWrong,
  type Outcome,
  type Part,
  quantile,
} from '../part.ts';
import { type RunResult, run } from '../run.ts';
import { loadPods, Stage } from '../stage.ts';
import { upstreamAddress } from '../upstream.ts';

const rate = 500;
const garbagePerSecond = 1000;
const slowConnections = 200;
const bombsAtOnce = 4;
const timesIdleMax = 3;
/** After the end of an attack, for what it has under way. */
const endMs = 5000;
const roundsByTier = { short: 1, usual: 2, full: 6 } as const;
const secondsByTier = { short: 2, usual: 4, full: 6 } as const;
const port = 53;

/** 64 KB over TCP: a question of pointers, each to the one before. */
function pointerBomb(): Uint8Array {
  const header = encodeQuestion({ server: clusterDns4, name: 'a.test' }).subarray(0, 12);
  const chain = new Uint8Array(65_535 - header.length);
  for (let at = 0; at + 1 < chain.length; at += 2) {
    const target = Math.max(12, 12 + at - 2) & 0x3fff;
    chain[at] = 0xc0 | (target >> 8);
    chain[at + 1] = target & 255;
  }
  return withLength(concatBytes([header, chain]));
}

/** All of it at once, until `signal`. */
class Attack {
  readonly #stage: Stage;
  readonly #signal: AbortSignal;
  bombs = 0;
  slow = 0;
  garbage = 0;

  constructor(stage: Stage, signal: AbortSignal) {
    this.#stage = stage;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    await using stack = new AsyncDisposableStack();
    const { namespace } = this.#stage.standard.node.pod('attacker');
    const probe = (): Probe => stack.use(Probe.start(namespace));
    const bomb = pointerBomb();
    const bombers = Array.from({ length: bombsAtOnce }, () => this.#throwBombs(probe(), bomb));
    const all = Promise.all([
      ...bombers,
      this.#holdConnections(probe()),
      this.#sendGarbage(probe()),
    ]);
    // What still waits for a connection that is held open ends with its probe.
    await Promise.race([all, this.#overdue()]);
    all.catch(() => undefined);
  }

  async #overdue(): Promise<void> {
    if (!this.#signal.aborted) await once(this.#signal, 'abort');
    await delay(endMs, undefined, { ref: false });
  }

  async #throwBombs(probe: Probe, data: Uint8Array): Promise<void> {
    // The attack is to be the pod's, not the harness's: it has the same CPUs as who is attacked.
    await probe.keep(data);
    const bomb = { to: clusterDns4, port, data: KEPT_DATA, messages: 1, timeoutMs: 500 };
    while (!this.#signal.aborted) {
      await probe.tcp(bomb).catch(goOn);
      this.bombs += 1;
    }
  }

  /** Each sends one byte of a length and waits until it is thrown out; then all come again. */
  async #holdConnections(probe: Probe): Promise<void> {
    const opening = { to: clusterDns4, port, data: Uint8Array.of(0), timeoutMs: 1000 };
    while (!this.#signal.aborted) {
      const streams: Stream[] = [];
      for (let i = 0; i < slowConnections && !this.#signal.aborted; i++) {
        const stream = await probe.connect(opening).catch(goOn);
        if (stream !== null) streams.push(stream);
        this.slow += 1;
      }
      const end = { untilEnd: true, timeoutMs: 1000 };
      await Promise.all(streams.map((stream) => stream.exchange(end).catch(goOn)));
      for (const stream of streams) await stream.close({ reset: true });
    }
  }

  async #sendGarbage(probe: Probe): Promise<void> {
    const { random } = this.#stage;
    while (!this.#signal.aborted) {
      const data = Uint8Array.from({ length: random.between(1, 400) }, () =>
        random.between(0, 255),
      );
      const count = garbagePerSecond / 10;
      const flood = { to: upstreamAddress, port, data, count, rate: garbagePerSecond };
      this.garbage += (await probe.blast(flood)).sent;
    }
  }
}

async function runAttack(options: ChaosOptions): Promise<Outcome> {
  const { seed, tier, progress } = options;
  const rounds = options.rounds ?? roundsByTier[tier];
  const seconds = options.seconds ?? secondsByTier[tier];
  await using stage = await Stage.start({
    seed,
    purpose: 'attack',
    pods: [{ name: 'attacker' }],
    labelled: ['attacker'],
  });
  const one = (fault: string, round: number): Promise<RunResult> =>
    run(stage, {
      ...{ fault, victim: loadPods.join(' '), round, rate, seconds },
      ...{ faultAtMs: 0, inject: async () => undefined },
    });
  progress('warming up');
  await one('idle', 0);
  const runs: RunResult[] = [];
  const sums = { bombs: 0, slow: 0, garbage: 0 };
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round} of ${rounds}`);
    runs.push(await one('idle', round));
    const over = new AbortController();
    const attack = new Attack(stage, over.signal);
    const attacking = attack.run();
    // An attack that fails is reported at the end of its round, when nothing else runs any more.
    attacking.catch(() => undefined);
    try {
      runs.push(await one('attack', round));
    } finally {
      over.abort();
      await attacking;
    }
    sums.bombs += attack.bombs;
    sums.slow += attack.slow;
    sums.garbage += attack.garbage;
  }
  return outcomeOf(runs, sums);
}

function outcomeOf(
  runs: readonly RunResult[],
  { bombs, slow, garbage }: Pick<Attack, 'bombs' | 'slow' | 'garbage'>,
): Outcome {
  const attacked = runs.filter(({ fault }) => fault === 'attack');
  const p99 = (fault: string): number =>
    quantile(
      runs.filter((one) => one.fault === fault).map(({ p99Ms }) => p99Ms),
      0.5,
    );
  const evictions = attacked.reduce((sum, { evictionMs }) => sum + evictionMs.length, 0);
  return {
    runs,
    bounds: [
      ...nothingWrong(attacked),
      atMost(
        `p99 of the others, to ${p99('idle').toFixed(1)} ms idle`,
        p99('attack') / p99('idle'),
        timesIdleMax,
        'x',
      ),
      equal('members left out', evictions, 0),
    ],
    notes: [`${bombs} bombs, ${slow} slow connections, ${garbage} datagrams of garbage`],
  };
}

export const attack: Part = {
  name: 'attack',
  what: 'one pod attacks with bombs, slow connections and garbage while four others ask',
  run: runAttack,
};
