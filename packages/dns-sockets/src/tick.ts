// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A callback at even intervals from where the thread waits for its UDP sockets: a fraction of what a timer
 * of Node costs, and no wake-up of its own while datagrams come all the time.
 */

import { attempt } from './errors.ts';
import { tickMsMax } from './limits.ts';
import { native } from './native.ts';

/**
 * Calls `callback` every `ms`, after the datagrams that had come by then; one tick of a thread, a second
 * call takes the place of the first. As onBatch
 * of a UdpLoop it runs outside of Node's callback scope: promises and ticks made in it wait for the next
 * scope, timers and immediates do not. If it throws, the error is an uncaught exception, and the tick goes
 * on. Keeps the thread alive.
 *
 * @throws DnsSocketError, RangeError
 */
export function startTick(ms: number, callback: () => void): void {
  if (!Number.isInteger(ms) || ms < 1 || ms > tickMsMax) {
    throw new RangeError(`the interval of a tick must be an integer from 1 to ${tickMsMax}: ${ms}`);
  }
  attempt(() => native.tickStart(ms, callback));
}

/** Idempotent; also within the callback. */
export function stopTick(): void {
  native.tickStop();
}
