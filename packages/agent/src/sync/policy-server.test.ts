// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import type { PolicyAck, PolicyUpdateInit } from '@tandem/proto/gen/messages';
import { policyChunkBytes } from '@tandem/proto/limits';
import { PolicyServer } from './policy-server.ts';

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
const snapshot = new Uint8Array(8);

interface Stream {
  readonly sent: number[];
  /** Number of messages that are taken before it is backed up. */
  room: number;
  isEnded: boolean;
  readonly acknowledge: (revision: number, failedRevision?: number) => void;
  readonly drain: (room: number) => void;
}

/** A member's stream: what it was sent, and how it answers. */
function connect(server: PolicyServer, member = 1): Stream {
  const call = new EventEmitter();
  const stream: Stream = {
    sent: [],
    room: Infinity,
    isEnded: false,
    acknowledge: (revision, failedRevision = 0) => {
      const error = failedRevision === 0 ? '' : 'it cannot be read';
      call.emit('data', { member, revision, failedRevision, error } satisfies PolicyAck);
    },
    drain: (room) => {
      stream.room = room;
      call.emit('drain');
    },
  };
  const write = (update: PolicyUpdateInit): boolean => {
    stream.sent.push(update.revision ?? 0);
    stream.room -= 1;
    return stream.room > 0;
  };
  const end = (): void => {
    stream.isEnded = true;
  };
  const served = Object.assign(call, { write, end });
  server.handle(served as unknown as Parameters<PolicyServer['handle']>[0]);
  return stream;
}

test('a member that serves the newest policy is sent nothing', () => {
  const server = new PolicyServer(silent);
  server.publish(3, snapshot);
  const { sent, acknowledge } = connect(server);
  acknowledge(3);
  assert.deepEqual(sent, []);
  assert.ok(server.isAcknowledged(3));
  server.publish(4, snapshot);
  assert.deepEqual(sent, [4]);
  assert.ok(!server.isAcknowledged(4));
});

test('a policy is sent also to a member that had it before an older one was sent', () => {
  const server = new PolicyServer(silent);
  server.publish(3, snapshot);
  const { sent, acknowledge } = connect(server);
  // It read the snapshot of revision 4, which was on disk and not published yet.
  acknowledge(4);
  assert.deepEqual(sent, [3]);
  server.publish(4, snapshot);
  assert.deepEqual(sent, [3, 4]);
  acknowledge(3);
  assert.ok(!server.isAcknowledged(4));
  acknowledge(4);
  assert.ok(server.isAcknowledged(4));
});

test('a member that refused a policy is not waited for, until the next one', () => {
  const server = new PolicyServer(silent);
  server.publish(3, snapshot);
  const { sent, acknowledge } = connect(server);
  acknowledge(3);
  server.publish(4, snapshot);
  acknowledge(3, 4);
  assert.ok(server.isAcknowledged(4));
  server.publish(5, snapshot);
  assert.ok(!server.isAcknowledged(5));
  acknowledge(5);
  assert.ok(server.isAcknowledged(5));
  assert.deepEqual(sent, [4, 5]);
});

test('a member that does not read holds what its stream takes, and gets the newest policy when it reads again', () => {
  const server = new PolicyServer(silent);
  const stream = connect(server);
  stream.acknowledge(1);
  stream.room = 2;
  const pieces = 3;
  for (let revision = 2; revision < 100; revision++)
    server.publish(revision, new Uint8Array(pieces * policyChunkBytes));
  assert.deepEqual(stream.sent, [2, 2]);
  stream.drain(1);
  assert.deepEqual(stream.sent, [2, 2, 99]);
  stream.drain(Infinity);
  assert.deepEqual(stream.sent, [2, 2, 99, 99, 99]);
});

test('a revision waits once for a member that does not answer: the next ones do not, until it has caught up', () => {
  const server = new PolicyServer(silent);
  const { acknowledge } = connect(server);
  acknowledge(2);
  server.publish(3, snapshot);
  assert.ok(!server.isAcknowledged(3));
  server.publish(4, snapshot);
  assert.ok(server.isAcknowledged(4), 'it is behind');
  acknowledge(3);
  server.publish(5, snapshot);
  assert.ok(server.isAcknowledged(5), 'still');
  acknowledge(5);
  server.publish(6, snapshot);
  assert.ok(!server.isAcknowledged(6), 'it had caught up');
});

test('a member has one stream, its newest; one of no other member is ended', () => {
  const server = new PolicyServer(silent);
  server.publish(3, snapshot);
  const streams = Array.from({ length: 20 }, () => connect(server));
  for (const { acknowledge } of streams) acknowledge(2);
  assert.equal(server.members.length, 1);
  assert.deepEqual(
    streams.map(({ isEnded }) => isEnded),
    streams.map((_, place) => place < 19),
  );
  streams[0]?.acknowledge(7);
  assert.equal(server.members[0]?.revision, 2, 'an ended one says nothing');
  for (const member of [0, 8, 0xffff_ffff]) {
    const stream = connect(server, member);
    stream.acknowledge(3);
    assert.deepEqual([stream.isEnded, stream.sent], [true, []]);
  }
  assert.equal(server.members.length, 1);
});
