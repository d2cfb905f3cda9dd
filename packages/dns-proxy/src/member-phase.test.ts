// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemberPhase } from './member-phase.ts';

test('who waits for nothing is ready when it serves, and whatever happens then', () => {
  const phase = new MemberPhase();
  assert.deepEqual(phase.readiness, { isOk: false, text: 'starting' });
  let blockers = ['no policy is in force'];
  phase.servesWithout(() => blockers);
  assert.deepEqual(phase.readiness, { isOk: false, text: 'starting: no policy is in force' });
  blockers = [];
  assert.deepEqual(phase.readiness, { isOk: true, text: 'serving' });
  blockers = ['the port is taken'];
  assert.deepEqual(phase.readiness, { isOk: true, text: 'serving' }, 'it would be taken away');
  phase.stops();
  assert.deepEqual(phase.readiness, { isOk: true, text: 'stopping' });
});

test('a standby process is ready, and not ready between the index and the first answer', () => {
  const phase = new MemberPhase();
  phase.standsBy();
  assert.deepEqual(phase.readiness, { isOk: true, text: 'standby' });
  phase.holdsIndex();
  assert.deepEqual(phase.readiness, { isOk: false, text: 'joining' });
  phase.servesWithout(() => []);
  assert.deepEqual(phase.readiness, { isOk: true, text: 'serving' });
  phase.standsBy();
  assert.equal(phase.phase, 'serving');
});

test('a process that gets the index before it is prepared never stands by', () => {
  const phase = new MemberPhase();
  phase.holdsIndex();
  phase.standsBy();
  assert.deepEqual(phase.readiness, { isOk: false, text: 'starting' });
  phase.servesWithout(() => []);
  assert.deepEqual(phase.readiness, { isOk: true, text: 'serving' });
});

test('alive is who beats; what others lack does not count', () => {
  const phase = new MemberPhase();
  assert.deepEqual(phase.liveness, { isOk: true, text: 'starting' });
  let problem = '';
  phase.livesWithout(() => problem);
  phase.servesWithout(() => ['no policy is in force']);
  assert.deepEqual(phase.liveness, { isOk: true, text: 'starting' });
  problem = 'no heartbeat';
  assert.deepEqual(phase.liveness, { isOk: false, text: 'no heartbeat' });
});
