// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Diagnostic } from '@tandem/core/policy/model/desired';
import { FirstSeen } from './first-seen.ts';

const problem = (subject: string, message = 'is wrong'): Diagnostic => ({
  severity: 'error',
  code: 'policy-invalid',
  subject,
  message,
});

test('a problem keeps its time while it stands, also with other words; one that comes again is new', () => {
  let nowMs = 1000;
  const seen = new FirstSeen(() => nowMs);
  const times = (...subjects: readonly string[]): readonly number[] =>
    seen
      .date(subjects.map((subject) => problem(subject, `at ${nowMs}`)))
      .map((each) => each.sinceMs);
  assert.deepEqual(times('a'), [1000]);
  nowMs = 2000;
  assert.deepEqual(times('a', 'b', 'b'), [1000, 2000, 2000]);
  nowMs = 3000;
  assert.deepEqual(times('b'), [2000]);
  nowMs = 4000;
  assert.deepEqual(times('a', 'b'), [4000, 2000]);
});
