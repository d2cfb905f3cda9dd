// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounded waits for a condition: the only way a test lets time pass. */

import { setTimeout as delay } from 'node:timers/promises';

const firstDelayMs = 1;
const delayMsMax = 50;

/** Bound of a wait that says none, ms. It ends a wait in vain; it is no figure of the product. */
const timeoutMsDefault = 20_000;

/**
 * How many times longer than usual a state may take to come: on an emulated machine (e2e/kernels), and
 * beside other test files on the same CPUs (scripts/test.sh).
 */
export const patience: number = Number(process.env['TANDEM_TEST_PATIENCE'] ?? 1);

export interface WaitOptions {
  /** Multiplied by `patience`. Default `timeoutMsDefault`. */
  readonly timeoutMs?: number;
  /** Named in the error: "waited 20000 ms for WHAT". */
  readonly what: string;
  /** Added to the error: what there is instead. */
  readonly state?: () => string;
}

/**
 * The first value of `condition` that is neither false, null nor undefined. What it throws counts as
 * "not yet" and becomes the cause of the error when time is over.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  { timeoutMs = timeoutMsDefault, what, state }: WaitOptions,
): Promise<Exclude<T, false | null | undefined>> {
  const patientMs = timeoutMs * patience;
  const deadline = performance.now() + patientMs;
  let pauseMs = firstDelayMs;
  let cause: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value !== false && value !== null && value !== undefined) {
        return value as Exclude<T, false | null | undefined>;
      }
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= deadline) {
      const instead = state === undefined ? '' : `: ${state()}`;
      throw new Error(`waited ${patientMs} ms for ${what}${instead}`, { cause });
    }
    await delay(pauseMs);
    pauseMs = Math.min(delayMsMax, pauseMs * 2);
  }
}
