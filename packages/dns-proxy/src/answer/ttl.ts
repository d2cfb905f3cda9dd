// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Lifetime of a learned address, before the grace is added. */

import { ttlSecondsMax } from '../limits.ts';

/** TTL of an answer in seconds, at most `ttlSecondsMax` (threat T7) and at least the option `ttlSecondsMin`. */
export function clampTtl(ttlSeconds: number, ttlSecondsMin: number): number {
  return Math.max(Math.min(ttlSeconds, ttlSecondsMax), ttlSecondsMin);
}
