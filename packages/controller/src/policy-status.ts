// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Conditions of all policy objects of one kind: computed when an object comes, and written only where the object has another
 * one. By server-side apply, which leaves what other writers hold as it is.
 */

import type { Fields } from '@tandem/core/k8s/shape';
import { isFields } from '@tandem/core/k8s/shape';
import { patchTypes } from '@tandem/kube/call';
import type { ObjectSink } from '@tandem/kube/object-sink';
import type { Resource } from '@tandem/kube/resource';
import type { Logger } from '@tandem/runtime/log';
import {
  conditionsBurst,
  conditionsPerSecond,
  definitionLookMs,
  queueKeysMax,
  refusedPauseMs,
  versionPauseMs,
  writesAtOnce,
} from './limits.ts';
import { objectPath } from './object-path.ts';
import {
  type Condition,
  foundCondition,
  isSameCondition,
  policyFindings,
  validCondition,
} from './valid-condition.ts';
import { done, type WorkOutcome, WorkQueue } from './work-queue.ts';
import { fieldManager, type Writer } from './writer.ts';

/** A condition to write. */
interface Wanted {
  readonly resourceVersion: string;
  readonly condition: Condition;
  /** Empty: now. */
  readonly lastTransitionTime: string;
}

export interface PolicyStatusOptions {
  readonly resource: Resource;
  /** The version of the kind that is read, and so the one to write. */
  readonly served: () => Resource;
  /** Whether conditions have Kubernetes' own form. */
  readonly hasReasons: boolean;
  readonly writer: Writer;
  readonly log: Logger;
  /** Whether objects of the kind have a status; null: not known yet. */
  readonly hasStatus: () => boolean | null;
  /** Objects had no room in the queue, and it is empty now. */
  readonly onRoom: () => void;
}

export class PolicyStatus implements ObjectSink {
  readonly queue: WorkQueue;
  readonly #o: PolicyStatusOptions;
  readonly #wanted = new Map<string, Wanted>();
  /** Objects by their findings. */
  readonly #invalid = new Set<string>();
  readonly #valid = new Set<string>();
  #said = '';
  /** When it was said last that a condition was refused. */
  #refusedMs = Number.NEGATIVE_INFINITY;

  constructor(options: PolicyStatusOptions) {
    this.#o = options;
    this.queue = new WorkQueue({
      work: (key) => this.#write(key),
      atOnce: writesAtOnce,
      perSecond: conditionsPerSecond,
      burst: conditionsBurst,
      keysMax: queueKeysMax,
      onRoom: options.onRoom,
    });
  }

  get kind(): string {
    return this.#o.resource.kind;
  }

  get validObjects(): number {
    return this.#valid.size;
  }

  get invalidObjects(): number {
    return this.#invalid.size;
  }

  set(key: string, object: Fields): void {
    const metadata = isFields(object['metadata']) ? object['metadata'] : {};
    const { resourceVersion, deletionTimestamp } = metadata;
    const findings = policyFindings(object);
    if (findings === null || typeof resourceVersion !== 'string') return;
    const { generation } = metadata;
    const observed = typeof generation === 'number' ? generation : 0;
    const condition = validCondition(findings, this.#o.hasReasons ? observed : undefined);
    const isValid = condition.status === 'True';
    (isValid ? this.#valid : this.#invalid).add(key);
    (isValid ? this.#invalid : this.#valid).delete(key);
    const found = foundCondition(object);
    if (isSameCondition(found, condition) || deletionTimestamp !== undefined) {
      this.#forget(key);
      return;
    }
    const lastTransitionTime = found?.status === condition.status ? found.lastTransitionTime : '';
    this.#wanted.set(key, { resourceVersion, condition, lastTransitionTime });
    if (this.queue.add(key)) this.#wanted.delete(key);
  }

  delete(key: string): void {
    this.#valid.delete(key);
    this.#invalid.delete(key);
    this.#forget(key);
  }

  retain(keys: ReadonlySet<string>): void {
    for (const key of [...this.#valid, ...this.#invalid]) if (!keys.has(key)) this.delete(key);
  }

  stateChanged(): void {}

  stop(): void {
    this.queue.stop();
  }

  #forget(key: string): void {
    this.#wanted.delete(key);
    this.queue.forget(key);
  }

  async #write(key: string): Promise<WorkOutcome> {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return done;
    const { writer } = this.#o;
    const resource = this.#o.served();
    const hasStatus = this.#o.hasStatus();
    if (hasStatus !== true) {
      if (hasStatus === false) this.#say('the definition of the kind has no status');
      return { kind: 'pause', forMs: hasStatus === null ? definitionLookMs : refusedPauseMs };
    }
    const { condition, resourceVersion, lastTransitionTime } = wanted;
    const [namespace = '', name = ''] = key.split('/');
    const { result, message, retryAfterMs } = await writer.write('condition', {
      method: 'PATCH',
      path: `${objectPath(resource, key)}/status?fieldManager=${fieldManager}`,
      type: patchTypes.apply,
      content: {
        apiVersion: resource.apiVersion,
        kind: resource.kind,
        metadata: { name, ...(namespace === '' ? {} : { namespace }), resourceVersion },
        status: {
          conditions: [
            {
              ...condition,
              lastTransitionTime:
                lastTransitionTime === '' ? new Date().toISOString() : lastTransitionTime,
            },
          ],
        },
      },
    });
    // A finding that came meanwhile is another write.
    const isOver = result !== 'busy' && result !== 'not-leader';
    if (isOver && this.#wanted.get(key) === wanted) this.#wanted.delete(key);
    switch (result) {
      case 'forbidden':
      case 'unsupported':
        this.#wanted.set(key, this.#wanted.get(key) ?? wanted);
        this.#say(`${result}: ${message}`);
        // The version that was read may be gone, and the next one is about to be read.
        if (result === 'unsupported' && resource.alternatives !== undefined)
          return { kind: 'pause', forMs: versionPauseMs };
        return { kind: 'pause', forMs: refusedPauseMs };
      case 'busy':
        if (retryAfterMs > 0)
          return { kind: 'pause', forMs: Math.min(retryAfterMs, refusedPauseMs) };
        return { kind: 'retry', afterMs: 0 };
      case 'not-leader':
        // The term continues if the lease is renewed after all, and no event would bring the key back.
        return { kind: 'retry', afterMs: 0 };
      case 'refused':
        this.#sayRefused(key, message);
        return done;
      case 'written':
        this.#say('');
        return done;
      default:
        return done;
    }
  }

  /** One object of many that the API server does not take, as one that its definition would not take any more. */
  #sayRefused(key: string, problem: string): void {
    const nowMs = performance.now();
    if (nowMs - this.#refusedMs < refusedPauseMs) return;
    this.#refusedMs = nowMs;
    const { log, resource } = this.#o;
    log.warn('the API server refused a condition', { kind: resource.kind, object: key, problem });
  }

  #say(problem: string): void {
    const { log, resource } = this.#o;
    if (problem === this.#said) return;
    this.#said = problem;
    if (problem === '') log.info('conditions are written', { kind: resource.kind });
    else log.error('conditions cannot be written', { kind: resource.kind, problem });
  }
}
