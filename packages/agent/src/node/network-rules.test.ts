// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NetworkView } from '@tandem/netlink/network-view';
import { insideNamespace } from '@tandem/testing/inside';
import { run } from './command.ts';
import type { NetworkRulesOptions, RuleProblem } from './network-rules.ts';
import * as rules from './network-rules.ts';

function options(mark = 0x1000, port = 10_053): NetworkRulesOptions {
  return { mark, port, routingTable: 2077, rulePriority: 9 };
}

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' });
const nft = (...args: string[]): string => execFileSync('nft', args, { encoding: 'utf8' });
/** Everything that the rules are made of, as the kernel tells it. */
const state = (): string[] => [
  ...['-4', '-6'].flatMap((family) => [
    ip(family, 'rule', 'show'),
    ip(family, 'route', 'show', 'table', 'all'),
  ]),
  nft('list', 'ruleset'),
];

insideNamespace(import.meta, () => {
  const untouched = state();
  let view: NetworkView;
  before(async () => {
    view = await NetworkView.open({ tables: [2077] });
  });
  after(() => view.close());
  /** After whatever the test did is in the view. */
  const ensureNetworkRules = async (
    wanted: NetworkRulesOptions,
  ): Promise<readonly RuleProblem[]> => {
    await view.refresh();
    return rules.ensureNetworkRules(view, wanted);
  };
  const removeNetworkRules = (wanted: NetworkRulesOptions): Promise<readonly RuleProblem[]> =>
    rules.removeNetworkRules(view, wanted);

  test('rules, routes and tables come, once, and go without a trace', async () => {
    await ensureNetworkRules(options());
    const made = state();
    for (const family of ['-4', '-6']) {
      const shown = ip(family, 'rule', 'show');
      for (const protocol of ['udp', 'tcp']) {
        const rule = `fwmark 0x1000/0x1000 ipproto ${protocol} dport 10053 lookup 2077`;
        assert.equal(shown.split(rule).length, 2, `${family} ${rule}: ${shown}`);
      }
      assert.match(ip(family, 'route', 'show', 'table', '2077'), /^local default dev lo/);
    }
    const table = nft('list', 'table', 'inet', 'tandem');
    assert.match(table, /0x0*1000 == 0x0*1000 notrack/);
    assert.match(table, /th sport 10053 notrack/);
    assert.match(table, /ct state invalid/);
    await ensureNetworkRules(options());
    assert.deepEqual(state(), made, 'a second time changes nothing');
    await removeNetworkRules(options());
    assert.deepEqual(state(), untouched);
    await removeNetworkRules(options());
  });

  test('what somebody removed is put back, and what others have stays', async () => {
    ip('rule', 'add', 'pref', '9', 'fwmark', '0x40', 'lookup', '99');
    nft('add', 'table', 'inet', 'other');
    await ensureNetworkRules(options());
    const made = state();
    const spoil: (() => unknown)[] = [
      () => ip('rule', 'del', 'pref', '9', 'fwmark', '0x1000/0x1000', 'ipproto', 'tcp'),
      () => ip('-6', 'rule', 'del', 'pref', '9', 'fwmark', '0x1000/0x1000', 'ipproto', 'udp'),
      () => ip('route', 'flush', 'table', '2077'),
      () => ip('-6', 'route', 'flush', 'table', '2077'),
      () => nft('delete', 'table', 'inet', 'tandem'),
      () => nft('delete', 'chain', 'inet', 'tandem', 'keep_conntrack'),
      () => nft('flush', 'chain', 'inet', 'tandem', 'untrack_steered'),
      () => nft('flush', 'chain', 'inet', 'tandem', 'untrack_replies'),
      () => nft('delete', 'chain', 'inet', 'tandem', 'untrack_replies'),
    ];
    for (const [i, act] of spoil.entries()) {
      act();
      assert.notDeepEqual(state(), made, `${i}`);
      await ensureNetworkRules(options());
      const sorted = (texts: readonly string[]): string[] =>
        texts.map((text) => text.split('\n').sort().join('\n'));
      assert.deepEqual(sorted(state()), sorted(made), `${i}`);
    }
    await removeNetworkRules(options());
    assert.match(ip('rule', 'show'), /fwmark 0x40 lookup 99/);
    assert.match(nft('list', 'tables'), /inet other/);
  });

  /** Handle of the table, which each write changes. */
  const handle = (): number => {
    const { nftables } = JSON.parse(nft('-j', 'list', 'tables')) as {
      readonly nftables: readonly { readonly table?: { name: string; handle: number } }[];
    };
    const ours = nftables.find(({ table }) => table?.name === 'tandem');
    assert.ok(ours?.table, 'there is a table');
    return ours.table.handle;
  };

  // Images have no /etc/protocols: nft shows numbers there, and each write caused the next one.
  test('an nft that shows protocols by number: the table is written once', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-nft-'));
    const path = process.env['PATH'] ?? '';
    const found = execFileSync('sh', ['-c', 'command -v nft'], { encoding: 'utf8' }).trim();
    const script = `#!/bin/sh\ncase "$1" in list) exec ${found} --numeric-protocol "$@" ;; *) exec ${found} "$@" ;; esac\n`;
    writeFileSync(join(directory, 'nft'), script, { mode: 0o755 });
    process.env['PATH'] = `${directory}:${path}`;
    try {
      await ensureNetworkRules(options());
      const made = handle();
      await ensureNetworkRules(options());
      assert.equal(handle(), made, 'a second time changes nothing');
      nft('flush', 'chain', 'inet', 'tandem', 'untrack_steered');
      await ensureNetworkRules(options());
      assert.notEqual(handle(), made, 'a change by others is undone');
    } finally {
      process.env['PATH'] = path;
      rmSync(directory, { recursive: true });
    }
    await removeNetworkRules(options());
  });

  test('another mark and port of a new configuration reach every rule', async () => {
    await ensureNetworkRules(options());
    await ensureNetworkRules(options(0x80, 10_054));
    const table = nft('list', 'table', 'inet', 'tandem');
    assert.match(table, /0x0*80 == 0x0*80 notrack/);
    assert.match(table, /th sport 10054 notrack/);
    assert.doesNotMatch(table, /0x0*1000/);
    assert.match(ip('rule', 'show'), /fwmark 0x80\/0x80 ipproto udp dport 10054 lookup 2077/);
  });

  test('another priority and table of a new configuration leave nothing of before, nor does removal', async () => {
    await removeNetworkRules(options(0x80, 10_054));
    await ensureNetworkRules(options());
    await ensureNetworkRules({ ...options(0x40, 10_054), routingTable: 3000, rulePriority: 20 });
    for (const family of ['-4', '-6']) {
      const shown = ip(family, 'rule', 'show');
      assert.doesNotMatch(shown, /2077|fwmark 0x1000/);
      assert.match(shown, /20:\sfrom all fwmark 0x40\/0x40 ipproto udp dport 10054 lookup 3000/);
      assert.doesNotMatch(ip(family, 'route', 'show', 'table', 'all'), /table 2077/);
    }
    await removeNetworkRules(options());
    for (const family of ['-4', '-6']) {
      assert.doesNotMatch(ip(family, 'rule', 'show'), /lookup 3000/);
      assert.doesNotMatch(ip(family, 'route', 'show', 'table', 'all'), /table 3000/);
    }
  });

  test('IPv6 that is switched off is left out, and gets its rules when it is switched on', async () => {
    const setIpv6 = (isOff: number): string =>
      execFileSync('sysctl', ['-qw', `net.ipv6.conf.all.disable_ipv6=${isOff}`], {
        encoding: 'utf8',
      });
    await removeNetworkRules(options(0x80, 10_054));
    setIpv6(1);
    assert.deepEqual(await ensureNetworkRules(options()), []);
    assert.match(ip('-4', 'route', 'show', 'table', '2077'), /^local default dev lo/);
    assert.doesNotMatch(ip('-6', 'rule', 'show'), /2077/);
    setIpv6(0);
    assert.deepEqual(await ensureNetworkRules(options()), []);
    assert.match(ip('-6', 'route', 'show', 'table', '2077'), /^local default dev lo/);
    setIpv6(1);
    assert.deepEqual(await removeNetworkRules(options()), []);
    assert.doesNotMatch(ip('-6', 'rule', 'show'), /2077/);
    setIpv6(0);
  });

  test('a part that cannot be made is named, and the others are made', async () => {
    // No such port: the kernel refuses it.
    const problems = await ensureNetworkRules({ ...options(), port: 0 });
    assert.deepEqual(
      problems.map(({ part }) => part),
      ['IPv4 routing', 'IPv6 routing'],
    );
    assert.match(nft('list', 'table', 'inet', 'tandem'), /ct state invalid/);
    await removeNetworkRules(options());
  });

  test('a command that fails says what it was and what it said', async () => {
    const failing = run('ip', ['link', 'show', 'nonesuch0']);
    await assert.rejects(failing, /ip link show nonesuch0: .*does not exist/);
    await assert.rejects(run('no-such-program', []), /ENOENT/);
  });
});
