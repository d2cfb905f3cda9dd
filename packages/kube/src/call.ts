// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One question to the API server and its whole answer: for what is no list and no watch. */

import { type Fields, isFields } from '@tandem/core/k8s/shape';
import { textOf } from './answer-text.ts';
import { callBytesMax, callTimeoutMs } from './limits.ts';
import { acceptJson } from './resource.ts';
import type { KubeRequest, KubeSession } from './session.ts';

/** Media types of patches. JSON is YAML. */
export const patchTypes = {
  apply: 'application/apply-patch+yaml',
  json: 'application/json-patch+json',
} as const;

export interface Call {
  readonly method: NonNullable<KubeRequest['method']>;
  readonly path: string;
  /** Sent as JSON. */
  readonly content?: unknown;
  /** Default `application/json`. */
  readonly type?: string;
  /** As of `KubeRequest`. */
  readonly mayBegin?: () => boolean;
  readonly signal?: AbortSignal;
}

export interface CallAnswer {
  readonly status: number;
  /** The object, or the Status of a failure; empty: it was no JSON. */
  readonly object: Fields;
  /** Value of the header `retry-after`, ms; 0: none. */
  readonly retryAfterMs: number;
}

/** @throws NotConnected; NotBegun; Error: no whole answer in `callTimeoutMs`, or `signal` was aborted */
export async function callApi(session: KubeSession, call: Call): Promise<CallAnswer> {
  const { method, path, content, type = acceptJson, mayBegin, signal } = call;
  const timeout = AbortSignal.timeout(callTimeoutMs);
  const response = await session.request({
    ...{ method, path, accept: acceptJson },
    signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    ...(content === undefined ? {} : { content: { type, text: JSON.stringify(content) } }),
    ...(mayBegin === undefined ? {} : { mayBegin }),
  });
  const text = await textOf(response, callBytesMax, callTimeoutMs);
  return {
    status: response.status,
    object: objectOf(text),
    retryAfterMs: response.retryAfterMs,
  };
}

/** Why an answer is a failure: `causes[].reason` of its Status, such as FieldManagerConflict. */
export function hasCause({ object }: CallAnswer, reason: string): boolean {
  const { details } = object;
  const causes = isFields(details) ? details['causes'] : undefined;
  return (
    Array.isArray(causes) && causes.some((each) => isFields(each) && each['reason'] === reason)
  );
}

/** Whether a 404 means that the object is missing, and not the kind or the subresource. */
export function isObjectMissing({ status, object }: CallAnswer): boolean {
  const { details } = object;
  return status === 404 && isFields(details) && typeof details['name'] === 'string';
}

/** Message of the server about a failure. */
export function messageOf({ status, object }: CallAnswer): string {
  const { message } = object;
  return `${status}${typeof message === 'string' ? ` ${message}` : ''}`;
}

function objectOf(text: string): Fields {
  try {
    const object: unknown = JSON.parse(text);
    return isFields(object) ? object : {};
  } catch {
    return {};
  }
}
