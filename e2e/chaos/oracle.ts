// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Knows the right answer and the right datapath state of each query of a run, and says what was not so.
 * Pure: what was seen goes in, a judgement comes out.
 */

import type { Question } from './names.ts';
import type { QueryRecord } from './records.ts';

const rcodes = { noError: 0, servFail: 2, refused: 5 } as const;
/** An answer that takes longer counts as late. */
const lateMs = 1000;
/** Late answers that are named: where they are allowed they are many, and what is wrong must be named beside them. */
const lateNotesMax = 3;
const problemsMax = 20;

/** One load: the list that it was given and what became of it. */
export interface AskedLoad {
  readonly questions: readonly Question[];
  readonly records: readonly QueryRecord[];
  /** Outcomes that the queries of this load may have, beside `silence`. */
  readonly excuses?: readonly Excuse[];
  /** Name of the client, for texts about its queries. */
  readonly asker?: string;
  /** Addresses that its node has learned, instead of `Seen.learned`; null: not known, because the node has lost its power. */
  readonly learned?: ReadonlySet<string> | null;
}

/** Times are CLOCK_MONOTONIC milliseconds. */
export interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * Failures that queries sent in the interval may have. `silence`: no member can be alive, so any query may stay without answer.
 * `resolver`: the DNS server cannot be reached, so queries for allowed names may stay without answer, while queries for denied
 * names are refused. `cut`: nothing leaves the node, so a connection may fail too.
 */
export interface Excuse extends Interval {
  readonly what: 'silence' | 'resolver' | 'cut';
}

export interface Seen {
  readonly loads: readonly AskedLoad[];
  /** CLOCK_MONOTONIC milliseconds from which the times of problems are counted. Default: 0. */
  readonly startedMs?: number;
  /** Queries that could not be sent: an ICMP error came back, which pods must never see. */
  readonly unsent: number;
  /** Names that the upstream was told not to answer, at least once. */
  readonly lostUpstream: ReadonlySet<string>;
  /** Denied names that reached the upstream. */
  readonly leaked: readonly string[];
  /** Packets to addresses that were not learned, that got out of the node. */
  readonly escaped: number;
  /** Addresses of the kernel's map of learned addresses, after the run. */
  readonly learned: ReadonlySet<string>;
  /** Addresses may have found no room: then they need not be reachable. */
  readonly mayNotLearn: boolean;
  readonly mayBeLearned: (address: string) => boolean;
  /** Answers from then on must be in `learned`; older ones may have made room. */
  readonly learnedSinceMs: number;
  /** While no member can be alive silence is right: a query of that time may stay without answer. */
  readonly silence: readonly Interval[];
}

export interface Judgement {
  readonly sent: number;
  readonly answered: number;
  readonly late: number;
  readonly lost: number;
  /** Without answer, or SERVFAIL, and rightly so: the upstream had none, or no process could run. */
  readonly excused: number;
  readonly wronglyAllowed: number;
  readonly wronglyRefused: number;
  readonly connections: number;
  /** Median time of the answers, in ms. */
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly worstMs: number;
  /** The first of what was wrong, in words. */
  readonly problems: readonly string[];
}

const isWithin = ({ fromMs, toMs }: Interval, atMs: number): boolean =>
  atMs >= fromMs && atMs <= toMs;

class Judge {
  readonly #seen: Seen;
  readonly #latencies: number[] = [];
  /** Load whose queries are judged. */
  #load: AskedLoad = { questions: [], records: [] };
  readonly problems: string[] = [];
  #lateNotes = 0;
  sent = 0;
  late = 0;
  lost = 0;
  excused = 0;
  wronglyAllowed = 0;
  wronglyRefused = 0;
  connections = 0;

  constructor(seen: Seen) {
    this.#seen = seen;
    for (const load of seen.loads) {
      const { questions, records } = load;
      for (const record of records) {
        const question = questions[record.number];
        if (question === undefined) throw new RangeError(`no question ${record.number}`);
        this.#load = load;
        this.#query(question, record);
      }
    }
    this.#rest();
  }

  #query(question: Question, record: QueryRecord): void {
    this.sent += 1;
    if (record.latencyMs === null) {
      if (this.#isExcused(question, record)) this.excused += 1;
      else this.#count('lost', `lost: ${this.#which(question, record)}`);
      return;
    }
    this.#latencies.push(record.latencyMs);
    if (record.latencyMs > lateMs && !this.#isExcused(question, record)) {
      this.late += 1;
      if (this.#lateNotes++ < lateNotesMax) {
        const took = `${record.latencyMs.toFixed(0)} ms`;
        this.#note(`late: ${this.#which(question, record)}, ${took}`);
      }
    }
    if (question.kind === 'denied') this.#denied(question, record);
    else this.#allowed(question, record);
  }

  #which({ name }: Question, { sentMs }: QueryRecord): string {
    const { asker = '' } = this.#load;
    const at = (sentMs - (this.#seen.startedMs ?? 0)).toFixed(0);
    return `${name}, sent at ${at} ms${asker === '' ? '' : ` by ${asker}`}`;
  }

  #denied({ name }: Question, { rcode, address }: QueryRecord): void {
    if (rcode === rcodes.refused && address === null) return;
    if (address !== null) this.#count('wronglyAllowed', `${name} is denied and got ${address}`);
    else this.#count('wronglyRefused', `${name} got rcode ${rcode} instead of REFUSED`);
  }

  #allowed(question: Question, record: QueryRecord): void {
    const { name, address } = question;
    if (record.rcode === rcodes.servFail && this.#isExcused(question, record)) {
      this.excused += 1;
      return;
    }
    if (record.rcode !== rcodes.noError || record.address !== address) {
      const got = `rcode ${record.rcode}, ${record.address ?? 'no address'}`;
      this.#count('wronglyRefused', `${name} got ${got} instead of ${address}`);
      return;
    }
    if (this.#seen.mayNotLearn) return;
    if (record.connection !== 'none') this.connections += 1;
    if (record.connection === 'failed' && !this.#isIn(record.sentMs, ['cut'])) {
      this.#count('wronglyRefused', `${name}: the first SYN to ${address} did not get through`);
    }
    const { learnedSinceMs } = this.#seen;
    const { learned = this.#seen.learned } = this.#load;
    if (learned !== null && record.sentMs >= learnedSinceMs && !learned.has(address)) {
      this.#count('wronglyRefused', `${name}: ${address} is not in the map`);
    }
  }

  #rest(): void {
    const { unsent, leaked, escaped, learned, mayBeLearned } = this.#seen;
    this.lost += unsent;
    if (unsent > 0) this.#note(`${unsent} queries could not be sent`);
    for (const name of leaked) this.#count('wronglyAllowed', `${name} reached the upstream`);
    this.wronglyAllowed += escaped;
    if (escaped > 0) this.#note(`${escaped} packets to an address never learned got out`);
    for (const address of learned) {
      if (!mayBeLearned(address)) {
        this.#count('wronglyAllowed', `${address} is in the map, and no policy wants it`);
      }
    }
  }

  #isExcused({ name, kind }: Question, { sentMs }: QueryRecord): boolean {
    if (kind !== 'denied' && this.#seen.lostUpstream.has(name)) return true;
    if (this.#seen.silence.some((interval) => isWithin(interval, sentMs))) return true;
    return this.#isIn(sentMs, kind === 'denied' ? ['silence'] : ['silence', 'resolver', 'cut']);
  }

  #isIn(sentMs: number, kinds: readonly Excuse['what'][]): boolean {
    const { excuses = [] } = this.#load;
    return excuses.some((excuse) => kinds.includes(excuse.what) && isWithin(excuse, sentMs));
  }

  #count(what: 'lost' | 'wronglyAllowed' | 'wronglyRefused', problem: string): void {
    this[what] += 1;
    this.#note(problem);
  }

  #note(problem: string): void {
    if (this.problems.length < problemsMax) this.problems.push(problem);
  }

  get result(): Judgement {
    const sorted = Float64Array.from(this.#latencies).toSorted();
    const at = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
    return {
      sent: this.sent,
      answered: sorted.length,
      late: this.late,
      lost: this.lost,
      excused: this.excused,
      wronglyAllowed: this.wronglyAllowed,
      wronglyRefused: this.wronglyRefused,
      connections: this.connections,
      medianMs: at(0.5),
      p99Ms: at(0.99),
      worstMs: at(1),
      problems: this.problems,
    };
  }
}

export function judge(seen: Seen): Judgement {
  return new Judge(seen).result;
}
