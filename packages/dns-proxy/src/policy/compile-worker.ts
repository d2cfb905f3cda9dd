// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Turns encoded snapshots into tables, or completes them, in a thread of its own: compiling 10,000
 * patterns takes a second, in which neither queries nor the main thread may wait.
 */

import { parentPort } from 'node:worker_threads';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { buildImage, type CompletedSnapshot, completeSnapshot } from './build-image.ts';
import type { TablesImage } from './tables-image.ts';

export interface CompileRequest {
  readonly id: number;
  /** 'image': what the DNS worker reads. 'snapshot': the same snapshot with its matcher in it. */
  readonly wants: 'image' | 'snapshot';
  readonly snapshot: Uint8Array;
}

export type CompileAnswer =
  | { readonly id: number; readonly image: TablesImage }
  | ({ readonly id: number } & CompletedSnapshot)
  | { readonly id: number; readonly error: string };

function answer({ id, wants, snapshot }: CompileRequest): CompileAnswer {
  const decoded = decodePolicySnapshot(snapshot);
  if (!decoded.ok) return { id, error: decoded.error };
  if (wants === 'snapshot') {
    const completed = completeSnapshot(decoded.value);
    return completed.ok ? { id, ...completed.value } : { id, error: completed.error };
  }
  return { id, image: buildImage(decoded.value).image };
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
