// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The policy stream: the agent's `PolicyServer` at one end, what the proxy's client does at the other. */

import type { PolicyServer } from '@tandem/agent/sync/policy-server';
import type { PolicyAck, PolicyUpdateInit } from '@tandem/proto/gen/messages';
import type { Life } from './life.ts';

type Handler = (message?: unknown) => void;

export class PolicyCall {
  isOpen = true;
  readonly #proxy: Life;
  readonly #agent: Life;
  readonly #updates: PolicyUpdateInit[] = [];
  readonly #acks: PolicyAck[] = [];
  readonly #handlers = new Map<string, Handler>();

  constructor(proxy: Life, agent: Life, server: PolicyServer) {
    this.#proxy = proxy;
    this.#agent = agent;
    const call = {
      on: (event: string, handler: Handler) => this.#handlers.set(event, handler),
      write: (update: PolicyUpdateInit) => this.#updates.push(update) < 100,
      end: () => this.close(),
    };
    server.handle(call as unknown as Parameters<PolicyServer['handle']>[0]);
    this.acknowledge(proxy.main.revision);
  }

  close(): void {
    this.isOpen = false;
  }

  acknowledge(revision: number): void {
    if (!this.isOpen) return;
    this.#acks.push({
      member: this.#proxy.index,
      revision,
      failedRevision: 0,
      error: '',
    } as PolicyAck);
  }

  /** Turn of either end of the call. */
  turn(): void {
    const { world } = this.#proxy;
    if (!this.isOpen) {
      this.#handlers.get('close')?.();
      if (this.#proxy.main.policyCall === this) this.#proxy.main.policyCall = null;
      if (this.#agent.main.policyCall === this) this.#agent.main.policyCall = null;
      return;
    }
    if (!world.peers.canTalk()) return;
    if (world.turning === this.#agent) {
      for (let ack = this.#acks.shift(); ack !== undefined; ack = this.#acks.shift())
        this.#handlers.get('data')?.(ack);
      return;
    }
    for (let update = this.#updates.shift(); update !== undefined; update = this.#updates.shift()) {
      const snapshot = world.peers.published(update.revision ?? 0);
      if (snapshot !== undefined) this.#proxy.main.install(snapshot);
    }
  }
}
