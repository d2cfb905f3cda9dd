// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * - `SYSTEM`: a system call failed, see `errnoName` and `syscall`.
 * - `ARGUMENT`: an argument has the wrong type or range.
 * - `DETACHED`: a loop's payload buffer was detached.
 * - `LIBUV`: this node cannot run the addon.
 */
export const socketErrorCodes = [
  'TANDEM_SOCKET_SYSTEM',
  'TANDEM_SOCKET_ARGUMENT',
  'TANDEM_SOCKET_DETACHED',
  'TANDEM_SOCKET_LIBUV',
] as const;
export type SocketErrorCode = (typeof socketErrorCodes)[number];

/** An error of the kernel or of this package: the operation and its object. */
export class DnsSocketError extends Error {
  override readonly name = 'DnsSocketError';
  readonly code: SocketErrorCode;
  /** Positive Linux errno; 0 if none. */
  readonly errno: number;
  /** `EADDRINUSE` and the like; '' if none. */
  readonly errnoName: string;
  /** `bind`, `setsockopt(SO_MARK)`; '' if none. */
  readonly syscall: string;

  constructor(
    message: string,
    facts: {
      readonly code: SocketErrorCode;
      readonly errno?: number;
      readonly errnoName?: string;
      readonly syscall?: string;
      readonly cause?: unknown;
    },
  ) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = facts.code;
    this.errno = facts.errno ?? 0;
    this.errnoName = facts.errnoName ?? '';
    this.syscall = facts.syscall ?? '';
  }

  /** Turns an error of the addon into a DnsSocketError; anything else is returned unchanged. */
  static from(thrown: unknown): unknown {
    if (!(thrown instanceof Error) || thrown instanceof DnsSocketError) return thrown;
    const facts = thrown as Partial<Record<'code' | 'errno' | 'errnoName' | 'syscall', unknown>>;
    const code = socketErrorCodes.find((each) => each === facts.code);
    if (code === undefined) return thrown;
    return new DnsSocketError(thrown.message, {
      code,
      errno: typeof facts.errno === 'number' ? facts.errno : 0,
      errnoName: typeof facts.errnoName === 'string' ? facts.errnoName : '',
      syscall: typeof facts.syscall === 'string' ? facts.syscall : '',
      cause: thrown,
    });
  }
}

/** Runs a call into the addon and throws its errors as DnsSocketError. */
export function attempt<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw DnsSocketError.from(thrown);
  }
}
