// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent's end of the policy stream: sends the newest revision to every member that is connected and
 * knows what each of them has in force.
 *
 * A member that reads slowly, or not at all, gets no more than the stream takes: of the revisions that come meanwhile the newest
 * replaces the others. And a revision waits once for it: from the next one on it is behind, until it has caught up.
 */

import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { GroupIndex, Revision } from '@tandem/core/ids';
import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import { agentMember } from '@tandem/datapath/member';
import type { PolicyAck, PolicyUpdateInit } from '@tandem/proto/gen/messages';
import { splitSnapshot } from '@tandem/proto/policy-chunks';
import type { Logger } from '@tandem/runtime/log';
import { StreamLink } from '@tandem/runtime/stream-link';
import { Changes } from '@tandem/runtime/task';

export interface MemberRevision {
  readonly member: GroupIndex;
  readonly revision: Revision;
  readonly error: string;
}

type PolicyCall = ServerDuplexStream<PolicyAck, PolicyUpdateInit>;

interface Session {
  readonly link: StreamLink<PolicyUpdateInit>;
  /** -1 before its first acknowledgement. */
  member: GroupIndex;
  revision: Revision;
  /** The revision last sent on this stream, and the pieces of it that the stream has not taken yet. */
  sent: number;
  unsent: readonly PolicyUpdateInit[];
  /** The newest revision that waited for it when it was published. */
  awaited: Revision;
  isBehind: boolean;
  /** The revision that it refused last. */
  refused: Revision;
  error: string;
}

export class PolicyServer {
  /** Reports changes of `members`. */
  readonly changes: Changes = new Changes();
  readonly #log: Pick<Logger, 'info' | 'warn' | 'error'>;
  readonly #sessions = new Set<Session>();
  #revision = 0;
  /** The pieces of its snapshot; null before the first. */
  #updates: readonly PolicyUpdateInit[] | null = null;

  constructor(log: Pick<Logger, 'info' | 'warn' | 'error'>) {
    this.#log = log;
  }

  /** Handler of `Sync.Policy`. */
  readonly handle = (call: PolicyCall): void => {
    const session: Session = {
      ...{ link: new StreamLink(call), member: -1, revision: 0, sent: 0, unsent: [] },
      ...{ awaited: 0, isBehind: false, refused: 0, error: '' },
    };
    this.#sessions.add(session);
    session.link.onDrain = () => pump(session);
    call.on('data', (ack: PolicyAck) => this.#onAck(session, ack));
    const end = (): void => this.#end(session);
    call.on('error', end);
    call.on('close', end);
    call.on('end', () => {
      session.link.close();
      end();
    });
  };

  /** The revision that members serve from now on. */
  publish(revision: Revision, snapshot: Uint8Array): void {
    for (const session of this.#sessions) {
      session.isBehind ||= session.awaited === this.#revision && !hasTaken(session, this.#revision);
      session.awaited = session.member < 0 ? 0 : revision;
    }
    this.#revision = revision;
    this.#updates = splitSnapshot(revision, snapshot);
    for (const session of this.#sessions) this.#send(session);
  }

  /** This process ends, and its streams with it. */
  close(): void {
    for (const session of this.#sessions) {
      this.#end(session);
      session.link.close();
    }
  }

  get members(): readonly MemberRevision[] {
    return [...this.#sessions]
      .filter(({ member }) => member >= 0)
      .map(({ member, revision, error }) => ({ member, revision, error }));
  }

  /**
   * Whether all members that are connected serve the revision, but those that refused it, which are not sent it again, and those that
   * are behind. The kernel passes these over once it is required.
   */
  isAcknowledged(revision: Revision): boolean {
    return [...this.#sessions].every((session) => session.isBehind || hasTaken(session, revision));
  }

  #onAck(session: Session, ack: PolicyAck): void {
    if (!this.#sessions.has(session)) return;
    if (session.member < 0 && !this.#begins(session, ack.member)) return;
    session.revision = ack.revision;
    session.refused = ack.failedRevision;
    session.error = ack.error;
    if (ack.failedRevision !== 0) {
      this.#log.error('member refused a policy', {
        member: session.member,
        revision: ack.failedRevision,
        error: ack.error,
      });
    }
    if (hasTaken(session, this.#revision)) session.isBehind = false;
    this.#send(session);
    this.changes.notify();
  }

  /** The first acknowledgement of a stream. A member has one stream, its newest. False: it is no other member's. */
  #begins(session: Session, member: GroupIndex): boolean {
    if (member >= TD_MEMBERS_MAX || member === agentMember) {
      this.#log.warn('a policy stream of no other member was ended', { member });
      this.#end(session);
      session.link.close();
      return false;
    }
    for (const other of this.#sessions) {
      if (other.member !== member) continue;
      this.#end(other);
      other.link.close();
    }
    this.#log.info('member connected', { member });
    session.member = member;
    return true;
  }

  #end(session: Session): void {
    if (!this.#sessions.delete(session)) return;
    session.unsent = [];
    if (session.member >= 0) this.#log.info('member disconnected', { member: session.member });
    this.changes.notify();
  }

  /**
   * Once per revision and stream; a member that serves it already needs nothing, unless another one is on
   * its way: a proxy that starts may have read a snapshot that is newer than what was published last.
   */
  #send(session: Session): void {
    if (session.member < 0 || this.#updates === null || session.sent === this.#revision) return;
    const isServed = session.sent === 0 && session.revision === this.#revision;
    session.sent = this.#revision;
    session.unsent = isServed ? [] : this.#updates;
    pump(session);
  }
}

/** Nothing is to be waited for: it serves the revision, has refused it, or has not said which member it is. */
function hasTaken({ member, ...session }: Session, revision: Revision): boolean {
  return member < 0 || session.revision >= revision || session.refused === revision;
}

/** Sends what the stream takes now. A part of a revision may have left when the next one follows: its first piece abandons the other. */
function pump(session: Session): void {
  const { link } = session;
  let sent = 0;
  for (const update of session.unsent) {
    if (!link.send(update)) break;
    sent += 1;
  }
  session.unsent = session.unsent.slice(sent);
}
