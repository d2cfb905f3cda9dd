// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPrefix } from '@tandem/core/net/ip';
import { type ConfigResult, loadConfig } from '@tandem/runtime/config';
import { type AgentConfig, agentConfigSpec } from './config.ts';

const load = (prefixes: string): ConfigResult<AgentConfig> =>
  loadConfig(agentConfigSpec, {
    argv: ['--source', 'kubernetes', '--node-name', 'one', '--nat64-prefixes', prefixes],
    env: {},
    readFile: () => {
      throw new Error('no file is named');
    },
  });

test('prefixes of NAT64 gateways are those of RFC 6052, and every other is named', () => {
  const good = load('64:ff9b:1::/48,2001:db8:1:2::/96');
  assert.ok(good.kind === 'config', JSON.stringify(good));
  assert.deepEqual(good.config.nat64Prefixes.map(formatPrefix), [
    '64:ff9b:1::/48',
    '2001:db8:1:2::/96',
  ]);
  const bad = load('10.0.0.0/8,2001:db8::/44,2001:db8::/32');
  assert.ok(bad.kind === 'error');
  const text = bad.errors.join('\n');
  for (const prefix of ['10.0.0.0/8', '2001:db8::/44']) {
    assert.ok(text.includes(`96 bits: ${prefix} is none`), text);
  }
  assert.ok(!text.includes('2001:db8::/32 is none'), text);
});
