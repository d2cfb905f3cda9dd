// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Connection of the two main threads: two gRPC streams, which can be cut, or stall.
 */

import type { PolicyServer } from '@tandem/agent/sync/policy-server';
import type { Life } from './life.ts';
import type { Snapshot } from './main-thread.ts';
import { PolicyCall } from './policy-call.ts';
import type { Random } from './random.ts';
import { connect } from './stream.ts';
import type { World } from './world.ts';

/** Share of schedules. */
const slowShare = 0.1;
const slowMs = 1500;
const token = new Uint8Array(1);

export class Peers {
  /** The streams stall, and no new ones are opened. */
  isPartitioned = false;
  readonly #world: World;
  /** A source of its own: a schedule without slow streams is the same as if there were none anywhere. */
  readonly #random: Random;
  /** A backlog of names: what one process sends is read late by the other, and policy is not. */
  #isSlow: boolean;
  readonly #published = new Map<number, Snapshot>();

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
    this.#isSlow = random.chance(slowShare);
  }

  heal(): void {
    this.isPartitioned = false;
    this.#isSlow = false;
  }

  /** How long after a message the next one of the stream is read. */
  delayNs(): number {
    return this.#isSlow ? this.#random.int(slowMs) * 1e6 : 0;
  }

  /** Both gRPC streams end. */
  cutStreams(): void {
    for (const life of this.#world.lives) {
      life?.main.stream?.close();
      life?.main.policyCall?.close();
    }
  }

  canTalk(): boolean {
    return !this.isPartitioned;
  }

  openStream(proxy: Life): void {
    const agent = this.#world.lives[0];
    if (agent === null || agent.worker === null || !this.canTalk() || agent.main.stream !== null)
      return;
    const [mine, theirs] = connect();
    proxy.main.stream = mine;
    agent.main.stream = theirs;
    proxy.main.exchange.open(mine);
    agent.main.exchange.open(theirs);
  }

  openPolicyCall(proxy: Life): void {
    const agent = this.#world.lives[0];
    const server = agent?.main.agent?.server ?? null;
    if (agent === null || server === null || !this.canTalk() || agent.main.policyCall !== null)
      return;
    const call = new PolicyCall(proxy, agent, server);
    proxy.main.policyCall = call;
    agent.main.policyCall = call;
  }

  publish(revision: number, snapshot: Snapshot, server: PolicyServer): void {
    this.#published.set(revision, snapshot);
    server.publish(revision, token);
  }

  published(revision: number): Snapshot | undefined {
    return this.#published.get(revision);
  }
}
