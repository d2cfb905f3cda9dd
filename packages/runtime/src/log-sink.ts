// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where log lines go. A line that cannot be written (a full disk behind standard error, a reader of the pipe
 * that ended) is counted and lost: the process serves DNS and enforces policy without its log.
 */

import { Writable } from 'node:stream';

export class LogSink extends Writable {
  /** Lines that could not be written. */
  lost = 0;
  /** Why the last line could not be written; empty: it was. */
  problem = '';
  readonly #to: Writable;

  constructor(to: Writable) {
    super({ decodeStrings: false });
    this.#to = to;
    // Each write says what became of it; an error without a listener would end the process.
    to.on('error', () => undefined);
  }

  override _write(line: string | Buffer, _encoding: string, done: () => void): void {
    try {
      this.#to.write(line, (error) => this.#onWritten(error ?? null));
    } catch (error) {
      // Standard error that is a file is written within the call.
      this.#onWritten(error instanceof Error ? error : new Error(String(error)));
    }
    done();
  }

  #onWritten(error: Error | null): void {
    this.problem = error?.message ?? '';
    if (error !== null) this.lost += 1;
  }
}
