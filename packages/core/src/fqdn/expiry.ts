// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * When a learned address stops to count: boottime seconds. TTLs are clamped (threat T7), and every
 * address lives for a grace longer, for clients that use a name's address a moment after its TTL.
 */

import { fqdnTtlSecondsMax, fqdnTtlSecondsMin } from '../limits.ts';

export interface ExpiryOptions {
  /** Least lifetime (Cilium: tofqdns-min-ttl), 0 for none. */
  readonly ttlSecondsMin: number;
  /** Added to every lifetime; default of the product 30. */
  readonly graceSeconds: number;
}

/** Expiry of an address that was learned at `nowSeconds` with a TTL of `ttlSeconds`. */
export function expiresAt(nowSeconds: number, ttlSeconds: number, options: ExpiryOptions): number {
  const least = Math.max(fqdnTtlSecondsMin, options.ttlSecondsMin);
  const ttl = Math.min(Math.max(ttlSeconds, least), fqdnTtlSecondsMax);
  return nowSeconds + ttl + options.graceSeconds;
}
