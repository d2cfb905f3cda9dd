// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { ErrorCode } from './codes/errors.ts';

/**
 * A broken invariant is a bug: nothing above catches it, the process exits and the other member of
 * the socket group serves on. Never use it for input; input is judged by `Result` and statuses.
 */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
  readonly code: Extract<ErrorCode, 'TANDEM_BUG'> = 'TANDEM_BUG';
}

/** Throws an `AssertionError` unless `condition` holds. `message` says what must be true. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** The default branch of an exhaustive switch: a type error if a case is missing. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}
