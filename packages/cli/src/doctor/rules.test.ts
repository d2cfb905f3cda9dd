// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Rules and routes that are missing are named with the commands that make them. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { readNodeNetwork } from '@tandem/agent/node/node-network';
import { insideNamespace } from '@tandem/testing/inside';
import type { CheckResult, DoctorContext } from './check.ts';
import { checkRules } from './rules.ts';

const settings = { port: 10_053, routingTable: 2077, rulePriority: 9 } as DoctorContext['settings'];

async function routing(): Promise<readonly CheckResult[]> {
  const network = await readNodeNetwork(settings.routingTable);
  const context = { settings, mark: 0x1000, isPreflight: false, endpoints: [], network };
  const results = await checkRules(context as unknown as DoctorContext);
  return results.filter(({ check }) => check.startsWith('routing'));
}

insideNamespace(import.meta, () => {
  test('what is missing is counted, and its fix makes it', async () => {
    execFileSync('ip', ['link', 'set', 'lo', 'down']);
    const down = await routing();
    assert.deepEqual(
      down.map(({ fix }) => fix),
      ['ip link set lo up', 'ip link set lo up'],
    );
    execFileSync('ip', ['link', 'set', 'lo', 'up']);
    for (const { status, why, fix } of await routing()) {
      assert.equal(status, 'fail');
      assert.match(why, /3 of 3 rules and routes are missing/);
      execFileSync('sh', ['-c', fix ?? 'false']);
    }
    for (const { status, why } of await routing()) assert.equal(status, 'pass', why);
    execFileSync('ip', ['rule', 'del', 'pref', '9', 'ipproto', 'tcp']);
    const [ipv4, ipv6] = await routing();
    assert.equal(
      ipv4?.fix,
      'ip -4 rule add pref 9 fwmark 0x1000/0x1000 ipproto tcp dport 10053 lookup 2077',
    );
    assert.equal(ipv6?.status, 'pass');
    execFileSync('sh', ['-c', ipv4?.fix ?? 'false']);
  });

  test('rules of others before those of Tandem are named, those that match no steered packet are not', async () => {
    for (const rule of ['pref 3 fwmark 0/0x1000', 'pref 4 ipproto icmp', 'pref 4 dport 443'])
      execFileSync('ip', ['rule', 'add', ...rule.split(' '), 'lookup', '777']);
    for (const { status, why } of await routing()) assert.equal(status, 'pass', why);
    execFileSync('ip', ['rule', 'add', 'pref', '5', 'from', '10.1.0.0/16', 'lookup', '777']);
    const [ipv4, ipv6] = await routing();
    assert.equal(ipv4?.status, 'warn');
    assert.match(ipv4?.why ?? '', /^ip rule: pref 5 lookup 777 come before/);
    assert.match(ipv4?.fix ?? '', /--rule-priority=4,/);
    assert.equal(ipv6?.status, 'pass');
  });

  test('a rule with the preference of those of Tandem comes before them if it is older', async () => {
    const rule = (...words: readonly string[]): unknown => execFileSync('ip', ['rule', ...words]);
    rule('del', 'pref', '5');
    rule('add', 'pref', '9', 'from', '10.1.0.0/16', 'lookup', '777');
    assert.equal((await routing())[0]?.status, 'pass');
    // The other rule is between ours at first, and then before both.
    for (const protocol of ['tcp', 'udp']) {
      rule('del', 'pref', '9', 'ipproto', protocol);
      const fix = (await routing())[0]?.fix ?? 'false';
      execFileSync('sh', ['-c', fix]);
      const [ipv4] = await routing();
      assert.equal(ipv4?.status, 'warn', protocol);
      assert.match(ipv4?.why ?? '', /^ip rule: pref 9 lookup 777 come before/);
      assert.match(ipv4?.fix ?? '', /--rule-priority=8,/);
    }
  });
});
