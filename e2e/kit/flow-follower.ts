// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * An observer of one process that follows it through its lives: what any of them shows is kept, so that
 * what was shown before a kill counts.
 */

import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { EventType } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { adminClient, socketPath } from './flows.ts';
import type { ProcessName, TandemNode } from './tandem-node.ts';

const retryMs = 50;

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => resolve(true));
    socket.on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

export class FlowFollower implements AsyncDisposable {
  /** Drop events, by time, ports and reason. */
  readonly keys: Set<string> = new Set();
  /** Losses by reason, over all process runs. */
  readonly lost: Record<string, number> = {};
  /** Events that one run showed twice. */
  repeated = 0;
  /** Events that the store had overwritten before they were shown. */
  overwritten = 0;
  readonly #abort = new AbortController();
  readonly #run: Promise<void>;

  constructor(tandem: TandemNode, name: ProcessName, port: number) {
    this.#run = this.#follow(tandem, name, port);
  }

  async #follow(tandem: TandemNode, name: ProcessName, port: number): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        // grpc-js connects on for a client that was closed after it failed: too many of them and the
        // process takes no more.
        if (await isListening(socketPath(tandem, name))) await this.#followLife(tandem, name, port);
      } catch {
        // Killed.
      }
      await delay(retryMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #followLife(tandem: TandemNode, name: ProcessName, port: number): Promise<void> {
    const { signal } = this.#abort;
    using client = adminClient(tandem, name);
    const life = new Set<string>();
    const request = { last: 100_000, follow: true, type: EventType.EVENT_TYPE_DROP };
    for await (const event of client.serverStream(AdminService.observe, request, signal)) {
      const { drop, dropReason, lostEvents, lost } = event;
      this.overwritten += lost;
      if (lostEvents !== null) {
        this.lost[lostEvents.reason] = (this.lost[lostEvents.reason] ?? 0) + lostEvents.count;
      }
      if (drop === null || drop.destinationPort !== port) continue;
      const key = `${drop.timeNs} ${drop.sourcePort} ${dropReason}`;
      if (life.has(key)) this.repeated += 1;
      life.add(key);
      this.keys.add(key);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#run;
  }
}
