// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Turns encoded snapshots into tables, or patterns into their matcher, in a thread of its own: compiling 10,000
 * patterns takes a second, in which neither queries nor the main thread may wait.
 */

import { parentPort } from 'node:worker_threads';
import type { PolicySnapshot } from '@tandem/proto/gen/messages';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { buildImage, type CompletedPatterns, completePatterns } from './build-image.ts';
import type { TablesImage } from './tables-image.ts';

export type CompileWish =
  /** The image, which the DNS worker reads. */
  | { readonly wants: 'image'; readonly snapshot: Uint8Array }
  /** The matcher that a snapshot of these patterns carries. */
  | { readonly wants: 'matcher'; readonly patterns: PolicySnapshot['patterns'] };

export type CompileRequest = CompileWish & { readonly id: number };

export type CompileAnswer =
  | { readonly id: number; readonly image: TablesImage }
  | ({ readonly id: number } & CompletedPatterns)
  | { readonly id: number; readonly error: string };

function answer(request: CompileRequest): CompileAnswer {
  const { id } = request;
  if (request.wants === 'matcher') return { id, ...completePatterns(request.patterns) };
  const decoded = decodePolicySnapshot(request.snapshot);
  return decoded.ok ? { id, image: buildImage(decoded.value).image } : { id, error: decoded.error };
}

/** A snapshot that meets a bug must not end the process: it would meet it again at the next start. */
function safeAnswer(request: CompileRequest): CompileAnswer {
  try {
    return answer(request);
  } catch (error) {
    return { id: request.id, error: error instanceof Error ? error.message : String(error) };
  }
}

parentPort?.on('message', (request: CompileRequest) => {
  parentPort?.postMessage(safeAnswer(request));
});
