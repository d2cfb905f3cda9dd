// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Severity, StatusResponse } from '@tandem/proto/gen/messages';
import { grpcMessageBytesMax } from '@tandem/proto/limits';
import type { InputDiagnostic } from './context.ts';
import { boundedDiagnostics } from './diagnostics.ts';
import { statusDiagnosticsMax } from './limits.ts';

const diagnosticOf = (
  severity: 'error' | 'warning',
  i: number,
  message: string,
): InputDiagnostic => ({
  severity,
  code: 'policy-invalid',
  subject: `CiliumNetworkPolicy/shop/p${i}`,
  message,
});

test('what has room is passed on as it is', () => {
  const all = [diagnosticOf('warning', 1, 'a'), diagnosticOf('error', 1, 'b')];
  assert.deepEqual(
    boundedDiagnostics(all).map(({ severity, subject, message }) => [severity, subject, message]),
    [
      [Severity.SEVERITY_WARNING, 'CiliumNetworkPolicy/shop/p1', 'a'],
      [Severity.SEVERITY_ERROR, 'CiliumNetworkPolicy/shop/p1', 'b'],
    ],
  );
});

test('beyond the bound every object comes before a second word on one, errors before warnings', () => {
  const all: InputDiagnostic[] = [];
  for (let i = 0; i < 5; i++) {
    all.push(diagnosticOf('warning', 100 + i, 'w'));
    for (let j = 0; j < 4; j++) all.push(diagnosticOf('error', i, `${j}`));
  }
  const shown = boundedDiagnostics(all, 12).map(({ subject, message }) => `${subject} ${message}`);
  assert.equal(shown.length, 12);
  const named = shown.slice(0, 11).map((text) => text.replace(/^.*\/p/, ''));
  assert.deepEqual(named.slice(0, 5), ['0 0', '1 0', '2 0', '3 0', '4 0']);
  assert.deepEqual(named.slice(5, 10), ['100 w', '101 w', '102 w', '103 w', '104 w']);
  assert.equal(named[10], '0 1');
  assert.match(shown[11] ?? '', /^status 14 more problems do not fit/);
});

test('the largest answer fits a message', () => {
  for (const character of ['a', '\u20ac', '\u{1f600}']) {
    const text = character.repeat(10_000);
    const longest = 'dns-rule-without-server';
    const one = { severity: 'error', code: longest, subject: text, message: text } as const;
    const all = Array.from({ length: statusDiagnosticsMax * 2 }, () => ({ ...one }));
    const bytes = StatusResponse.encode({ diagnostics: [...boundedDiagnostics(all)] }).length;
    // An eighth is for the rest of the answer.
    assert.ok(bytes < (grpcMessageBytesMax * 7) / 8, `${bytes}`);
  }
});
