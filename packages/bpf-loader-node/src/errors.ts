// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// The one error class of this package. The native side makes it too (native/error.c), so every failed
// call carries code, errno, system call and object. Wrong arguments are TypeError or RangeError with
// code TANDEM_BPF_ARGUMENT: they are bugs of the caller, not states of the kernel.

/**
 * - `OPEN`, `LOAD`: an object file was refused by libbpf or the verifier; see `verifierLog`.
 * - `CLOSED`: use after dispose, or of a handle of another kind.
 * - `KIND`: a pin or fd is not of the kind that was asked for.
 * - `MISMATCH`: a pinned map has another shape than the object declares.
 * - `STATE`: the operation comes too early or too late (before or after load).
 * - `PERMISSION`, `NOT_FOUND`, `EXISTS`, `FULL`, `UNSUPPORTED`, `SYSCALL`: by errno.
 *   `UNSUPPORTED` is only what the kernel says plainly; older kernels answer EINVAL to what they do
 *   not know, so features are decided by `feature.ts`.
 * - `RUNTIME`: this Node cannot run the addon.
 */
export type BpfErrorCode =
  | 'TANDEM_BPF_OPEN'
  | 'TANDEM_BPF_LOAD'
  | 'TANDEM_BPF_CLOSED'
  | 'TANDEM_BPF_KIND'
  | 'TANDEM_BPF_MISMATCH'
  | 'TANDEM_BPF_STATE'
  | 'TANDEM_BPF_PERMISSION'
  | 'TANDEM_BPF_NOT_FOUND'
  | 'TANDEM_BPF_EXISTS'
  | 'TANDEM_BPF_FULL'
  | 'TANDEM_BPF_UNSUPPORTED'
  | 'TANDEM_BPF_SYSCALL'
  | 'TANDEM_BPF_RUNTIME';

/** Facts of a failure on the native side. */
export interface BpfFailure {
  readonly code: BpfErrorCode;
  /** Verb phrase: "update map". */
  readonly action: string;
  /** Name of the map, program, link, object or path. */
  readonly object: string;
  /** Positive errno; 0 when no system call failed. */
  readonly errno: number;
  readonly errnoName?: string;
  readonly errnoText?: string;
  readonly syscall?: string | undefined;
  /** libbpf's warnings during the call, with the verifier's log: the last 64 KiB. */
  readonly log?: string;
  /** Elements of a batch that were done before the error. */
  readonly completed?: number;
}

const logLinesInMessage = 12;
const logBegin = '-- BEGIN PROG LOAD LOG --\n';
const logEnd = '-- END PROG LOAD LOG --';

function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}

/** The verifier's part of libbpf's messages. A long log has lost its front, and the begin line with it. */
function verifierLogOf(log: string | undefined): string | undefined {
  const end = log?.lastIndexOf(logEnd) ?? -1;
  if (log === undefined || end < 0) return undefined;
  const begin = log.lastIndexOf(logBegin, end);
  return log.slice(begin < 0 ? 0 : begin + logBegin.length, end);
}

function messageOf(failure: BpfFailure): string {
  const reason =
    failure.errnoName === undefined ? '' : `: ${failure.errnoName} (${failure.errnoText ?? ''})`;
  const log = failure.log === undefined ? '' : `\n${lastLines(failure.log, logLinesInMessage)}`;
  return `cannot ${failure.action} ${failure.object}${reason}${log}`;
}

/** A BPF operation that the kernel or libbpf refused. */
export class BpfError extends Error {
  readonly code: BpfErrorCode;
  /** Positive errno; 0 when no system call failed. */
  readonly errno: number;
  /** "ENOENT"; empty when `errno` is 0. */
  readonly errnoName: string;
  /** The system call or bpf(2) command; empty when there was none. */
  readonly syscall: string;
  /** Name of the map, program, link, object or path. */
  readonly object: string;
  /** Elements of a batch that were done before the error. */
  readonly completed: number | undefined;
  /** Not enumerable: a logger that prints an error's fields must not print 64 KiB. */
  readonly #log: string | undefined;

  constructor(failure: BpfFailure) {
    super(messageOf(failure));
    this.name = 'BpfError';
    this.code = failure.code;
    this.errno = failure.errno;
    this.errnoName = failure.errnoName ?? '';
    this.syscall = failure.syscall ?? '';
    this.object = failure.object;
    this.completed = failure.completed;
    this.#log = failure.log;
  }

  /** The verifier's log of the refused program: the last 64 KiB. */
  get verifierLog(): string | undefined {
    return verifierLogOf(this.#log);
  }

  /** Everything that libbpf said during the call: the last 64 KiB. */
  get libbpfLog(): string | undefined {
    return this.#log;
  }
}
