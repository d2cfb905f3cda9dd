// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Starts the components of a process in order and stops them in reverse, each within a bound. A component
// that fails to start stops those before it. The first SIGTERM or SIGINT begins an orderly stop, a second
// one ends the process at once. An uncaught exception is a bug: the process ends at once, because the
// other member and the kernel continue to serve, and a process in an unknown state must not.

import type { Logger } from './log.ts';
import { TandemError } from './tandem-error.ts';

/** Defaults of the bounds. */
export const startTimeoutMs = 30_000;
export const stopTimeoutMs = 10_000;

/** Exit codes of the processes: of `run`, and `usage` of who calls it, when the configuration is wrong. */
export const exitCodes = {
  ok: 0,
  startFailed: 1,
  usage: 2,
  stopIncomplete: 3,
  nothingEnforced: 4,
  bug: 70,
  killed: 130,
} as const;

/** A part of a process. `start` and `stop` are paired: stop undoes what start did, in any state. */
export interface Component {
  readonly name: string;
  /** Resolves when the component serves. `signal` aborts when the process is to stop instead. */
  start(signal: AbortSignal): Promise<void> | void;
  /** Called once, also after a start that failed or did not end. Must not throw for "not started". */
  stop(): Promise<void> | void;
}

export interface LifecycleOptions {
  readonly log: Logger;
  /** Bound of one component's start, ms. Default startTimeoutMs. */
  readonly startTimeoutMs?: number;
  /** Bound of one component's stop, ms. Default stopTimeoutMs. */
  readonly stopTimeoutMs?: number;
  /** Exit code of a start that failed. Default startFailed. */
  readonly startFailedCode?: (error: TandemError) => number;
}

export type LifecycleState = 'new' | 'starting' | 'running' | 'stopping' | 'stopped';

/** Rejects with `error` when `work` takes longer than `timeoutMs`. The work itself goes on. */
async function within<T>(
  work: Promise<T>,
  timeoutMs: number,
  error: () => TandemError,
): Promise<T> {
  const { promise: expired, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(error()), timeoutMs);
  try {
    return await Promise.race([work, expired]);
  } finally {
    clearTimeout(timer);
  }
}

export class Lifecycle {
  readonly #log: Logger;
  readonly #startTimeoutMs: number;
  readonly #stopTimeoutMs: number;
  readonly #startFailedCode: (error: TandemError) => number;
  readonly #components: Component[] = [];
  /** Components whose start was called, in order. */
  readonly #begun: Component[] = [];
  readonly #abort = new AbortController();
  #state: LifecycleState = 'new';
  #stopping: Promise<number> | null = null;

  constructor(options: LifecycleOptions) {
    this.#log = options.log;
    this.#startTimeoutMs = options.startTimeoutMs ?? startTimeoutMs;
    this.#stopTimeoutMs = options.stopTimeoutMs ?? stopTimeoutMs;
    this.#startFailedCode = options.startFailedCode ?? ((): number => exitCodes.startFailed);
  }

  get state(): LifecycleState {
    return this.#state;
  }

  /** Aborts when the process is to stop. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Adds a component, to be started after those added before. Returns it. */
  add<C extends Component>(component: C): C {
    if (this.#state !== 'new') throw new TypeError(`${component.name} added after the start`);
    this.#components.push(component);
    return component;
  }

  /** Starts all. When one fails, stops the started ones and rejects with that component's error. */
  async start(): Promise<void> {
    if (this.#state !== 'new') throw new TypeError(`start in state ${this.#state}`);
    this.#state = 'starting';
    const aborted = new Promise<void>((resolve) => {
      this.#abort.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    for (const component of this.#components) {
      if (this.#abort.signal.aborted) return;
      this.#begun.push(component);
      try {
        // A component that is stopped while it starts is being stopped: nothing waits for the rest of its start.
        await within(
          Promise.race([Promise.resolve(component.start(this.#abort.signal)), aborted]),
          this.#startTimeoutMs,
          () => new TandemError('TANDEM_START_TIMEOUT', `${component.name} did not start in time`),
        );
        if (this.#abort.signal.aborted) return;
      } catch (error) {
        const failure = TandemError.from(error, `start ${component.name}`);
        await this.stop(`${component.name} failed to start`);
        throw failure;
      }
      this.#log.debug('component started', { component: component.name });
    }
    if (!this.#abort.signal.aborted) this.#state = 'running';
  }

  /**
   * Stops all that was begun, last first; never rejects. A component that fails or takes too long is
   * logged and left behind. Returns how many those were. Later calls return the same.
   */
  stop(reason: string): Promise<number> {
    this.#stopping ??= this.#stopAll(reason);
    return this.#stopping;
  }

  async #stopAll(reason: string): Promise<number> {
    this.#state = 'stopping';
    this.#log.info('stopping', { reason });
    this.#abort.abort(reason);
    let failed = 0;
    for (const component of this.#begun.toReversed()) {
      try {
        await within(
          (async (): Promise<void> => component.stop())(),
          this.#stopTimeoutMs,
          () => new TandemError('TANDEM_STOP_TIMEOUT', `${component.name} did not stop in time`),
        );
      } catch (error) {
        failed++;
        this.#log.error('component did not stop', {
          component: component.name,
          error: TandemError.from(error),
        });
      }
    }
    this.#state = 'stopped';
    return failed;
  }

  /**
   * The life cycle of a process: installs the signal handlers, starts all, waits for a signal or `stop`, stops
   * all. Resolves with the exit code; the caller exits with it.
   */
  async run(): Promise<number> {
    const stopped = Promise.withResolvers<void>();
    this.#abort.signal.addEventListener('abort', () => stopped.resolve(), { once: true });
    const uninstall = this.#installHandlers();
    try {
      try {
        await this.start();
      } catch (error) {
        const failure = TandemError.from(error);
        this.#log.error('start failed', { error: failure });
        return this.#startFailedCode(failure);
      }
      if (this.#state === 'running') this.#log.info('running');
      await stopped.promise;
      const failed = await this.stop('stop requested');
      this.#log.info('stopped', { failed });
      return failed === 0 ? exitCodes.ok : exitCodes.stopIncomplete;
    } finally {
      uninstall();
    }
  }

  #installHandlers(): () => void {
    const onSignal = (name: NodeJS.Signals): void => {
      if (this.#stopping === null) {
        void this.stop(`signal ${name}`);
        return;
      }
      this.#log.error('second signal: ending at once', { signal: name });
      process.exit(exitCodes.killed);
    };
    const onBug = (error: unknown): void => {
      this.#log.error('uncaught exception: ending at once', {
        error: error instanceof Error ? error : new Error(String(error)),
      });
      process.exit(exitCodes.bug);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
    process.on('uncaughtException', onBug);
    process.on('unhandledRejection', onBug);
    return () => {
      process.off('SIGTERM', onSignal);
      process.off('SIGINT', onSignal);
      process.off('uncaughtException', onBug);
      process.off('unhandledRejection', onBug);
    };
  }
}
