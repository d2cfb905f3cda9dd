// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Servers of a process that DNS is served without: admin and metrics. One that cannot start is tried again, and
 * so is one whose socket was removed with its directory (systemd does that when a unit with the same
 * RuntimeDirectory stops); status and the log say what is missing meanwhile.
 */

import type { DegradationCode } from '@tandem/core/codes/degradations';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Degradation, degradation } from '../admin/degradation.ts';
import { optionalRetryMsMax, optionalRetryMsMin } from '../limits.ts';

export interface OptionalServer extends Component {
  /** Whether clients find its socket. */
  readonly isReachable: boolean;
}

/** Codes of the servers' degradations. */
type ServerCode = Extract<DegradationCode, 'admin-unavailable' | 'metrics-unavailable'>;

interface State {
  readonly server: OptionalServer;
  /** Why it could not start; empty: it could, or is starting. */
  problem: string;
  isStarting: boolean;
  retryMs: number;
  /** Not before then is it tried again, in turns of `check`. */
  waitMs: number;
}

export class OptionalServers {
  readonly #log: Logger;
  readonly #states = new Map<ServerCode, State>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** `code`: of its degradation. Never rejects. */
  async start(code: ServerCode, server: OptionalServer): Promise<void> {
    const state = {
      server,
      problem: '',
      isStarting: false,
      retryMs: optionalRetryMsMin,
      waitMs: 0,
    };
    this.#states.set(code, state);
    await this.#start(state);
  }

  /** Comes every `elapsedMs`: starts those that are not reachable. */
  check(elapsedMs: number): void {
    for (const state of this.#states.values()) {
      state.waitMs = Math.max(0, state.waitMs - elapsedMs);
      if (state.isStarting || state.waitMs > 0 || state.server.isReachable) continue;
      void this.#start(state);
    }
  }

  async stop(): Promise<void> {
    for (const { server } of [...this.#states.values()].toReversed()) {
      // oxlint-disable-next-line no-await-in-loop -- in order
      await server.stop();
    }
    this.#states.clear();
  }

  get degradations(): readonly Degradation[] {
    return [...this.#states].flatMap(([code, { problem }]) =>
      problem === ''
        ? []
        : [degradation(code, { message: `${problem}; DNS and policy are not affected` })],
    );
  }

  async #start(state: State): Promise<void> {
    const { server } = state;
    state.isStarting = true;
    try {
      await server.start(new AbortController().signal);
      state.problem = '';
      state.retryMs = optionalRetryMsMin;
    } catch (error) {
      const failure = TandemError.from(error);
      const problem = `${server.name} could not start: ${failure.message}`;
      if (problem !== state.problem) {
        this.#log.error(
          'a server cannot be started and will be tried again; DNS and policy are not affected',
          {
            component: server.name,
            error: failure,
          },
        );
      }
      state.problem = problem;
      state.waitMs = state.retryMs;
      state.retryMs = Math.min(state.retryMs * 2, optionalRetryMsMax);
    }
    state.isStarting = false;
  }
}
