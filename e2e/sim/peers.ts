// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What connects the two main threads: two gRPC streams, which can be cut, or stall.
 */

import type { PolicyServer } from '@tandem/agent/sync/policy-server';
import type { Life } from './life.ts';
import type { Snapshot } from './main-thread.ts';
import { PolicyCall } from './policy-call.ts';
import { connect } from './stream.ts';
import type { World } from './world.ts';

const token = new Uint8Array(1);

export class Peers {
  /** The streams stall, and no new ones are opened. */
  isPartitioned = false;
  readonly #world: World;
  readonly #published = new Map<number, Snapshot>();

  constructor(world: World) {
    this.#world = world;
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
