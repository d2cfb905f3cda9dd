// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The proxy's end of the policy stream: takes each revision that the agent sends, puts it in force, says
 * so. What it serves already it keeps, with the agent or without.
 */

import type { GroupIndex } from '@tandem/core/ids';
import type { PolicyAckInit, PolicyUpdate } from '@tandem/proto/gen/messages';
import { SyncService } from '@tandem/proto/gen/services';
import { SnapshotAssembler } from '@tandem/proto/policy-chunks';
import type { Logger } from '@tandem/runtime/log';
import { PersistentStream } from '@tandem/runtime/persistent-stream';
import type { StreamLink } from '@tandem/runtime/stream-link';
import { TandemError } from '@tandem/runtime/tandem-error';

export interface PolicyClientOptions {
  /** The agent's sync socket. */
  readonly path: string;
  readonly member: GroupIndex;
  readonly log: Logger;
  /** The revision in force; 0 for none. */
  readonly revision: () => number;
  /** Puts a snapshot in force; rejects when it can't be. */
  readonly install: (snapshot: Uint8Array) => Promise<void>;
}

export function createPolicyClient(
  options: PolicyClientOptions,
): PersistentStream<PolicyAckInit, PolicyUpdate> {
  const { path, member, log, revision, install } = options;
  let assembler = new SnapshotAssembler();
  const acknowledge = (link: StreamLink<PolicyAckInit>, failed = 0, error = ''): void => {
    link.send({ member, revision: revision(), failedRevision: failed, error });
  };
  const take = async (
    link: StreamLink<PolicyAckInit>,
    revisionNumber: number,
    snapshot: Uint8Array,
  ): Promise<void> => {
    try {
      await install(snapshot);
      log.info('policy in force', { revision: revisionNumber });
      acknowledge(link);
    } catch (error) {
      const failure = TandemError.from(error);
      log.error('the policy was refused: the last one stays in force', {
        revision: revisionNumber,
        error: failure,
      });
      acknowledge(link, revisionNumber, failure.message);
    }
  };
  return new PersistentStream({
    path,
    method: SyncService.policy,
    log,
    handler: {
      onConnect: (link) => {
        assembler = new SnapshotAssembler();
        acknowledge(link);
      },
      onMessage: (update, link) => {
        const result = assembler.accept(update);
        if (result.kind === 'complete') void take(link, result.revision, result.snapshot);
        else if (result.kind === 'error') acknowledge(link, result.revision, result.error);
      },
      onDisconnect: (error) => {
        if (error !== null) log.info('the agent is unreachable', { error });
      },
    },
  });
}
