// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSockets } from './group-audit.ts';

test('sockets are told by their cookies, and shown as ss shows them', () => {
  const text = [
    'udp   UNCONN 0      0      0.0.0.0:10053 0.0.0.0:* uid:65532 ino:71020 sk:2001 cgroup:/ <->',
    'tcp   LISTEN 0      4096      [::]:10053    [::]:* uid:65532 ino:71023 sk:a v6only:1 <->',
    'tcp   LISTEN 0      128    0.0.0.0:10053 0.0.0.0:*',
    '',
  ].join('\n');
  assert.deepEqual(parseSockets(text), [
    {
      cookie: 0x2001n,
      text: 'udp UNCONN 0 0 0.0.0.0:10053 0.0.0.0:* uid:65532 ino:71020 sk:2001 cgroup:/ <->',
    },
    {
      cookie: 10n,
      text: 'tcp LISTEN 0 4096 [::]:10053 [::]:* uid:65532 ino:71023 sk:a v6only:1 <->',
    },
  ]);
});
