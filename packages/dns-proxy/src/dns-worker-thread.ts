// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The thread of the DNS worker, from the main thread: it is loaded, begins, drains and ends, or dies. */

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { isBugCode } from '@tandem/core/codes/errors';
import { TandemError } from '@tandem/runtime/tandem-error';
import { drainFinishMs, workerHeapMiBMax } from './limits.ts';
import type { FromWorker, ToWorker, WorkerOptions } from './worker-messages.ts';

export interface DnsWorkerThreadOptions {
  readonly file: URL;
  readonly worker: WorkerOptions;
  readonly onMessage: (message: FromWorker) => void;
  /** It died: a bug, or an error of the system that it cannot go on with. */
  readonly onFailure: (error: TandemError) => void;
}

export class DnsWorkerThread {
  readonly #o: DnsWorkerThreadOptions;
  #worker: Worker | null = null;
  /** It has loaded its code, and waits for `begin`. */
  #isIdle = false;
  #onReady: (() => void) | null = null;
  #onDrained: (() => void) | null = null;
  /** Rejects `begin` with an error of the system; a bug, and what fails at another time, goes to `onFailure`. */
  #onBeginFailed: ((error: TandemError) => void) | null = null;

  constructor(options: DnsWorkerThreadOptions) {
    this.#o = options;
  }

  get isLoaded(): boolean {
    return this.#worker !== null;
  }

  /** Makes the thread, which does nothing before `begin`. */
  load(): void {
    if (this.#worker !== null) return;
    const worker = new Worker(this.#o.file, {
      workerData: this.#o.worker,
      // The query path allocates next to nothing.
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: workerHeapMiBMax },
    });
    worker.on('message', (message: FromWorker) => this.#onMessage(message));
    worker.on('error', (error) => this.#onError(TandemError.from(error, 'DNS worker')));
    worker.on('exit', (code) => {
      if (this.#worker === null) return;
      const problem = `the DNS worker ended with code ${code}`;
      this.#o.onFailure(new TandemError('TANDEM_WORKER_EXIT', problem));
    });
    this.#worker = worker;
    this.#isIdle = true;
  }

  /** Resolves when its listeners are open or are tried again. */
  async begin(): Promise<void> {
    const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
    this.#onReady = resolve;
    this.#onBeginFailed = reject;
    this.load();
    this.#isIdle = false;
    this.send({ kind: 'begin' });
    await ready;
    this.#onBeginFailed = null;
  }

  send(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }

  /** Waits within the bound until another member serves and queries in flight are answered; then ends the thread. */
  async stop(drainTimeoutMs: number): Promise<void> {
    if (this.#worker === null) return;
    if (this.#isIdle) {
      await this.#worker.terminate();
      return;
    }
    const { promise: drained, resolve } = Promise.withResolvers<void>();
    this.#onDrained = resolve;
    this.send({ kind: 'drain', tokenTimeoutMs: Math.max(0, drainTimeoutMs - drainFinishMs) });
    const timer = setTimeout(resolve, drainTimeoutMs);
    await drained;
    clearTimeout(timer);
    await this.#end();
  }

  async #end(): Promise<void> {
    if (this.#worker === null) return;
    const exited = once(this.#worker, 'exit');
    this.send({ kind: 'stop' });
    await exited;
  }

  #onMessage(message: FromWorker): void {
    if (message.kind === 'ready') this.#onReady?.();
    else if (message.kind === 'drained') this.#onDrained?.();
    else this.#o.onMessage(message);
  }

  #onError(error: TandemError): void {
    this.#worker = null;
    this.#onDrained?.();
    if (this.#onBeginFailed !== null && !isBugCode(error.code)) this.#onBeginFailed(error);
    else this.#o.onFailure(error);
  }
}
