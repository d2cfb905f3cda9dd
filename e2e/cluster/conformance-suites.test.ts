// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Reading of the output of upstream suites. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Outcome, type SuiteName, suites } from './conformance-suites.ts';

function read(name: SuiteName, text: string): readonly Outcome[] {
  const reader = suites[name].reader();
  return text.split('\n').flatMap((line) => reader(line) ?? []);
}

test("Kubernetes' NetworkPolicy specs: the last title before an end is the spec that ended", () => {
  const text = `[sig-network] NetworkPolicyLegacy should stop them
/home/netpol/network_policy.go:85
\u001B[38;5;10m• [12.3 seconds]\u001B[0m
[sig-network] Netpol should deny | all [Feature:NetworkPolicy]
• [FAILED] [62.1 seconds]
[sig-network] Netpol [It] should deny`;
  assert.deepEqual(read('network-policy', text), [
    { spec: 'should stop them', result: 'passed', seconds: 12.3 },
    { spec: 'should deny | all [Feature:NetworkPolicy]', result: 'failed', seconds: 62.1 },
  ]);
});

test('the Network Policy API: parts of a test, and tests without any', () => {
  const text = `\u0016=== RUN   conformance/CNPOne
\u0016=== RUN   conformance/CNPOne/Should_accept_TCP
\u0016--- PASS: conformance/CNPOne/Should_accept_TCP (3.10s)
\u0016=== NAME  conformance/CNPOne
\u0016--- FAIL: conformance/CNPOne/Should_deny (13.00s)
\u0016--- FAIL: conformance/CNPOne (16.10s)
    suite.go:210: Skipping CNPTwo: suite does not support it
\u0016--- SKIP: conformance/CNPTwo (0.00s)
\u0016--- FAIL: conformance/CNPThree (0.20s)
\u0016--- FAIL: conformance (16.30s)`;
  assert.deepEqual(read('cluster-network-policy', text), [
    { spec: 'CNPOne: Should accept TCP', result: 'passed', seconds: 3.1 },
    { spec: 'CNPOne: Should deny', result: 'failed', seconds: 13 },
    { spec: 'CNPTwo', result: 'skipped', seconds: 0 },
    { spec: 'CNPThree', result: 'failed', seconds: 0.2 },
  ]);
});
