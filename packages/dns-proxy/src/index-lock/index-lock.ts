// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A member's index in the group, which one process has at a time and which only its death gives away: that makes two
 * processes of one kind safe. Who finds it taken stands by: it prepares what it will need, waits, and ends a holder that
 * hangs, since kubelet does not while it takes a pod away (ADR 15).
 */

import { setTimeout as delay } from 'node:timers/promises';
import { readPinnedMember } from '@tandem/datapath/group-settings';
import type { MemberIndex } from '@tandem/datapath/member';
import { pinPaths } from '@tandem/datapath/paths';
import { PathLock } from '@tandem/dns-sockets/lock';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { indexLookMs, indexPollMs } from '../limits.ts';
import { armFenceFile, fenceArmedNs, fireFenceFile } from './fence-file.ts';
import { type Holder, HolderWatch } from './holder-watch.ts';

export interface IndexLockOptions {
  /** The node's directory in a bpffs. */
  readonly pinRoot: string;
  readonly member: MemberIndex;
  /** Directory of the pipes by which holders can be ended: only this member's user can write to it. */
  readonly fenceDirectory: string;
  /** For the log: another process has the index, and is waited for. */
  readonly onIndexTaken: (path: string) => void;
  /** For the log: the process that had it gave no beat for so long, and was killed. */
  readonly onFenced: (ms: number) => void;
  /** Reason, for the log, for which no process can end this one when it hangs. */
  readonly onUnfenced: (reason: string) => void;
}

export interface TakeOptions {
  /** Called before each attempt. */
  readonly prepare?: () => void;
  /** Called once when another process has the index: all that can be done without it. Ready when it resolves. */
  readonly standBy?: () => Promise<void>;
}

export class IndexLock {
  readonly #o: IndexLockOptions;
  readonly #watch = new HolderWatch();
  #lock: PathLock | null = null;

  constructor(options: IndexLockOptions) {
    this.#o = options;
  }

  get isTaken(): boolean {
    return this.#lock !== null;
  }

  /** Resolves when the index is this process's, until it ends, or when `signal` aborts. */
  async take(signal: AbortSignal, { prepare, standBy }: TakeOptions = {}): Promise<void> {
    const paths = pinPaths(this.#o.pinRoot);
    const path = paths.member(this.#o.member);
    let waiting: PathLock | null = null;
    let standing: Standing | null = null;
    let lookedMs = 0;
    try {
      while (!signal.aborted) {
        prepare?.();
        this.#lock = PathLock.tryTake(path);
        if (this.#lock !== null) return;
        if (standing === null) {
          this.#o.onIndexTaken(path);
          standing = beginToStandBy(standBy);
        }
        if (standing.failure !== null) throw standing.failure;
        waiting ??= PathLock.tryTake(paths.waiting(this.#o.member));
        const nowMs = systemClock.monotonicMs();
        // It ends no holder before it can take its place.
        if (standing.isReady && nowMs - lookedMs >= indexLookMs) {
          lookedMs = nowMs;
          this.#look(nowMs * 1e6);
        }
        // oxlint-disable-next-line no-await-in-loop -- a poll: flock(2) that waits would hold a thread
        await delay(indexPollMs);
      }
    } finally {
      waiting?.[Symbol.dispose]();
    }
  }

  /** From now on this process can be ended by the one that waits for its index. Never throws. */
  arm(): void {
    if (this.#lock === null) throw new TypeError('armed before the index is taken');
    const { fenceDirectory, member, onUnfenced } = this.#o;
    try {
      armFenceFile(fenceDirectory, member, Math.floor(systemClock.boottimeSeconds() * 1e9));
    } catch (error) {
      onUnfenced(TandemError.from(error).message);
      return;
    }
    if (process.pid === 1)
      onUnfenced('it is process 1 of its PID namespace, which no signal kills');
  }

  #look(monotonicNs: number): void {
    const { fenceDirectory, member, onFenced } = this.#o;
    const holder = this.#holder();
    if (!this.#watch.isHung(holder, monotonicNs) || holder === null) return;
    if (!fireFenceFile(fenceDirectory, member, holder.armedNs)) return;
    onFenced(Math.round((monotonicNs - holder.beatNs) / 1e6));
  }

  #holder(): Holder | null {
    const { fenceDirectory, member, pinRoot } = this.#o;
    // First the run, then its heartbeat: that of a later run is fresh.
    const armedNs = fenceArmedNs(fenceDirectory, member);
    if (armedNs === null) return null;
    try {
      const found = readPinnedMember(pinRoot, member);
      if (found === null) return null;
      const { state, epochNs: joinedNs, beatNs } = found;
      return { armedNs, joinedNs, isMember: state === 'live' || state === 'drain', beatNs };
    } catch {
      return null; // no pins, or not for us
    }
  }
}

interface Standing {
  isReady: boolean;
  failure: TandemError | null;
}

/** The lock is tried on meanwhile: a holder that ends is not waited for. */
function beginToStandBy(standBy: TakeOptions['standBy']): Standing {
  const standing: Standing = { isReady: false, failure: null };
  const run = async (): Promise<void> => {
    try {
      await standBy?.();
      standing.isReady = true;
    } catch (error) {
      standing.failure = TandemError.from(error);
    }
  };
  void run();
  return standing;
}
