// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Tasks of a simulated thread: each has one step in a turn of it, and time is the world's. */

import type { Changes, Task, TaskTimers } from '@tandem/runtime/task';
import type { World } from './world.ts';

/** Something that a task waits for: over when `isDone` says so. */
export class SimWait implements PromiseLike<void> {
  readonly isDone: () => boolean;

  constructor(isDone: () => boolean) {
    this.isDone = isDone;
  }

  // oxlint-disable-next-line unicorn/no-thenable -- stands where the product has a promise
  then(): never {
    throw new TypeError('nothing in the simulator waits for a promise');
  }
}

interface Running {
  readonly task: Task<unknown>;
  /** Value that it waits for. */
  value: unknown;
}

const forever = new Promise<never>(() => undefined);

export class SimTasks implements TaskTimers {
  readonly #world: World;
  #running: Running[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  get isIdle(): boolean {
    return this.#running.length === 0;
  }

  start<T>(task: Task<T>): Promise<T> {
    this.#running.push({ task, value: undefined });
    return forever;
  }

  *delay(ms: number): Task {
    const dueNs = this.#world.nowNs + ms * 1e6;
    yield new SimWait(() => this.#world.nowNs >= dueNs);
  }

  *until(isTrue: () => boolean, _changes: Changes, timeoutMs: number): Task<boolean> {
    const deadlineNs = this.#world.nowNs + timeoutMs * 1e6;
    while (!isTrue()) {
      if (this.#world.nowNs >= deadlineNs) return false;
      yield undefined;
    }
    return true;
  }

  /** Each task that can go on does one step. */
  turn(): void {
    if (this.#running.length === 0) return;
    for (const running of [...this.#running]) {
      const { value } = running;
      if (value instanceof SimWait && !value.isDone()) continue;
      const step = running.task.next(value instanceof SimWait ? undefined : value);
      running.value = step.value;
      if (step.done === true) this.#running = this.#running.filter((other) => other !== running);
    }
  }
}
