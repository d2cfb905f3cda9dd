// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Child processes of tests: their output is kept, their life is bounded, and none outlives the test
 * process, however that ends (the kernel kills them: PR_SET_PDEATHSIG by setpriv).
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { patience } from './wait.ts';

const outputCharactersMax = 1 << 20;
const runTimeoutMs = 20_000;
const stopTimeoutMs = 3000;

export interface RunOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

export interface RunResult {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end; a failure is an error with the command and its output. */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const result = await tryRun(command, args, options);
  if (result.status === 0) return result;
  const how = result.signal ?? `status ${result.status}`;
  const output = `${result.stderr}${result.stdout}`.trim();
  throw new Error(`${[command, ...args].join(' ')}: ${how}: ${output}`);
}

/** Runs a command to its end, whatever that is. */
export async function tryRun(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  await using child = startProcess(command, args, options);
  child.stdin.end(options.input ?? '');
  const { status, signal } = await child.exited;
  return { status, signal, stdout: child.stdout(), stderr: child.stderr() };
}

export interface StartOptions extends RunOptions {
  /** Called for each line of stdout, which is then not kept. */
  readonly onLine?: (line: string) => void;
  /** A channel for `process.send`, for Node children. */
  readonly ipc?: boolean;
}

export interface RunningProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly stdin: Writable;
  /** Its output so far, the last mebibyte of it. */
  stdout(): string;
  stderr(): string;
  readonly exited: Promise<{ status: number | null; signal: NodeJS.Signals | null }>;
  /** SIGTERM, and SIGKILL if that does not end it in time. */
  stop(): Promise<void>;
}

/** Starts a command. With `timeoutMs` it is killed after that time. */
export function startProcess(
  command: string,
  args: readonly string[],
  options: StartOptions = {},
): RunningProcess {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
    stdio: ['pipe', 'pipe', 'pipe', ...(options.ipc === true ? ['ipc' as const] : [])],
    env: options.env ?? process.env,
    cwd: options.cwd,
    timeout: options.timeoutMs ?? 0,
    killSignal: 'SIGKILL',
  });
  const [stdin, stdout, stderr] = child.stdio as unknown as [Writable, Readable, Readable];
  const exited = once(child, 'close').then((values) => {
    const [status, signal] = values as [number | null, NodeJS.Signals | null];
    return { status, signal };
  });
  // Awaited by some callers; a spawn error must not be an unhandled rejection for the others.
  exited.catch(() => undefined);
  stdin.on('error', () => undefined);
  if (options.onLine !== undefined) createInterface({ input: stdout }).on('line', options.onLine);
  const readStdout = options.onLine === undefined ? keepTail(stdout) : (): string => '';
  const running: RunningProcess = {
    child,
    pid: child.pid ?? -1,
    stdin,
    stdout: readStdout,
    stderr: keepTail(stderr),
    exited,
    stop: () => stop(child, exited),
    [Symbol.asyncDispose]: () => stop(child, exited),
  };
  return running;
}

/** `run` with the limits of a short administrative command. */
export async function runShort(
  command: string,
  args: readonly string[],
  input = '',
): Promise<string> {
  return (await run(command, args, { input, timeoutMs: runTimeoutMs * patience })).stdout;
}

/** Whether a process of this id exists. */
export function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function stop(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  if (child.pid === undefined) return;
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs * patience);
  await exited;
  clearTimeout(timer);
}

function keepTail(stream: Readable): () => string {
  let text = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    text = (text + chunk).slice(-outputCharactersMax);
  });
  return () => text;
}
