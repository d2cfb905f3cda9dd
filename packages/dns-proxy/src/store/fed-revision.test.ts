// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agentMember, proxyMember } from '@tandem/datapath/member';
import { dnsRecord } from '../../test/records.ts';
import { smallStore } from '../../test/small-store.ts';
import { flagLearned, flagTrusted } from '../records/dns-event.ts';
import { FedRevision } from './fed-revision.ts';
import type { NodeStore } from './node-store.ts';

/** Revision that each member serves, and the time; boottime seconds. */
class Node {
  readonly revisions: [number, number];
  seconds = 20;
  #names = 0;

  constructor(agent: number, proxy: number) {
    this.revisions = [agent, proxy];
  }

  fed(revision: number): FedRevision {
    const group = { revisionOf: (member: number) => this.revisions[member] ?? 0 };
    return new FedRevision(revision, group, () => this.seconds);
  }

  /** The store receives a new name, answered by `member` at `seconds`. */
  tell(store: NodeStore, member: number, seconds: number): boolean {
    this.#names += 1;
    const bytes = dnsRecord({
      name: `n${this.#names}.example`,
      addresses: [['192.0.2.1', 100]],
      flags: flagLearned | flagTrusted,
      member,
      timeUs: seconds * 1e6,
    });
    store.dnsRecord(bytes, 0, bytes.length);
    return store.takeLateNames();
  }
}

test('what members that serve the revision answered before is late, what they answer later is not', () => {
  const node = new Node(2, 2);
  const store = smallStore();
  store.feedsNames(node.fed(2));
  for (const member of [agentMember, proxyMember]) {
    assert.equal(node.tell(store, member, 15), true);
    assert.equal(node.tell(store, member, 22), false);
  }
});

test('all names of a member that lags are late, until it serves the revision', () => {
  const node = new Node(2, 1);
  const store = smallStore();
  store.feedsNames(node.fed(2));
  assert.equal(node.tell(store, agentMember, 22), false);
  node.seconds = 30;
  assert.equal(node.tell(store, proxyMember, 28), true);
  node.revisions[proxyMember] = 2;
  node.seconds = 40;
  assert.equal(node.tell(store, proxyMember, 39), true, 'it may have caught up after that');
  assert.equal(node.tell(store, proxyMember, 41), false);
  assert.equal(node.tell(store, proxyMember, 38), true);
});

test('a newer revision has the selectors too, and numbers wrap', () => {
  const node = new Node(7, 0xffff_fff0);
  const fed = node.fed(6);
  assert.equal(fed.isLate(agentMember, 21e6), false);
  assert.equal(fed.isLate(proxyMember, 21e6), true);
  assert.equal(node.fed(0xffff_ffff).isLate(agentMember, 21e6), false);
});

test('a life that begins with an older policy lags though its predecessor did not', () => {
  const node = new Node(2, 2);
  const store = smallStore();
  store.feedsNames(node.fed(2));
  node.revisions[proxyMember] = 1;
  node.seconds = 30;
  store.cacheReceived();
  assert.equal(node.tell(store, proxyMember, 31), true);
  node.revisions[proxyMember] = 2;
  node.seconds = 50;
  store.cacheReceived();
  assert.equal(node.tell(store, proxyMember, 49), true, 'before it caught up, perhaps');
  assert.equal(node.tell(store, proxyMember, 51), false);
});

test('a member that there is no place for is not believed', () => {
  assert.equal(new Node(2, 2).fed(2).isLate(255, 1e9), true);
});
