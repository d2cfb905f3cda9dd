// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Operating errors: what went wrong outside of the program, said so that an operator can act on it. Bad
// input is a `Result`, a bug is an assertion; neither is one of these.

import { type ErrorCode, errorCodes } from '@tandem/core/codes/errors';

/** Facts about an error as fields: what was attempted, on what. Values are for logs and status. */
export type ErrorFacts = Readonly<Record<string, string | number | boolean>>;

export interface TandemErrorOptions {
  readonly cause?: unknown;
  readonly facts?: ErrorFacts;
}

/** The fields that Node puts on errors of system calls, and our addons beside them: a code of ours, and the errno by name. */
interface SystemErrorFields {
  readonly code?: unknown;
  readonly syscall?: unknown;
  readonly path?: unknown;
  readonly errnoName?: unknown;
}

export class TandemError extends Error {
  override readonly name: string = 'TandemError';
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;

  /** `message` says what was attempted, on what, and what the operator can do. */
  constructor(code: ErrorCode, message: string, options: TandemErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.facts = options.facts ?? {};
  }

  /**
   * Makes a TandemError of a caught value: itself, an error with a code of ours under that code, an error of a system call
   * with its errno as a fact, or TANDEM_UNEXPECTED. `attempt` opens the message: "read /etc/tandem.yaml".
   */
  static from(caught: unknown, attempt?: string): TandemError {
    if (caught instanceof TandemError) return caught;
    const prefix = attempt === undefined ? '' : `${attempt}: `;
    if (!(caught instanceof Error)) {
      return new TandemError('TANDEM_UNEXPECTED', `${prefix}${String(caught)}`, { cause: caught });
    }
    const { code, syscall, path, errnoName } = caught as SystemErrorFields;
    const isOurs = typeof code === 'string' && Object.hasOwn(errorCodes, code);
    const isSystem = typeof code === 'string' && typeof syscall === 'string';
    if (!isOurs && !isSystem) {
      return new TandemError('TANDEM_UNEXPECTED', `${prefix}${caught.message}`, { cause: caught });
    }
    const facts = {
      ...text('errno', isOurs ? errnoName : code),
      ...text('syscall', syscall),
      ...text('path', path),
    };
    const named = isOurs ? (code as ErrorCode) : 'TANDEM_SYSTEM';
    return new TandemError(named, `${prefix}${caught.message}`, { cause: caught, facts });
  }
}

/** The fact, where there is one. */
function text(name: string, value: unknown): ErrorFacts {
  return typeof value === 'string' && value !== '' ? { [name]: value } : {};
}
