// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Bad input is a value: parsers return `Result`, they do not throw. A caller narrows on `ok`, so an
 * error that the caller ignores is a type error. Hot paths use numeric statuses instead.
 */
export type Result<T, E> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: E };

/** A success that carries `value`. */
export function ok<T>(value: T): { readonly ok: true; readonly value: T } {
  return { ok: true, value };
}

/** A failure that carries `error`. */
export function err<E>(error: E): { readonly ok: false; readonly error: E } {
  return { ok: false, error };
}
