// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { clockOffsets, requireNodeClocks } from './time-namespace.ts';

test('the clocks of the node are no offset', () => {
  assert.equal(
    clockOffsets('monotonic           0         0\nboottime            0         0\n'),
    '',
  );
  assert.equal(clockOffsets(''), '');
  requireNodeClocks();
});

test('each clock that differs is named with its offset', () => {
  const text = 'monotonic       50000         0\nboottime           -1 500000000\n';
  assert.equal(clockOffsets(text), 'monotonic +50000 s, boottime -0.5 s');
});

test('in a time namespace of its own a process is refused', () => {
  const script = `
    import { requireNodeClocks } from ${JSON.stringify(new URL('time-namespace.ts', import.meta.url).href)};
    try { requireNodeClocks(); } catch ({ message }) { console.log(message); }
  `;
  const node = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
  const said = execFileSync(
    'unshare',
    [
      ...['--time', '--monotonic', '50000', '--boottime', '100000', '--fork', '--kill-child'],
      ...[process.execPath, ...node, '--input-type=module', '-e', script],
    ],
    { encoding: 'utf8' },
  );
  assert.match(said, /\(monotonic \+50000 s, boottime \+100000 s\)/);
});
