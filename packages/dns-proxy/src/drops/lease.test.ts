// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdGroup } from '@tandem/datapath/abi.gen';
import { NodeGroup } from '@tandem/datapath/group';
import { agentMember as agent, proxyMember as proxy } from '@tandem/datapath/member';
import { DropLease, readHolder } from './lease.ts';
import { dropLeaseStaleMs } from './limits.ts';

const longMs = dropLeaseStaleMs + 1;

const emptyGroup = (): NodeGroup => new NodeGroup(new ArrayBuffer(tdGroup.size));

test('who comes first takes it, and the agent takes it from the proxy', () => {
  const group = emptyGroup();
  const [a, p] = [new DropLease(group, agent), new DropLease(group, proxy)];
  assert.equal(readHolder(group, 0), null);
  assert.equal(p.renew(1000), 'taken');
  assert.equal(p.renew(1050), 'held');
  assert.equal(a.renew(1060), 'taken');
  assert.equal(p.isOurs, false);
  assert.equal(p.renew(1100), 'other');
  assert.deepEqual([p.taken, p.lost, a.taken, a.lost], [1, 1, 1, 0]);
  assert.deepEqual(readHolder(group, 1100), { member: agent, generation: 2, ageMs: 40 });
});

test('the proxy takes it when the agent does not look, or has left', () => {
  const group = emptyGroup();
  const [a, p] = [new DropLease(group, agent), new DropLease(group, proxy)];
  a.renew(0);
  assert.equal(p.renew(dropLeaseStaleMs), 'other');
  assert.equal(p.renew(longMs), 'taken');
  assert.equal(a.renew(longMs + 1), 'taken', 'it hung');
  a.release();
  assert.equal(p.renew(longMs + 2), 'taken');
  a.release();
  assert.equal(p.isOurs, true, 'only one’s own lease is given up');
});

test('two lives of one index do not wrestle', () => {
  const group = emptyGroup();
  const [hung, fresh] = [new DropLease(group, agent), new DropLease(group, agent)];
  hung.renew(0);
  assert.equal(fresh.renew(10), 'other');
  assert.equal(fresh.renew(longMs), 'taken');
  assert.equal(hung.renew(longMs + 1), 'other');
  assert.equal(fresh.renew(longMs + 2), 'held');
});

test('clocks that wrap, beats of the future, nonsense', () => {
  const group = emptyGroup();
  const [a, p] = [new DropLease(group, agent), new DropLease(group, proxy)];
  const wrap = 2 ** 32;
  a.renew(wrap - 100);
  assert.equal(p.renew(wrap + 100), 'other');
  assert.equal(p.renew(wrap - 200), 'other', 'a beat just after we read the clock');
  assert.equal(readHolder(group, wrap - 200)?.ageMs, 0);
  group.eventsBeatMs = 2 ** 31;
  assert.equal(p.renew(1000), 'taken', 'nobody is stuck behind a beat far ahead');
  assert.ok(group.swapEventsLease(group.eventsLease, 0xffffff02));
  assert.equal(a.renew(1000), 'taken');
  assert.equal(readHolder(group, 1000)?.generation, 0, 'generations wrap');
});
