// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernel does not let the agent pin a pod's programs for a while: the pod is dropped and named in status, the others go on, and
 * the agent tries again soon and ever more seldom.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { reconcileIntervalMs } from '@tandem/agent/limits';
import { patience, waitFor } from '@tandem/testing/wait';
import { statusOf } from '../kit/admin.ts';
import type { BpfFaults } from '../kit/bpf-faults.ts';
import { StartLab, settleMs } from '../kit/start-lab.ts';

let lab: StartLab;
let bpf: BpfFaults;

before(async () => {
  lab = await StartLab.create({ withBpfFaults: true });
  assert.ok(lab.stage.bpf !== null);
  bpf = lab.stage.bpf;
  lab.writeObjects(['client']);
  await lab.tandem.startProcess('agent');
  await lab.tandem.waitForMembers(['agent']);
  await lab.assertAnswered('client');
});
after(async () => {
  await lab[Symbol.asyncDispose]();
});

async function problemOfLate(): Promise<string> {
  const { diagnostics } = await statusOf(lab.tandem, 'agent');
  const found = diagnostics.find(
    ({ code, subject }) => code === 'attach-failed' && subject === 'Pod/default/late',
  );
  return found?.message ?? '';
}

test('a pod whose programs cannot be pinned is named with the reason, dropped, and tried again soon', async () => {
  bpf.failFromNow('OBJ_PIN', 'EPERM');
  const pins = (): number => bpf.counts().OBJ_PIN;
  const [before_, start] = [pins(), performance.now()];
  lab.writeObjects(['client', 'late']);
  await waitFor(async () => (await problemOfLate()) !== '', {
    what: 'status to name the pod',
    timeoutMs: settleMs,
  });
  assert.match(
    await problemOfLate(),
    /could not be attached to .*, so its traffic is dropped: .*(EPERM|not permitted).*; it is tried again/i,
  );
  // The reconciliation alone would need three of its rounds for that.
  await waitFor(() => pins() - before_ >= 4, { what: 'four tries', timeoutMs: settleMs });
  assert.ok(performance.now() - start < 3 * reconcileIntervalMs * patience);
  await lab.assertClosed(['late']);
  assert.ok(await lab.reaches('client', '198.18.0.1'), 'other pods go on');
});

test('it is enforced and reached once they can be pinned, and status names it no more', async () => {
  bpf.failFromNow('OBJ_PIN', null);
  await lab.assertAnswered('late');
  await waitFor(async () => (await problemOfLate()) === '', {
    what: 'status to name it no more',
    timeoutMs: settleMs,
  });
  await lab.assertClosed();
});
