// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The thread that compiles policy (compile-worker.ts), for the main thread: made when it is needed, ended when it is idle. */

import { Worker } from 'node:worker_threads';
import type { PolicySnapshot } from '@tandem/proto/gen/messages';
import { TandemError } from '@tandem/runtime/tandem-error';
import { compilerIdleMs } from '../limits.ts';
import type { CompletedPatterns } from './build-image.ts';
import type { CompileAnswer, CompileRequest, CompileWish } from './compile-worker.ts';
import type { TablesImage } from './tables-image.ts';

interface Compiling {
  onAnswer(answer: CompileAnswer): void;
  reject(error: TandemError): void;
}

export class CompilerThread {
  readonly #file: URL;
  readonly #onFailure: (error: TandemError) => void;
  readonly #compiles = new Map<number, Compiling>();
  #worker: Worker | null = null;
  #idle: NodeJS.Timeout | undefined;
  #next = 1;

  /** `file`: the thread's program. `onFailure`: it died, a bug. */
  constructor(file: URL, onFailure: (error: TandemError) => void) {
    this.#file = file;
    this.#onFailure = onFailure;
  }

  /** Begins to load the thread. */
  prepare(): void {
    this.#thread();
  }

  /** The tables of an encoded snapshot, whose patterns are compiled if it brings no matcher. Rejects: it can't be used. */
  async image(snapshot: Uint8Array): Promise<TablesImage> {
    const answer = await this.#compile({ wants: 'image', snapshot });
    if (!('image' in answer)) throw new TypeError('no image of a snapshot');
    return answer.image;
  }

  /** The matcher of a snapshot's patterns, so that a receiver of both need not compile them. */
  async complete(patterns: PolicySnapshot['patterns']): Promise<CompletedPatterns> {
    const answer = await this.#compile({ wants: 'matcher', patterns });
    if (!('compiledMatcher' in answer)) throw new TypeError('no matcher of patterns');
    return answer;
  }

  /** Rejects what is being compiled. */
  fail(error: TandemError): void {
    for (const { reject } of this.#compiles.values()) reject(error);
    this.#compiles.clear();
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#worker?.terminate();
  }

  #compile(wish: CompileWish): Promise<CompileAnswer> {
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<CompileAnswer>();
    this.#compiles.set(id, { onAnswer: resolve, reject });
    this.#thread().postMessage({ id, ...wish } satisfies CompileRequest);
    return promise;
  }

  #thread(): Worker {
    clearTimeout(this.#idle);
    if (this.#worker === null) {
      const worker = new Worker(this.#file);
      worker.unref();
      worker.on('message', (answer: CompileAnswer) => this.#onAnswer(answer));
      worker.on('error', (error) => this.#onFailure(TandemError.from(error, 'policy compiler')));
      this.#worker = worker;
    }
    return this.#worker;
  }

  #onAnswer(answer: CompileAnswer): void {
    const waiting = this.#compiles.get(answer.id);
    this.#compiles.delete(answer.id);
    if (this.#compiles.size === 0) {
      // A thread's heap is not small, and a thread for each of many changes is more than the changes.
      this.#idle = setTimeout(() => this.#end(), compilerIdleMs);
      this.#idle.unref();
    }
    if (waiting === undefined) return;
    if ('error' in answer) {
      waiting.reject(new TandemError('TANDEM_POLICY_SNAPSHOT', answer.error));
      return;
    }
    waiting.onAnswer(answer);
  }

  #end(): void {
    void this.#worker?.terminate();
    this.#worker = null;
  }
}
