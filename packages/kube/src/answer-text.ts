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

/** Whether a Status says that the server's cache did not reach the version of its store in time. */
export function isBehind(text: string): boolean {
  return text.includes('"ResourceVersionTooLarge"');
}
