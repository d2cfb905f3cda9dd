// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPrefix } from '@tandem/core/net/ip';
import { proxyConfigSpec } from '@tandem/dns-proxy/config';
import { type ConfigResult, loadConfig } from '@tandem/runtime/config';
import { type AgentConfig, agentConfigSpec } from './config.ts';

const load = (...argv: readonly string[]): ConfigResult<AgentConfig> =>
  loadConfig(agentConfigSpec, {
    argv: ['--source', 'kubernetes', ...argv],
    env: {},
    readFile: () => {
      throw new Error('no file is named');
    },
  });

test('prefixes of NAT64 gateways are those of RFC 6052, and every other is named', () => {
  const good = load('--node-name', 'one', '--nat64-prefixes', '64:ff9b:1::/48,2001:db8:1:2::/96');
  assert.ok(good.kind === 'config', JSON.stringify(good));
  assert.deepEqual(good.config.nat64Prefixes.map(formatPrefix), [
    '64:ff9b:1::/48',
    '2001:db8:1:2::/96',
  ]);
  const bad = load(
    '--node-name',
    'one',
    '--nat64-prefixes',
    '10.0.0.0/8,2001:db8::/44,2001:db8::/32',
  );
  assert.ok(bad.kind === 'error');
  const text = bad.errors.join('\n');
  for (const prefix of ['10.0.0.0/8', '2001:db8::/44']) {
    assert.ok(text.includes(`96 bits: ${prefix} is none`), text);
  }
  assert.ok(!text.includes('2001:db8::/32 is none'), text);
});

test('an empty name is that of no node', () => {
  for (const name of ['', ' ', 'a,b', 'a/b']) {
    const loaded = load('--node-name', name);
    assert.ok(loaded.kind === 'error', name);
    assert.match(loaded.errors.join(), /--node-name: .* is not a name of a node/);
  }
});

test('directories that another run has to find are absolute', () => {
  for (const option of ['cni-conf-dir', 'cni-bin-dir', 'cni-results-dir', 'gate-program']) {
    const loaded = load('--node-name', 'one', `--${option}`, 'etc/cni');
    assert.ok(loaded.kind === 'error', option);
    assert.match(loaded.errors.join(), /is not an absolute path/);
  }
  for (const option of ['cni-conf-dir', 'gate-program', 'bpf-object', 'cgroup-path']) {
    assert.equal(load('--node-name', 'one', `--${option}`, '').kind, 'config', option);
  }
});

test('/metrics does not get the port of the shared DNS socket, in either process', () => {
  for (const address of ['127.0.0.1:10053', '[::1]:10053', 'localhost:10053']) {
    const argv = ['--metrics-address', address];
    const proxy = loadConfig(proxyConfigSpec, { argv, env: {}, readFile: () => '' });
    for (const loaded of [load('--node-name', 'one', ...argv), proxy]) {
      assert.ok(loaded.kind === 'error', address);
      assert.match(loaded.errors.join(), /metricsAddress .* port 10053 .*: choose another/);
    }
  }
  for (const address of ['127.0.0.1:10054', '/run/tandem/10053', '']) {
    assert.equal(load('--node-name', 'one', '--metrics-address', address).kind, 'config', address);
  }
  const moved = load('--node-name', 'one', '--metrics-address', '[::1]:10053', '--port', '10054');
  assert.equal(moved.kind, 'config');
});
