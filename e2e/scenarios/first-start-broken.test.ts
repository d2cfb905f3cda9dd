// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A first start with files that are not YAML: what can be read is in force, a policy that can be read in part denies its pods, and
 * status and validate name the files. Nothing can be known of the pods that the rest of such a text meant.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type RunResult, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { tandemMain } from '../kit/built.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { otherAddress, StartLab } from '../kit/start-lab.ts';

let lab: StartLab;
before(async () => {
  lab = await StartLab.create();
});
after(() => lab[Symbol.asyncDispose]());

const tandemCommand = (...args: readonly string[]): Promise<RunResult> =>
  tryRun(...lab.stage.node.node.enter(process.execPath, [tandemMain, ...args]));

function status(): Promise<RunResult> {
  const { pinRoot, runDirectory } = lab.tandem;
  return tandemCommand('status', `--bpffs-dir=${pinRoot}`, `--run-dir=${runDirectory}`);
}

const policyText = (name: string): string =>
  JSON.stringify(dnsPolicy({ name, selects: { app: name }, dns: [], fqdns: [] }));

test('what can be read is enforced, and the files are named with what they mean for pods', async () => {
  const { tandem } = lab;
  lab.writeObjects(['client'], ['late', 'later']);
  tandem.write('broken.yaml', '}{');
  tandem.write('part.yaml', policyText('later').replace('"egress":', '"egress":[],"egress":'));
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent']);
  await waitFor(() => lab.revision() > 0, { what: 'policy in force' });
  await lab.assertAnswered('client');
  assert.equal(await lab.reaches('client', otherAddress), false, 'its policy is in force');
  assert.equal(await lab.reaches('later', otherAddress), false, 'a policy that names it is broken');
  assert.equal(
    await lab.reaches('late', otherAddress),
    true,
    'no policy that can be read names it',
  );
  const { status: code, stdout } = await status();
  assert.equal(code, 1, 'degraded');
  assert.match(stdout, /file-unreadable[^\n]*\n\s+broken\.yaml\n[^\n]*in force before[^\n]*open/);
  assert.match(stdout, /file-unreadable[^\n]*\n\s+part\.yaml\n[^\n]*in part denies its pods/);
  const validated = await tandemCommand('policy', 'validate', '-f', tandem.policyDirectory);
  assert.equal(validated.status, 1);
  assert.match(validated.stdout + validated.stderr, /broken\.yaml/);
});

test('so it is at the next start: other files count, and the file is named', async () => {
  const { tandem } = lab;
  await lab.killAgent();
  tandem.write('more.yaml', policyText('late'));
  await tandem.startProcess('agent');
  await waitFor(async () => !(await lab.reaches('late', otherAddress)), { what: 'its policy' });
  await lab.assertAnswered('client');
  assert.match((await status()).stdout, /broken\.yaml/);
});

test('a file that is mended is in force, without a restart', async () => {
  const { tandem } = lab;
  tandem.remove('more.yaml');
  await waitFor(() => lab.reaches('late', otherAddress), { what: 'no policy' });
  tandem.write('broken.yaml', policyText('late'));
  await waitFor(async () => !(await lab.reaches('late', otherAddress)), { what: 'its policy' });
  assert.doesNotMatch((await status()).stdout, /broken\.yaml/);
});
