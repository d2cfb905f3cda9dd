// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Pools of real UDP sockets to addresses without a server, for the tests of `UdpPool`. */

import { noPolicy, type PolicyId } from '@tandem/core/ids';
import { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { upstreamSilenceMs, upstreamSocketLifetimeMs } from '../src/limits.ts';
import { RandomPool, type RandomSource } from '../src/query/random.ts';
import type { ServerHandle, ServerOwner } from '../src/udp/servers.ts';
import { UdpPool } from '../src/udp/upstream.ts';
import type { UpstreamAddress } from '../src/udp/upstream-sockets.ts';

/** 127.0.0.n: no server answers, and nothing is sent. */
export const addressOf = (n: number): Uint8Array =>
  Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, n >> 8, n & 0xff);
export const server: Uint8Array = addressOf(1);
export const resolver: ServerOwner = { endpointId: 0, policyId: noPolicy, isResolver: true };
export function ownerOf(endpointId: number, policyId = 1): ServerOwner {
  return { endpointId, policyId: policyId as PolicyId, isResolver: false };
}
export const pastAnyLife: number = upstreamSocketLifetimeMs * 2;
export const silentMs: number = 1000 + upstreamSilenceMs;

const opened: { close(): void }[] = [];

export interface OpenPool {
  readonly pool: UdpPool;
  readonly loop: UdpLoop;
}

export function openPool(
  createSocket?: (to: UpstreamAddress) => number,
  random: RandomSource = new RandomPool(),
): OpenPool {
  const loop = new UdpLoop({
    buffer: new Uint8Array(512),
    slots: 1,
    slotBytes: 512,
    onBatch: () => undefined,
    onSocketError: () => undefined,
  });
  const pool = new UdpPool(loop, random, createSocket);
  opened.push(pool, loop);
  return { pool, loop };
}

/** After each test. */
export function closePools(): void {
  for (const each of opened.splice(0)) each.close();
}

/** Sends on so many sockets; their handles, each once. */
export function sendOnSockets(
  pool: UdpPool,
  handle: ServerHandle,
  batches: number,
  nowMs: number,
): number[] {
  const sockets = new Set<number>();
  for (let batch = 1; batch <= batches; batch++) {
    const socket = pool.draw(handle, batch, nowMs);
    pool.sent(socket, nowMs);
    sockets.add(socket);
  }
  return [...sockets];
}
