// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What connects the two processes: the link of the workers with each other's descriptors, and the two
 * gRPC streams of the main threads. Any of it can be cut, or stall.
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
  #link: object | null = null;
  #linkNs = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** A worker listens or begins to connect. */
  linkSoon(): void {
    this.#linkNs = this.#world.nowNs + this.#world.random.int(100) * 1e6;
  }

  /** The peer link ends; whoever lives hears of it. */
  cutLink(): void {
    const link = this.#link;
    if (link === null) return;
    this.#link = null;
    this.#linkNs = this.#world.nowNs + (20 + this.#world.random.int(80)) * 1e6;
    for (const life of this.#world.lives) {
      if (life === null) continue;
      life.worker?.linkEvents.push({ kind: 'end', link, member: 1 - life.index });
    }
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
    const server = agent?.main.server ?? null;
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

  tryLink(): void {
    const [agent, proxy] = this.#world.lives;
    if (this.#link !== null || this.#world.nowNs < this.#linkNs || agent === null || proxy === null)
      return;
    if (agent.worker === null || proxy.worker === null || agent.isFrozen || proxy.isFrozen) return;
    const link = {};
    this.#link = link;
    const hello = (from: Life, to: Life): void => {
      const fds = (from.worker?.fds ?? []).map((fd) => to.hold(from.socketOf(fd)));
      to.worker?.linkEvents.push({ kind: 'hello', link, member: from.index, fds });
    };
    hello(agent, proxy);
    hello(proxy, agent);
    this.#world.trace.note('the workers link');
  }
}
