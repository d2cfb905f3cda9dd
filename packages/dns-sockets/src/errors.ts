// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** An error of the kernel or of this package, with what was attempted on what. */
export class DnsSocketError extends Error {
  override readonly name = 'DnsSocketError';
  /**
   * `TANDEM_SOCKET_SYSTEM`: a system call failed, see `errnoName` and `syscall`.
   * `TANDEM_SOCKET_ARGUMENT`: an argument has the wrong type or range.
   * `TANDEM_SOCKET_DETACHED`: a loop's payload buffer was detached.
   * `TANDEM_SOCKET_LIBUV`: this node cannot run the addon.
   */
  readonly code: string;
  /** Positive Linux errno; 0 if none. */
  readonly errno: number;
  /** `EADDRINUSE` and the like; '' if none. */
  readonly errnoName: string;
  /** `bind`, `setsockopt(SO_MARK)`; '' if none. */
  readonly syscall: string;

  constructor(
    message: string,
    facts: {
      readonly code: string;
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

  /** What the addon threw, as a DnsSocketError; anything else unchanged. */
  static from(thrown: unknown): unknown {
    if (!(thrown instanceof Error) || thrown instanceof DnsSocketError) return thrown;
    const facts = thrown as Partial<Record<'code' | 'errno' | 'errnoName' | 'syscall', unknown>>;
    if (typeof facts.code !== 'string' || !facts.code.startsWith('TANDEM_SOCKET_')) return thrown;
    return new DnsSocketError(thrown.message, {
      code: facts.code,
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
