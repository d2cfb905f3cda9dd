// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Serving from the snapshot on disk, before anything else of a process is there: it needs the pins and
 * this file, no other process and no source of policy. A file that is of no use is a fact for status.
 */

import type { Logger } from '@tandem/runtime/log';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Degradation, degradation } from './admin/degradation.ts';
import type { DnsMember } from './dns-member.ts';

export interface SnapshotStart {
  /** The served snapshot; null: none. */
  readonly snapshot: Uint8Array | null;
  /** 0 when nothing is served. */
  readonly revision: number;
  /** A file that is there and can't be used. */
  readonly degradations: readonly Degradation[];
}

/** Has the member serve the last policy. Never rejects. */
export async function startFromSnapshot(
  member: DnsMember,
  path: string,
  log: Logger,
): Promise<SnapshotStart> {
  member.prepareInstall();
  const read = await readSnapshotFile(path);
  if (!read.ok) {
    if (read.error.kind !== 'absent') return unusable(read.error.message, path, log);
    log.info('no policy snapshot yet', { path });
    return { snapshot: null, revision: 0, degradations: [] };
  }
  try {
    await member.install(read.value);
  } catch (error) {
    return unusable(TandemError.from(error).message, path, log);
  }
  const { revision } = member;
  log.info('policy in force from the snapshot', { revision });
  return { snapshot: read.value, revision, degradations: [] };
}

function unusable(reason: string, path: string, log: Logger): SnapshotStart {
  log.error('the policy snapshot cannot be used: waiting for the agent to read its source', {
    path,
    reason,
  });
  const message = `the policy snapshot on disk could not be used when this process started: ${reason}`;
  return {
    snapshot: null,
    revision: 0,
    degradations: [degradation('snapshot-unusable', { message })],
  };
}
