// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The text of an answer, bounded in length and in silence. */

import { isFields } from '@tandem/core/k8s/shape';
import type { KubeResponse } from './session.ts';

export const nothingSent = 'the API server sends nothing';

export class AnswerTooLong extends Error {
  constructor(bytesMax: number) {
    super(`an answer is longer than ${bytesMax} octets`);
  }
}

/** Null for an answer that is too long. */
export function onTooLong(error: unknown): null {
  if (error instanceof AnswerTooLong) return null;
  throw error;
}

/** Rejects where nothing comes for `silenceMs`. */
export async function textOf(
  { body }: Pick<KubeResponse, 'body'>,
  bytesMax: number,
  silenceMs: number,
): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  const overdue = setTimeout(() => body.destroy(new Error(nothingSent)), silenceMs);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      overdue.refresh();
      length += chunk.length;
      if (length > bytesMax) throw new AnswerTooLong(bytesMax);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString('utf8');
  } finally {
    clearTimeout(overdue);
  }
}

/** Message of a Status object. */
export function messageOf(text: string): string {
  try {
    const status: unknown = JSON.parse(text);
    return isFields(status) && typeof status['message'] === 'string' ? status['message'] : '';
  } catch {
    return '';
  }
}

/**
 * Problem of an answer 404 that is not the Status of an API server without an object of that name; '': it is. What stands in front of a
 * server answers 404 in its own words for a path that it does not know, which says nothing about the object.
 */
export function foreignText(text: string, name: string): string {
  try {
    const status: unknown = JSON.parse(text);
    const { kind, reason, details } = isFields(status) ? status : {};
    const isOfServer = kind === 'Status' && reason === 'NotFound' && isFields(details);
    if (isOfServer && details['name'] === name) return '';
  } catch {
    // no JSON
  }
  return `the answer 404 for ${name} is not one of an API server: see what is between this node and it`;
}

/** Whether a Status says that the server's cache did not reach the version of its store in time. */
export function isBehind(text: string): boolean {
  return text.includes('"ResourceVersionTooLarge"');
}
