// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * SHA-256 (FIPS 180-4) of texts, for content-addressed ids: a tenant who may write a policy must not be able to make its content
 * collide with another tenant's. The one module of the platform that `core` uses: a hash is a function of its input.
 */

import { hash } from 'node:crypto';

/** The first 128 bits of the SHA-256 of the text's UTF-8, as 32 hexadecimal digits. */
export function digest128(text: string): string {
  return hash('sha256', text, 'hex').slice(0, 32);
}

/** The first 32 bits of it as a number. */
export function digest32(text: string): number {
  return Number.parseInt(hash('sha256', text, 'hex').slice(0, 8), 16);
}
