// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Turns encoded snapshots into tables in a thread of its own: compiling 10,000 patterns takes seconds,
 * in which neither queries nor the main thread may wait.
 */

import { parentPort } from 'node:worker_threads';
import type { RejectedPattern } from '@tandem/core/dns/matcher-compile';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { buildImage } from './build-image.ts';
import type { TablesImage } from './tables-image.ts';

export interface CompileRequest {
  readonly id: number;
  readonly snapshot: Uint8Array;
}

export type CompileAnswer =
  | {
      readonly id: number;
      readonly image: TablesImage;
      readonly rejected: readonly RejectedPattern[];
    }
  | { readonly id: number; readonly error: string };

function answer({ id, snapshot }: CompileRequest): CompileAnswer {
  const decoded = decodePolicySnapshot(snapshot);
  if (!decoded.ok) return { id, error: decoded.error };
  const built = buildImage(decoded.value);
  return built.ok ? { id, ...built.value } : { id, error: built.error };
}

parentPort?.on('message', (request: CompileRequest) => parentPort?.postMessage(answer(request)));
