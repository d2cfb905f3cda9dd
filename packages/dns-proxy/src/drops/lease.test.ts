// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdGroup } from '@tandem/datapath/abi.gen';
import { DropLease, readHolder } from './lease.ts';
import { dropLeaseStaleMs } from './limits.ts';

const agent = 0;
const proxy = 1;
const longMs = dropLeaseStaleMs + 1;

function group(): { memory: ArrayBuffer; words: Uint32Array } {
  const memory = new ArrayBuffer(tdGroup.size);
  return { memory, words: new Uint32Array(memory) };
}

test('who comes first takes it, and the agent takes it from the proxy', () => {
  const { memory, words } = group();
  const [a, p] = [new DropLease(memory, agent), new DropLease(memory, proxy)];
  assert.equal(readHolder(words, 0), null);
  assert.equal(p.renew(1000), 'taken');
  assert.equal(p.renew(1050), 'held');
  assert.equal(a.renew(1060), 'taken');
  assert.equal(p.isOurs, false);
  assert.equal(p.renew(1100), 'other');
  assert.deepEqual([p.taken, p.lost, a.taken, a.lost], [1, 1, 1, 0]);
  assert.deepEqual(readHolder(words, 1100), { member: agent, generation: 2, ageMs: 40 });
});

test('the proxy takes it when the agent does not look, or has left', () => {
  const { memory } = group();
  const [a, p] = [new DropLease(memory, agent), new DropLease(memory, proxy)];
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
  const { memory } = group();
  const [hung, fresh] = [new DropLease(memory, agent), new DropLease(memory, agent)];
  hung.renew(0);
  assert.equal(fresh.renew(10), 'other');
  assert.equal(fresh.renew(longMs), 'taken');
  assert.equal(hung.renew(longMs + 1), 'other');
  assert.equal(fresh.renew(longMs + 2), 'held');
});

test('clocks that wrap, beats of the future, nonsense', () => {
  const { memory, words } = group();
  const [a, p] = [new DropLease(memory, agent), new DropLease(memory, proxy)];
  const wrap = 2 ** 32;
  a.renew(wrap - 100);
  assert.equal(p.renew(wrap + 100), 'other');
  assert.equal(p.renew(wrap - 200), 'other', 'a beat just after we read the clock');
  assert.equal(readHolder(words, wrap - 200)?.ageMs, 0);
  words[tdGroup.events_beat_ms / 4] = 2 ** 31;
  assert.equal(p.renew(1000), 'taken', 'nobody is stuck behind a beat far ahead');
  words[tdGroup.events_lease / 4] = 0xffffff02;
  assert.equal(a.renew(1000), 'taken');
  assert.equal(readHolder(words, 1000)?.generation, 0, 'generations wrap');
});
