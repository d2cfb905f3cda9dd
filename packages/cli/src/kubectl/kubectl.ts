// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * kubectl as a library: a plugin runs where kubectl does, so contexts, credentials, proxies and impersonation are
 * kubectl's, and none of it is done here again.
 */

import { spawn } from 'node:child_process';
import { TandemError } from '@tandem/runtime/tandem-error';
import { errorBytesMax, listBytesMax, listTimeoutMs, outputBytesMax } from './limits.ts';

export interface KubectlResult {
  /** Null: ended by a signal, or not started. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The time was over. */
  readonly isLate: boolean;
  /** More came than is kept; the rest is not in `stdout`. */
  readonly isCut: boolean;
}

export interface KubectlOptions {
  /** Flags of the connection, before every command: --context, --kubeconfig. */
  readonly flags: readonly string[];
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Default: `kubectl` of the PATH. */
  readonly program?: string;
}

export interface RunOptions {
  /** For `--filename=-`. */
  readonly input?: string;
  /** Default: that of all commands. */
  readonly timeoutMs?: number;
  /** The time is at least this. */
  readonly leastTimeoutMs?: number;
  /** Default: `outputBytesMax`. */
  readonly bytesMax?: number;
}

export class Kubectl {
  readonly #o: KubectlOptions;

  constructor(options: KubectlOptions) {
    this.#o = options;
  }

  /** One whose commands a signal to this process does not end. */
  withoutSignal(): Kubectl {
    return new Kubectl({ ...this.#o, signal: new AbortController().signal });
  }

  /** Runs kubectl and returns its output and exit code. @throws TandemError TANDEM_CLI_KUBECTL: it was not started */
  async run(
    args: readonly string[],
    { input, timeoutMs, leastTimeoutMs = 0, bytesMax = outputBytesMax }: RunOptions = {},
  ): Promise<KubectlResult> {
    const { flags, signal, program = 'kubectl' } = this.#o;
    throwIfAborted(signal);
    const { promise, resolve, reject } = Promise.withResolvers<KubectlResult>();
    const child = spawn(program, [...flags, ...args], { stdio: 'pipe' });
    // A program that does not read its input has ended, and reports the reason itself.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input ?? '');
    const stdout = new Collected(bytesMax);
    const stderr = new Collected(errorBytesMax);
    let isLate = false;
    const end = (): boolean => child.kill('SIGKILL');
    const limitMs = Math.max(timeoutMs ?? this.#o.timeoutMs, leastTimeoutMs);
    const timer = setTimeout(() => {
      isLate = true;
      end();
    }, limitMs);
    signal.addEventListener('abort', end, { once: true });
    child.stdout.on('data', (chunk: Buffer) => stdout.add(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.add(chunk));
    child.on('error', (cause) => reject(notStarted(program, cause)));
    child.on('close', (code) => {
      const texts = { stdout: stdout.text(), stderr: stderr.text().trim() };
      resolve({ code, ...texts, isLate, isCut: stdout.isCut });
    });
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
    }
  }

  /** Runs it on the terminal of this process, without a limit of time. Null: ended by a signal. */
  async runOnTerminal(args: readonly string[]): Promise<number | null> {
    const { flags, signal, program = 'kubectl' } = this.#o;
    throwIfAborted(signal);
    const { promise, resolve, reject } = Promise.withResolvers<number | null>();
    const child = spawn(program, [...flags, ...args], { stdio: 'inherit' });
    const end = (): boolean => child.kill('SIGTERM');
    signal.addEventListener('abort', end, { once: true });
    child.on('error', (cause) => reject(notStarted(program, cause)));
    child.on('close', resolve);
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', end);
    }
  }

  /** The objects of `kubectl get ARGS`. @throws TandemError TANDEM_CLI_KUBECTL with kubectl's own words. */
  async list(args: readonly string[]): Promise<readonly unknown[]> {
    const result = await this.run(['get', ...args, '--output=json'], {
      ...{ leastTimeoutMs: listTimeoutMs, bytesMax: listBytesMax },
    });
    return itemsOf(`kubectl get ${args[0]}`, result);
  }
}

/** Text of kubectl for a kind that the API server does not have. */
export const absentKind: RegExp = /doesn't have a resource type/;

/** Objects of a list that `what` printed. @throws TandemError TANDEM_CLI_KUBECTL with kubectl's own words */
export function itemsOf(what: string, result: KubectlResult): readonly unknown[] {
  if (result.code !== 0 || result.isCut) throw failed(what, result);
  const { items } = JSON.parse(result.stdout) as { readonly items?: readonly unknown[] };
  return items ?? [];
}

/** An interrupt ends the work on all nodes: those that were not asked yet would each take their time. */
function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new TandemError('TANDEM_CLI_KUBECTL', 'interrupted');
}

function notStarted(program: string, cause: Error): TandemError {
  const message = `run ${program}: ${cause.message}. kubectl must be in the PATH`;
  return new TandemError('TANDEM_CLI_KUBECTL', message, { cause });
}

function failed(what: string, result: KubectlResult): TandemError {
  return new TandemError('TANDEM_CLI_KUBECTL', `${what}: ${reasonOf(result)}`);
}

/** The program in the pod was run and ended by itself, with whatever code. */
export function hasRun({ code, stderr, isLate, isCut }: KubectlResult): boolean {
  if (isLate || isCut || code === null) return false;
  return code === 0 || stderr.includes('command terminated with exit code');
}

/** Why it failed, in one line. */
export function reasonOf({ code, stderr, isLate, isCut }: KubectlResult): string {
  if (isLate) return 'no answer in time: raise --timeout, or see whether the node is up';
  if (isCut) return 'too much output';
  const [line = ''] = stderr
    .split('\n')
    .filter((each) => each !== '')
    .slice(-1);
  return line === '' ? `kubectl ended with ${code ?? 'a signal'}` : line;
}

class Collected {
  isCut = false;
  readonly #chunks: Buffer[] = [];
  #left: number;

  constructor(bytesMax: number) {
    this.#left = bytesMax;
  }

  add(chunk: Buffer): void {
    if (chunk.length > this.#left) this.isCut = true;
    const kept = chunk.subarray(0, this.#left);
    this.#left -= kept.length;
    if (kept.length > 0) this.#chunks.push(kept);
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}
