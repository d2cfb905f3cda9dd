// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { junit } from './junit.ts';

test('results of each outcome, escaped', () => {
  const text = junit([
    { name: 'a', outcome: 'PASS', seen: 'connected', ms: 1500 },
    { name: 'b', outcome: 'FAIL', seen: '<"& \u0007\n>', ms: 2 },
    { name: 'c', outcome: 'SKIP', seen: 'no CRD', ms: 0 },
  ]);
  assert.equal(
    text,
    `<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="tandem connectivity" tests="3" failures="1" skipped="1" time="1.502">
    <testcase classname="tandem.connectivity" name="a" time="1.500"/>
    <testcase classname="tandem.connectivity" name="b" time="0.002">
      <failure message="&lt;&quot;&amp; &#10;&gt;"/>
    </testcase>
    <testcase classname="tandem.connectivity" name="c" time="0.000">
      <skipped message="no CRD"/>
    </testcase>
  </testsuite>
</testsuites>
`,
  );
});
