// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Why the API server cannot be read, as far as the advice differs. */

export type FailureCause =
  /** No connection, or one that ended. */
  | 'network'
  /** The server's certificate is not accepted. */
  | 'trust'
  /** Credentials are missing, unreadable or not accepted. */
  | 'credentials'
  /** The client is known, and may not do what it asks for. */
  | 'rights'
  /** The server answers, but not with objects. */
  | 'server';

/** Codes of Node.js and OpenSSL for a certificate that is not accepted. */
const trustPattern = /^(CERT_|ERR_TLS_CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH)/;
/** A file that is not there, or that OpenSSL cannot read. */
const credentialsPattern = /^(ENOENT|EACCES|EISDIR|ERR_OSSL_|ERR_CRYPTO_)/;

/** Cause of an error of a connection, or of reading its credentials. */
export function connectionFailure(error: unknown): {
  readonly cause: FailureCause;
  readonly message: string;
} {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (trustPattern.test(code)) {
    // What follows a semicolon is advice about options of Node.js.
    const [reason = ''] = message.split(';');
    return {
      cause: 'trust',
      message: `the API server's certificate is not accepted: ${reason} (${code})`,
    };
  }
  return { cause: credentialsPattern.test(code) ? 'credentials' : 'network', message };
}

/** Cause of an answer other than 200. */
export function statusCause(status: number): FailureCause {
  if (status === 401) return 'credentials';
  return status === 403 ? 'rights' : 'server';
}

/** An attempt to read that failed. */
export interface Failure {
  readonly message: string;
  readonly cause: FailureCause;
  /** Wait that the server asks for, ms. */
  readonly retryAfterMs: number;
  /** The session has waited as long as is right. */
  readonly hasWaited?: true;
}

export function forbidden(retryAfterMs: number): Failure {
  const message = 'the API server answers 403: its ClusterRole must allow get, list and watch';
  return { message, cause: 'rights', retryAfterMs };
}

export function failure(message: string, cause: FailureCause = 'server'): Failure {
  return { message, cause, retryAfterMs: 0 };
}
