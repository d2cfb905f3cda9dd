// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Writes of the controller to the API server. Nothing is sent unless this process is the leader at that moment, and each
 * write names the version of the object that it was computed from: a write that is late, of a leader that was stopped
 * between the two, changes nothing that the next leader has changed.
 */

import type { Call } from '@tandem/kube/call';
import { type CallAnswer, callApi, hasCause, isObjectMissing, messageOf } from '@tandem/kube/call';
import { type KubeSession, NotBegun } from '@tandem/kube/session';

/** Targets of writes, in metrics. */
export const writeTargets = ['condition', 'event', 'taint', 'definition'] as const;
export type WriteTarget = (typeof writeTargets)[number];

export const writeResults = {
  written: 'as wanted',
  gone: 'the object, or its namespace, was deleted meanwhile',
  changed: 'the object has another version by now: its change comes by the watch',
  foreign: 'the field is held by another writer, and stays as it is',
  exists: 'the object is there already',
  unsupported: 'the API server has no such resource or subresource',
  forbidden: 'the service account has no right to it',
  refused: 'the API server does not take the object as it would be',
  busy: 'no answer, or one that says to come later',
  'not-leader': 'the lease was over when it would have been sent, and it was not',
} as const;
export type WriteResult = keyof typeof writeResults;

export interface Written {
  readonly result: WriteResult;
  readonly message: string;
  /** Wait that the server asks for, ms. */
  readonly retryAfterMs: number;
}

/** Name of this writer in managedFields. */
export const fieldManager = 'tandem-controller';

export interface WriterOptions {
  readonly session: KubeSession;
  readonly isLeader: () => boolean;
  readonly signal: AbortSignal;
}

export type WriteCounts = Record<WriteTarget, Record<WriteResult, number>>;

export function emptyWriteCounts(): WriteCounts {
  const counts = {} as WriteCounts;
  for (const target of writeTargets) {
    counts[target] = {} as Record<WriteResult, number>;
    for (const result of Object.keys(writeResults) as WriteResult[]) counts[target][result] = 0;
  }
  return counts;
}

export class Writer {
  readonly #o: WriterOptions;
  readonly #counts: WriteCounts;

  /** `counts`: of all terms of this process. */
  constructor(options: WriterOptions, counts: WriteCounts) {
    this.#o = options;
    this.#counts = counts;
  }

  /** Never rejects. */
  async write(target: WriteTarget, call: Omit<Call, 'mayBegin' | 'signal'>): Promise<Written> {
    const { session, isLeader, signal } = this.#o;
    let written: Written;
    try {
      const mayBegin = (): boolean => isLeader() && !signal.aborted;
      written = readAnswer(await callApi(session, { ...call, mayBegin, signal }));
    } catch (error) {
      const isLate = error instanceof NotBegun || signal.aborted;
      const message = error instanceof Error ? error.message : String(error);
      written = { result: isLate ? 'not-leader' : 'busy', message, retryAfterMs: 0 };
    }
    this.#counts[target][written.result] += 1;
    return written;
  }
}

function readAnswer(answer: CallAnswer): Written {
  const { retryAfterMs } = answer;
  return { result: resultOf(answer), message: messageOf(answer), retryAfterMs };
}

function resultOf(answer: CallAnswer): WriteResult {
  const { status, object } = answer;
  if (status >= 200 && status < 300) return 'written';
  switch (status) {
    case 401:
      return 'busy';
    case 403:
      return hasCause(answer, 'NamespaceTerminating') ? 'gone' : 'forbidden';
    case 404:
      return isObjectMissing(answer) ? 'gone' : 'unsupported';
    case 405:
      return 'unsupported';
    case 409:
      if (hasCause(answer, 'FieldManagerConflict')) return 'foreign';
      return object['reason'] === 'AlreadyExists' ? 'exists' : 'changed';
    case 400:
    case 413:
    case 415:
    case 422:
      return 'refused';
    default:
      return 'busy';
  }
}
