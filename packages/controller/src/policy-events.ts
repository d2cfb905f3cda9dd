// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Events about NetworkPolicies that Tandem does not carry out as they are: the kind has no status. An event's name is a digest
 * of what it says and of the version of the object, so that it is there once, however often it is written.
 */

import { createHash } from 'node:crypto';
import type { ReasonCode } from '@tandem/core/codes/kubernetes';
import type { Fields } from '@tandem/core/k8s/shape';
import { isFields } from '@tandem/core/k8s/shape';
import type { ObjectSink } from '@tandem/kube/object-sink';
import type { Resource } from '@tandem/kube/resource';
import {
  eventNoteBytesMax,
  eventsBurst,
  eventsPerSecond,
  queueKeysMax,
  refusedPauseMs,
  writesAtOnce,
} from './limits.ts';
import { findingsText, policyFindings } from './valid-condition.ts';
import { done, type WorkOutcome, WorkQueue } from './work-queue.ts';
import type { Writer } from './writer.ts';

const reportingController = 'tandem.dev/controller';
/** The API server takes no more. */
const instanceCharsMax = 128;

interface Wanted {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly reason: ReasonCode;
  readonly note: string;
}

export interface PolicyEventsOptions {
  readonly resource: Resource;
  readonly writer: Writer;
  /** Identity of this process. */
  readonly identity: string;
  readonly onRoom: () => void;
}

export class PolicyEvents implements ObjectSink {
  readonly queue: WorkQueue;
  readonly #o: PolicyEventsOptions;
  readonly #wanted = new Map<string, Wanted>();
  /** Texts of events by object, sent or superfluous: a change of labels does not send one again. */
  readonly #said = new Map<string, string>();

  constructor(options: PolicyEventsOptions) {
    this.#o = options;
    this.queue = new WorkQueue({
      work: (key) => this.#write(key),
      atOnce: writesAtOnce,
      perSecond: eventsPerSecond,
      burst: eventsBurst,
      keysMax: queueKeysMax,
      onRoom: options.onRoom,
    });
  }

  set(key: string, object: Fields): void {
    const metadata = isFields(object['metadata']) ? object['metadata'] : {};
    const { resourceVersion, uid } = metadata;
    const findings = policyFindings(object) ?? [];
    if (findings.length === 0 || typeof resourceVersion !== 'string' || typeof uid !== 'string') {
      this.delete(key);
      return;
    }
    const isInvalid = findings.some(({ severity }) => severity === 'error');
    const note = findingsText(findings, eventNoteBytesMax);
    if (this.#said.get(key) === note) return;
    const reason = isInvalid ? 'PolicyInvalid' : 'PolicyWarning';
    this.#wanted.set(key, { uid, resourceVersion, reason, note });
    if (this.queue.add(key)) this.#wanted.delete(key);
  }

  delete(key: string): void {
    this.#said.delete(key);
    this.#wanted.delete(key);
    this.queue.forget(key);
  }

  retain(keys: ReadonlySet<string>): void {
    for (const key of [...this.#said.keys(), ...this.#wanted.keys()]) {
      if (!keys.has(key)) this.delete(key);
    }
  }

  stateChanged(): void {}

  stop(): void {
    this.queue.stop();
  }

  async #write(key: string): Promise<WorkOutcome> {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return done;
    const { writer } = this.#o;
    const [namespace = ''] = key.split('/');
    const { result, retryAfterMs } = await writer.write('event', {
      method: 'POST',
      path: `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`,
      content: this.#event(key, wanted),
    });
    const isCurrent = this.#wanted.get(key) === wanted;
    if (result === 'busy') {
      if (retryAfterMs > 0) return { kind: 'pause', forMs: Math.min(retryAfterMs, refusedPauseMs) };
      return { kind: 'retry', afterMs: 0 };
    }
    if (result === 'not-leader') return { kind: 'retry', afterMs: 0 };
    if (result === 'forbidden' || result === 'unsupported') {
      return { kind: 'pause', forMs: refusedPauseMs };
    }
    if (!isCurrent) return done;
    this.#wanted.delete(key);
    if (result === 'written' || result === 'exists') this.#said.set(key, wanted.note);
    return done;
  }

  #event(key: string, { uid, resourceVersion, reason, note }: Wanted): Fields {
    const { resource, identity } = this.#o;
    const [namespace = '', name = ''] = key.split('/');
    const digest = createHash('sha256').update(`${uid} ${reason} ${note}`).digest('hex');
    return {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { namespace, name: `tandem-policy.${digest.slice(0, 32)}` },
      eventTime: new Date().toISOString().replace('Z', '000Z'),
      type: 'Warning',
      reason,
      action: 'Validate',
      note,
      reportingController,
      reportingInstance: identity.slice(0, instanceCharsMax),
      regarding: {
        apiVersion: resource.apiVersion,
        kind: resource.kind,
        namespace,
        name,
        uid,
        resourceVersion,
      },
    };
  }
}
