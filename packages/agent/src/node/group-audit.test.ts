// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '@tandem/core/net/ip';
import { describe } from './group-audit.ts';

test('a socket is described by what finds its process', () => {
  const socket = { protocol: 'udp', port: 10_053, uid: 65_532, inode: 71_020, cookie: 1n } as const;
  assert.equal(
    describe({ ...socket, address: parseAddress('0.0.0.0') }),
    'udp 0.0.0.0:10053 uid 65532 inode 71020',
  );
  assert.equal(
    describe({ ...socket, protocol: 'tcp', address: parseAddress('::') }),
    'tcp [::]:10053 uid 65532 inode 71020',
  );
});
