// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The saved policy snapshots of a node: one on a disk that survives reboots, and a copy in the run directory. The copy
 * is newer while the disk is full or read-only. Who starts takes the newest that can be used.
 */

import type { Revision } from '@tandem/core/ids';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';

export interface SnapshotPaths {
  /** In the run directory, which the next boot empties. */
  readonly run: string;
  /** In the state directory. */
  readonly disk: string;
}

export interface SavedPolicies {
  /** Payloads of the files that can be read, the newest revision first; no two are equal. */
  readonly snapshots: readonly Uint8Array[];
  /** Why a file that is there cannot be used, one text per file. */
  readonly problems: readonly string[];
}

/** Reads both files. Never rejects. */
export async function readSavedPolicies({ run, disk }: SnapshotPaths): Promise<SavedPolicies> {
  const problems: string[] = [];
  const payloads: Uint8Array[] = [];
  for (const read of await Promise.all([readSnapshotFile(run), readSnapshotFile(disk)])) {
    if (read.ok) payloads.push(read.value);
    else if (read.error.kind !== 'absent') problems.push(read.error.message);
  }
  const [first, second] = payloads;
  // As always but after a write that failed: the installed policy is decoded then, once.
  if (first === undefined || second === undefined) return { snapshots: payloads, problems };
  if (Buffer.compare(first, second) === 0) return { snapshots: [first], problems };
  const known: { readonly payload: Uint8Array; readonly revision: Revision }[] = [];
  for (const [payload, path] of [
    [first, run],
    [second, disk],
  ] as const) {
    const decoded = decodePolicySnapshot(payload);
    if (decoded.ok) known.push({ payload, revision: decoded.value.revision });
    else problems.push(`${path}: ${decoded.error}`);
  }
  known.sort((left, right) => right.revision - left.revision);
  return { snapshots: known.map(({ payload }) => payload), problems };
}
