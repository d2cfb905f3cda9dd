// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyAck, PolicyUpdateInit } from '@tandem/proto/gen/messages';
import { PolicyServer } from './policy-server.ts';

const silent = { info: () => undefined, error: () => undefined };
const snapshot = new Uint8Array(8);

/** A member's stream: what it was sent, and how it answers. */
function connect(server: PolicyServer): {
  sent: number[];
  acknowledge: (revision: number, failedRevision?: number) => void;
} {
  const sent: number[] = [];
  const handlers = new Map<string, (message: unknown) => void>();
  const call = {
    on: (event: string, handler: (message: unknown) => void) => handlers.set(event, handler),
    write: (update: PolicyUpdateInit) => sent.push(update.revision ?? 0) > 0,
    end: () => undefined,
  };
  server.handle(call as unknown as Parameters<PolicyServer['handle']>[0]);
  const acknowledge = (revision: number, failedRevision = 0): void => {
    const error = failedRevision === 0 ? '' : 'it cannot be read';
    const ack: PolicyAck = { member: 1, revision, failedRevision, error };
    handlers.get('data')?.(ack);
  };
  return { sent, acknowledge };
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
