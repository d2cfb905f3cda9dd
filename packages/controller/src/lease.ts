// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The one of several controllers that writes: the holder of a Lease. Clocks of machines are not compared. A candidate takes
 * the lease when it has seen no change of it for its whole duration, by its own clock; the leader stops to be one when its
 * last renewal was *sent* two thirds of the duration ago, by its own clock, which continues while the process is stopped. So
 * for a third of the duration between the two no controller writes.
 */

import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Fields, isFields } from '@tandem/core/k8s/shape';
import { callApi, messageOf } from '@tandem/kube/call';
import type { KubeSession } from '@tandem/kube/session';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import type { Clock } from '@tandem/runtime/system-clock';
import {
  leaseAttemptShare,
  leaseDurationMaxMs,
  leaseGiveUpMs,
  leaseRetryShare,
  renewDeadlineShare,
} from './limits.ts';

export interface LeaseOptions {
  readonly session: KubeSession;
  readonly namespace: string;
  readonly name: string;
  /** Identity of this process; a part that differs from former processes is added. */
  readonly identity: string;
  readonly durationMs: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** This process is the leader from now on; `isLeader` says for how long. Aborted when it is none any more. */
  readonly onLead: (signal: AbortSignal) => void;
}

/** Result of `#put` that is not a failure. */
const changed = 'changed';

/** As it was read last. */
interface Observed {
  readonly resourceVersion: string;
  readonly holder: string;
  readonly transitions: number;
  readonly acquired: string;
  readonly durationMs: number;
}

export class Lease implements Component {
  readonly name = 'lease';
  readonly counters = { renewed: 0, failed: 0, taken: 0, lost: 0 };
  readonly identity: string;
  readonly #o: LeaseOptions;
  readonly #stop = new AbortController();
  #observed: Observed | null = null;
  /** When it was first seen as it is, ms of the own clock. */
  #seenMs = 0;
  /** When an answer came last. */
  #readMs = Number.NEGATIVE_INFINITY;
  #leadsUntilMs = Number.NEGATIVE_INFINITY;
  #term: AbortController | null = null;
  #expiry: NodeJS.Timeout | undefined;
  #running: Promise<void> | null = null;
  #problem = '';

  constructor(options: LeaseOptions) {
    this.#o = options;
    this.identity = `${options.identity}_${randomUUID()}`;
  }

  /** Asked before each write. */
  get isLeader(): boolean {
    return this.#term !== null && this.#nowMs() < this.#leadsUntilMs;
  }

  /** How long ago the lease was read or written, ms. */
  get ageMs(): number {
    return this.#nowMs() - this.#readMs;
  }

  get holder(): string {
    return this.#observed?.holder ?? '';
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Gives the lease up, so that another one need not wait for its end. */
  async stop(): Promise<void> {
    const wasLeader = this.isLeader;
    this.#endTerm();
    this.#stop.abort();
    await this.#running;
    const observed = this.#observed;
    if (!wasLeader || observed === null) return;
    const isGiven = this.#put(observed, '').catch(() => undefined);
    await Promise.race([isGiven, delay(leaseGiveUpMs, undefined, { ref: false })]);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const retryMs = this.#o.durationMs * leaseRetryShare;
    while (!signal.aborted) {
      // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
      const problem = await this.#attempt();
      if (signal.aborted) return;
      if (problem !== '') this.counters.failed += 1;
      this.#say(problem);
      // Candidates of a cluster do not all come at once.
      const waitMs = this.isLeader ? retryMs : retryMs * (1 + Math.random() / 5);
      // oxlint-disable-next-line no-await-in-loop
      await delay(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Error of an attempt; empty: none. */
  async #attempt(): Promise<string> {
    try {
      const known = this.#observed;
      if (known !== null && known.holder === this.identity && this.isLeader) {
        const problem = await this.#put(known, this.identity);
        // An answer that was lost may have been a success.
        return problem === changed ? await this.#readAndTake() : problem;
      }
      return await this.#readAndTake();
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  async #readAndTake(): Promise<string> {
    const { session } = this.#o;
    const answer = await callApi(session, {
      method: 'GET',
      path: this.#path,
      signal: this.#attemptSignal,
    });
    if (answer.status === 404) return this.#create();
    if (answer.status !== 200) return messageOf(answer);
    this.#observe(answer.object);
    const observed = this.#observed;
    if (observed === null) return 'the Lease has no resourceVersion';
    if (observed.holder !== this.identity) this.#endTerm();
    const isFree = observed.holder === '' || observed.holder === this.identity;
    if (!isFree && this.#nowMs() - this.#seenMs < observed.durationMs) return '';
    const problem = await this.#put(observed, this.identity);
    if (problem !== changed) return problem;
    this.#endTerm();
    return '';
  }

  async #create(): Promise<string> {
    const { session, name, namespace } = this.#o;
    const sentMs = this.#nowMs();
    const answer = await callApi(session, {
      method: 'POST',
      path: this.#path.slice(0, this.#path.lastIndexOf('/')),
      content: {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name, namespace },
        spec: this.#spec(this.identity, 0, ''),
      },
      signal: this.#attemptSignal,
    });
    if (answer.status === 409) return '';
    if (answer.status >= 300) return messageOf(answer);
    this.#observe(answer.object);
    this.#lead(sentMs);
    return '';
  }

  /** Writes the holder to the Lease that was read; an empty holder releases it. Gives `changed` if another process has written it since. */
  async #put(from: Observed, holder: string): Promise<string> {
    const { session, name, namespace } = this.#o;
    const transitions = from.transitions + (holder === '' || holder === from.holder ? 0 : 1);
    const sentMs = this.#nowMs();
    const answer = await callApi(session, {
      method: 'PUT',
      path: this.#path,
      content: {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name, namespace, resourceVersion: from.resourceVersion },
        spec: this.#spec(holder, transitions, holder === from.holder ? from.acquired : ''),
      },
      ...(holder === '' ? {} : { signal: this.#attemptSignal }),
    });
    if (answer.status === 409 || answer.status === 404) return changed;
    if (answer.status >= 300) return messageOf(answer);
    this.#observe(answer.object);
    if (holder === '') return '';
    this.#lead(sentMs);
    return '';
  }

  /** `acquired`: as it was read; empty: now. */
  #spec(holder: string, transitions: number, acquired: string): Fields {
    const now = new Date().toISOString().replace('Z', '000Z');
    // One that is given up is free at once for others, as those of client-go read it too.
    const seconds = holder === '' ? 1 : Math.ceil(this.#o.durationMs / 1000);
    return {
      holderIdentity: holder,
      leaseDurationSeconds: seconds,
      acquireTime: acquired === '' ? now : acquired,
      renewTime: now,
      leaseTransitions: transitions,
    };
  }

  #observe(object: Fields): void {
    const nowMs = this.#nowMs();
    this.#readMs = nowMs;
    const metadata = isFields(object['metadata']) ? object['metadata'] : {};
    const spec = isFields(object['spec']) ? object['spec'] : {};
    const { resourceVersion } = metadata;
    if (typeof resourceVersion !== 'string') {
      this.#observed = null;
      return;
    }
    if (this.#observed?.resourceVersion !== resourceVersion) this.#seenMs = nowMs;
    const { holderIdentity, leaseTransitions, leaseDurationSeconds, acquireTime } = spec;
    const seconds = typeof leaseDurationSeconds === 'number' ? leaseDurationSeconds : 0;
    this.#observed = {
      resourceVersion,
      holder: typeof holderIdentity === 'string' ? holderIdentity : '',
      acquired: typeof acquireTime === 'string' ? acquireTime : '',
      transitions: typeof leaseTransitions === 'number' ? leaseTransitions : 0,
      // The writer's duration, or ours if that is longer: another version may have written it.
      durationMs: Math.min(Math.max(seconds * 1000, this.#o.durationMs), leaseDurationMaxMs),
    };
  }

  #lead(sentMs: number): void {
    this.#leadsUntilMs = sentMs + this.#o.durationMs * renewDeadlineShare;
    const leftMs = this.#leadsUntilMs - this.#nowMs();
    // An answer that came too late, of before this process was stopped for a while.
    if (leftMs <= 0 || this.#stop.signal.aborted) {
      this.#endTerm();
      return;
    }
    this.counters.renewed += 1;
    this.#expireIn(leftMs);
    if (this.#term !== null) return;
    this.counters.taken += 1;
    this.#o.log.info('this controller holds the lease and writes to the API server', {
      identity: this.identity,
    });
    this.#term = new AbortController();
    this.#o.onLead(this.#term.signal);
  }

  #expireIn(leftMs: number): void {
    clearTimeout(this.#expiry);
    this.#expiry = setTimeout(() => this.#onExpiry(), leftMs);
  }

  #onExpiry(): void {
    // The timer may be some ms early: Node.js counts whole ms from the start of a turn of the event loop.
    if (this.isLeader) this.#expireIn(this.#leadsUntilMs - this.#nowMs());
    else this.#endTerm();
  }

  #endTerm(): void {
    clearTimeout(this.#expiry);
    this.#leadsUntilMs = Number.NEGATIVE_INFINITY;
    const term = this.#term;
    if (term === null) return;
    this.#term = null;
    if (!this.#stop.signal.aborted) {
      this.counters.lost += 1;
      this.#o.log.warn('this controller lost the lease and writes nothing');
    }
    term.abort();
  }

  /** One answer that does not come leaves time for another attempt before the deadline. */
  get #attemptSignal(): AbortSignal {
    const timeout = AbortSignal.timeout(Math.ceil(this.#o.durationMs * leaseAttemptShare));
    return AbortSignal.any([timeout, this.#stop.signal]);
  }

  get #path(): string {
    const { namespace, name } = this.#o;
    return `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/${name}`;
  }

  #nowMs(): number {
    return this.#o.clock.boottimeSeconds() * 1000;
  }

  #say(problem: string): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    if (problem !== '') this.#o.log.error('the lease cannot be read or written', { problem });
    else this.#o.log.info('the lease is read again');
  }
}
