// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Work in steps that waits between them. It is a generator and not an async function, because who runs it decides what
// waiting is: a process waits for promises and timers of its event loop (`runTask`, `loopTimers`), the simulator for
// its virtual time, turn by turn, where a process can also end.

import { systemClock } from './system-clock.ts';

/**
 * A step waits for the value that it yields: a promise, or undefined for the next turn of the event loop. Anything else is
 * its own result.
 */
export type Task<T = void> = Generator<unknown, T, unknown>;

/** A value, now or later. */
export type Eventual<T> = T | PromiseLike<T>;

/** One step of a task: waits for `value`. */
export function* wait<T>(value: Eventual<T>): Task<T> {
  return (yield value) as T;
}

/** Runs a task on the event loop. */
export async function runTask<T>(task: Task<T>): Promise<T> {
  let step = task.next();
  while (step.done !== true) {
    const { value } = step;
    try {
      // oxlint-disable-next-line no-await-in-loop -- one step after the other
      const result = await (value ?? nextTurn());
      step = task.next(result);
    } catch (error) {
      step = task.throw(error);
    }
  }
  return step.value;
}

/** Others have their turn: a promise alone would not let them. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Something that others wait to change. */
export class Changes {
  readonly #waiting = new Set<() => void>();

  notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves at the next change, or after `ms`. */
  next(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#waiting.add(wake);
    });
  }
}

/** Time, as tasks wait for it. */
export interface TaskTimers {
  /** Begins a task beside what runs; its exception rejects the promise. */
  start<T>(task: Task<T>): Promise<T>;
  delay(ms: number): Task;
  /** True when `isTrue` is, which is asked again at each of `changes`; false after `timeoutMs`. */
  until(isTrue: () => boolean, changes: Changes, timeoutMs: number): Task<boolean>;
}

export const loopTimers: TaskTimers = {
  start: runTask,
  *delay(ms) {
    yield new Promise((resolve) => {
      setTimeout(resolve, ms);
    });
  },
  *until(isTrue, changes, timeoutMs) {
    const deadlineMs = systemClock.monotonicMs() + timeoutMs;
    while (!isTrue()) {
      const leftMs = deadlineMs - systemClock.monotonicMs();
      if (leftMs <= 0) return false;
      yield changes.next(leftMs);
    }
    return true;
  },
};
