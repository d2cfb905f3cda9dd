// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The probe's process and its line protocol (native/probe.h); `probe.ts` gives operations their types. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, startProcess } from './process.ts';

const program = fileURLToPath(new URL('../build/probe', import.meta.url));

/** End of a probe's output that its error quotes, in characters. */
const lastWordsMax = 2000;

export type ArgumentValue = string | number | boolean | Uint8Array | undefined;

/** An operation failed in the namespace; `code` is the name of its errno, as in Node. */
export class ProbeError extends Error {
  readonly code: string;
  readonly operation: string;

  constructor(code: string, operation: string, detail: string) {
    super(`probe ${operation}: ${code}: ${detail}`);
    this.name = 'ProbeError';
    this.code = code;
    this.operation = operation;
  }
}

/**
 * The probe is no more, so nothing that it is asked will ever succeed: unlike a `ProbeError`, this says nothing
 * about the network, and a caller that tries again after one must not try again after this.
 */
export class ProbeEndedError extends Error {
  constructor(operation: string, how: string) {
    super(`probe ${operation}: ${how}`);
    this.name = 'ProbeEndedError';
  }
}

/** The fields of an answer, in their order; a key may come several times. */
export class Answer {
  readonly id: number;
  readonly #fields: readonly (readonly [string, string])[];

  constructor(id: number, fields: readonly (readonly [string, string])[]) {
    this.id = id;
    this.#fields = fields;
  }

  all(key: string): string[] {
    return this.#fields.filter(([name]) => name === key).map(([, value]) => value);
  }

  text(key: string): string {
    const [value] = this.all(key);
    if (value === undefined) throw new Error(`the probe's answer has no ${key}`);
    return value;
  }

  number(key: string): number {
    return Number(this.text(key));
  }

  bytes(key: string): Uint8Array {
    return hexBytes(this.text(key));
  }
}

interface Waiter {
  readonly operation: string;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** The command line that runs a command inside a network namespace. */
export interface Inside {
  enter(command: string, args?: readonly string[]): [string, string[]];
}

export class ProbeProcess implements AsyncDisposable {
  readonly #process: RunningProcess;
  readonly #waiters = new Map<number, Waiter>();
  #nextId = 1;
  /** Why it takes no more requests. */
  #end: string | null = null;

  constructor(namespace: Inside) {
    if (!existsSync(program)) throw new Error(`${program} is not built: make -C packages/testing`);
    this.#process = startProcess(...namespace.enter(program, [`${process.pid}`]), {
      onLine: (line) => this.#onLine(line),
    });
    this.#process.exited.then(
      ({ status, signal }) => this.#failAll(`the probe ended with ${signal ?? `status ${status}`}`),
      (error: unknown) => this.#failAll(`the probe did not start: ${String(error)}`),
    );
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Runs one operation; many may run at once. */
  async request(operation: string, args: Readonly<Record<string, ArgumentValue>>): Promise<Answer> {
    if (this.#end !== null) throw new ProbeEndedError(operation, this.#end);
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#waiters.set(id, { operation, resolve, reject });
    this.#process.stdin.write(`${id} ${operation}${encodeArguments(args)}\n`);
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end ??= 'the probe is stopped';
    this.#process.stdin.end();
    await this.#process.stop();
  }

  #onLine(line: string): void {
    const [idText = '', status = '', ...words] = line.split(' ');
    const id = Number(idText);
    const waiter = this.#waiters.get(id);
    if (waiter === undefined) return;
    this.#waiters.delete(id);
    if (status !== 'ok') {
      const [code = 'EUNKNOWN', ...detail] = words;
      waiter.reject(new ProbeError(code, waiter.operation, detail.join(' ')));
      return;
    }
    const fields = words.map((word) => {
      const at = word.indexOf('=');
      return [word.slice(0, at), word.slice(at + 1)] as const;
    });
    waiter.resolve(new Answer(id, fields));
  }

  /** Unless we stopped it, how it ended and its last words are what every later request gets, too. */
  #failAll(how: string): void {
    const words = this.#process.stderr().trim().slice(-lastWordsMax);
    this.#end ??= words === '' ? how : `${how}: ${words}`;
    for (const { operation, reject } of this.#waiters.values()) {
      reject(new ProbeEndedError(operation, this.#end));
    }
    this.#waiters.clear();
  }
}

export function hexBytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'hex'));
}

function encodeArguments(args: Readonly<Record<string, ArgumentValue>>): string {
  return Object.entries(args)
    .map(([key, value]) => {
      if (value === undefined || value === false) return '';
      if (value instanceof Uint8Array) return ` ${key}=${Buffer.from(value).toString('hex')}`;
      const text = value === true ? '1' : String(value);
      if (/\s/.test(text)) throw new TypeError(`a value of the probe's protocol: ${text}`);
      return ` ${key}=${text}`;
    })
    .join('');
}
