// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A new agent swaps its programs in under load, again and again, and no packet finds a hole; one whose
 * programs do not load changes nothing.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { judgeHooks } from '@tandem/datapath/paths';
import { askDns } from '@tandem/testing/dns-query';
import type { Stream } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { attached } from '../kit/attached.ts';
import { assertNothingPassed, deniedTraffic } from '../kit/enforcement.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';

const bpf = fileURLToPath(new URL('../../bpf', import.meta.url));
const restarts = process.env['TANDEM_TEST_TIER'] === 'full' ? 50 : 10;
/** More than all restarts take. */
const trafficSeconds = 600;

let standard: StandardNode;
let open: Stream;

before(async () => {
  execFileSync('make', ['-s', 'refused-object'], { cwd: bpf });
  standard = await startStandardNode();
  const { client } = standard;
  const known = await askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' });
  open = await client.connect({ to: known.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
});

after(() => standard[Symbol.asyncDispose]());

test(`${restarts} restarts and upgrades of the agent: nothing denied passes, what is open lives`, async () => {
  const { tandem } = standard;
  const first = attached(tandem);
  const isDone = new AbortController();
  const traffic = deniedTraffic(standard, trafficSeconds, isDone.signal);
  traffic.catch(() => undefined); // told when all is done
  for (let done = 0; done < restarts; done++) {
    if (done % 2 === 0) await tandem.kill('agent');
    else await tandem.process('agent').stop();
    // Other read-only data makes it other programs, as another version would have.
    await tandem.startProcess('agent', { flags: { 'fqdn-idle-seconds': 1000 + done } });
    await tandem.waitForMembers(['agent', 'proxy']);
    // It serves before its programs are in.
    const isLoaded = (): boolean => attached(tandem).loads === first.loads + done + 1;
    await waitFor(isLoaded, { what: 'its programs to be loaded' });
    await open.exchange({ data: 'y', want: 1 });
  }
  isDone.abort();
  const result = await traffic;
  assertNothingPassed(result);
  assert.equal(result.queries.lost, 0, 'the other process answered');
  const last = attached(tandem);
  assert.equal(last.loads, first.loads + restarts);
  assert.notEqual(last.judge, first.judge);
  for (const [name, { link, program }] of Object.entries(first.links)) {
    assert.equal(last.links[name]?.link, link, `${name} was never detached`);
    // Netfilter links keep the root that calls the slot.
    if (!judgeHooks.some((hook) => name.startsWith(hook.name)))
      assert.notEqual(last.links[name]?.program, program, name);
  }
  await open.exchange({ data: 'z', want: 1 });
});

for (const [what, object, message] of [
  ['that is missing', '/nowhere/tandem.bpf.o', /\/nowhere\/tandem\.bpf\.o/],
  ['that the verifier refuses', `${bpf}/build/test/refused.bpf.o`, /refused/],
] as const) {
  test(`an agent with an object ${what} ends with an error and changes nothing`, async () => {
    const { tandem, client } = standard;
    await tandem.kill('agent');
    const before_ = attached(tandem);
    const running = await tandem.startProcess('agent', { flags: { 'bpf-object': object } });
    const { status } = await running.exited;
    assert.equal(status, 1);
    const lines = running.stderr().split('\n');
    const error = lines.find((line) => line.includes('start failed')) ?? '';
    assert.match(error, message);
    assert.deepEqual(attached(tandem), before_);
    assertNothingPassed(await deniedTraffic(standard, 1));
    const reply = await askDns(client, { server: clusterDns4, name: 'n-77.allowed.test' });
    assert.equal(reply.rcode, 'NOERROR');
    await open.exchange({ data: 'y', want: 1 });
    await tandem.startProcess('agent');
    await tandem.waitForMembers(['agent', 'proxy']);
  });
}
