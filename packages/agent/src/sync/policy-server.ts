// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent's end of the policy stream: sends the newest revision to every member that is connected and
 * knows what each of them has in force.
 */

import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { GroupIndex, Revision } from '@tandem/core/ids';
import type { PolicyAck, PolicyUpdateInit } from '@tandem/proto/gen/messages';
import { splitSnapshot } from '@tandem/proto/policy-chunks';
import type { Logger } from '@tandem/runtime/log';
import { Changes } from '@tandem/runtime/task';

export interface MemberRevision {
  readonly member: GroupIndex;
  readonly revision: Revision;
  readonly error: string;
}

type PolicyCall = ServerDuplexStream<PolicyAck, PolicyUpdateInit>;

interface Session {
  readonly call: PolicyCall;
  member: GroupIndex;
  revision: Revision;
  /** The revision last sent on this stream. */
  sent: number;
  /** The revision that it refused last. */
  refused: Revision;
  error: string;
}

export class PolicyServer {
  /** Reports changes of `members`. */
  readonly changes: Changes = new Changes();
  readonly #log: Pick<Logger, 'info' | 'error'>;
  readonly #sessions = new Set<Session>();
  #revision = 0;
  #snapshot: Uint8Array | null = null;

  constructor(log: Pick<Logger, 'info' | 'error'>) {
    this.#log = log;
  }

  /** Handler of `Sync.Policy`. */
  readonly handle = (call: PolicyCall): void => {
    const session: Session = { call, member: -1, revision: 0, sent: 0, refused: 0, error: '' };
    this.#sessions.add(session);
    call.on('data', (ack: PolicyAck) => this.#onAck(session, ack));
    const end = (): void => {
      if (!this.#sessions.delete(session)) return;
      if (session.member >= 0) this.#log.info('member disconnected', { member: session.member });
      this.changes.notify();
    };
    call.on('error', end);
    call.on('close', end);
    call.on('end', () => {
      call.end();
      end();
    });
  };

  /** The revision that members serve from now on. */
  publish(revision: Revision, snapshot: Uint8Array): void {
    this.#revision = revision;
    this.#snapshot = snapshot;
    for (const session of this.#sessions) this.#send(session);
  }

  get members(): readonly MemberRevision[] {
    return [...this.#sessions]
      .filter(({ member }) => member >= 0)
      .map(({ member, revision, error }) => ({ member, revision, error }));
  }

  /**
   * Whether all members that are connected serve the revision, but those that refused it: they are not sent it again, and the kernel
   * passes them over once it is required.
   */
  isAcknowledged(revision: Revision): boolean {
    return [...this.#sessions].every(
      (session) =>
        session.member < 0 || session.revision >= revision || session.refused === revision,
    );
  }

  #onAck(session: Session, ack: PolicyAck): void {
    if (session.member < 0) this.#log.info('member connected', { member: ack.member });
    session.member = ack.member;
    session.revision = ack.revision;
    session.refused = ack.failedRevision;
    session.error = ack.error;
    if (ack.failedRevision !== 0) {
      this.#log.error('member refused a policy', {
        member: ack.member,
        revision: ack.failedRevision,
        error: ack.error,
      });
    }
    this.#send(session);
    this.changes.notify();
  }

  /**
   * Once per revision and stream; a member that serves it already needs nothing, unless another one is on
   * its way: a proxy that starts may have read a snapshot that is newer than what was published last.
   */
  #send(session: Session): void {
    if (session.member < 0 || this.#snapshot === null || session.sent === this.#revision) return;
    const isServed = session.sent === 0 && session.revision === this.#revision;
    session.sent = this.#revision;
    if (isServed) return;
    for (const update of splitSnapshot(this.#revision, this.#snapshot)) session.call.write(update);
  }
}
