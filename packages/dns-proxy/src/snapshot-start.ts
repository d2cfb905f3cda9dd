// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Serving from the saved policy snapshot, before anything else of a process is there: it needs the pins and
 * one file, no other process and no source of policy. A file that is of no use is a fact for status.
 */

import type { Revision } from '@tandem/core/ids';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Degradation, degradation } from './admin/degradation.ts';
import type { DnsMember } from './dns-member.ts';
import { readSavedPolicies, type SnapshotPaths } from './policy/saved-policy.ts';

export interface SnapshotStart {
  /** The served snapshot; null: none. */
  readonly snapshot: Uint8Array | null;
  /** 0 when nothing is served. */
  readonly revision: Revision;
  /** Nothing is served, because the snapshots cannot be used. */
  readonly degradations: readonly Degradation[];
}

/** Has the member serve the newest policy that was saved and can be used. Never rejects. */
export async function startFromSnapshot(
  member: DnsMember,
  paths: SnapshotPaths,
  log: Logger,
): Promise<SnapshotStart> {
  member.prepareInstall();
  const { snapshots, problems } = await readSavedPolicies(paths);
  const reasons = [...problems];
  for (const snapshot of snapshots) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- an older one only when the newer one is refused
      await member.install(snapshot);
    } catch (error) {
      reasons.push(TandemError.from(error).message);
      continue;
    }
    const { revision } = member;
    if (reasons.length > 0) {
      log.warn('one copy of the policy snapshot cannot be used: the other one is in force', {
        reason: reasons.join('; '),
      });
    }
    log.info('policy in force from the snapshot', { revision });
    return { snapshot, revision, degradations: [] };
  }
  const nothing = { snapshot: null, revision: 0 };
  if (reasons.length === 0) {
    log.info('no policy snapshot yet', { path: paths.disk });
    return { ...nothing, degradations: [] };
  }
  const reason = reasons.join('; ');
  log.error('the policy snapshot cannot be used: waiting for the agent to read its source', {
    reason,
  });
  const message = `the saved policy snapshot could not be used when this process started: ${reason}`;
  return { ...nothing, degradations: [degradation('snapshot-unusable', { message })] };
}
