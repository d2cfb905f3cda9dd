// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NetworkView } from '@tandem/netlink/network-view';
import { silentLogger } from '@tandem/runtime/log';
import { insideNamespace } from '@tandem/testing/inside';
import { waitFor } from '@tandem/testing/wait';
import { repairSlowMs } from '../limits.ts';
import { run } from './command.ts';
import type { NetworkRulesOptions } from './network-rules.ts';
import { NetworkStack } from './network-stack.ts';

function options(): NetworkRulesOptions {
  return { mark: 0x1000, port: 10_053, routingTable: 2077, rulePriority: 9 };
}

const shown = (program: string, ...args: readonly string[]): string => {
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
};
/** Programs that this process started and that ended: their page faults (proc(5), cminflt). */
const childFaults = (): number => {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[8]);
};

insideNamespace(import.meta, () => {
  let view: NetworkView;
  let stack: NetworkStack;
  before(async () => {
    view = await NetworkView.open({ tables: [2077] });
    stack = new NetworkStack(view, options(), silentLogger());
    await stack.start();
  });
  after(() => view.close());

  const rule4 = 'fwmark 0x1000/0x1000 ipproto tcp dport 10053 lookup 2077';
  const rule6 = 'fwmark 0x1000/0x1000 ipproto udp dport 10053 lookup 2077';
  /** Deletions by other software, and what is there again after each. */
  const deletions: readonly (readonly [string, readonly string[], () => boolean])[] = [
    [
      'ip',
      ['rule', 'del', 'pref', '9', 'ipproto', 'tcp'],
      () => shown('ip', 'rule').includes(rule4),
    ],
    [
      'ip',
      ['-6', 'rule', 'del', 'pref', '9', 'ipproto', 'udp'],
      () => shown('ip', '-6', 'rule').includes(rule6),
    ],
    [
      'ip',
      ['route', 'flush', 'table', '2077'],
      () => shown('ip', 'route', 'show', 'table', '2077').includes('local default'),
    ],
    [
      'ip',
      ['-6', 'route', 'flush', 'table', '2077'],
      () => shown('ip', '-6', 'route', 'show', 'table', '2077').includes('local default'),
    ],
    [
      'nft',
      ['delete', 'table', 'inet', 'tandem'],
      () => shown('nft', 'list', 'table', 'inet', 'tandem').includes('ct state'),
    ],
    [
      'nft',
      ['flush', 'ruleset'],
      () => shown('nft', 'list', 'table', 'inet', 'tandem').includes('ct state'),
    ],
    [
      'nft',
      ['delete', 'chain', 'inet', 'tandem', 'keep_conntrack'],
      () => shown('nft', 'list', 'table', 'inet', 'tandem').includes('ct state'),
    ],
  ];

  // How soon, on a quiet machine: e2e/scenarios/network-changes.alone.test.ts. Here nothing but notices brings it back.
  test('what somebody deletes is back', async () => {
    assert.deepEqual(stack.degradations, []);
    for (const [program, args, isThere] of deletions) {
      const what = `${program} ${args.join(' ')}`;
      assert.ok(isThere(), `before ${what}`);
      await run(program, args);
      await waitFor(isThere, { what: `what is gone by ${what}` });
    }
  });

  test('whatever takes the effect of the table away is undone, and counted', async () => {
    const list = (): string => shown('nft', 'list', 'table', 'inet', 'tandem');
    const hooked = '{ type filter hook input priority 0; policy drop; }';
    const changes: readonly (readonly [nft: string, left: RegExp])[] = [
      ['insert rule inet tandem untrack_steered accept', /policy accept;\s+accept/],
      ['add rule inet tandem keep_conntrack drop', /drop/],
      ['chain inet tandem untrack_replies { policy drop; }', /policy drop/],
      [`add chain inet tandem other ${hooked}`, /chain other/],
      ['add table inet tandem { flags dormant; }', /dormant/],
      ['flush chain inet tandem untrack_replies', /output priority \S+ policy accept;\s+\}/],
    ];
    for (const [change, left] of changes) {
      await waitFor(() => list().includes('ct state') && !left.test(list()), { what: 'ours' });
      const { tableRestored } = stack.counters;
      await run('nft', [change]);
      await waitFor(() => stack.counters.tableRestored > tableRestored, {
        what: `the write after ${change}`,
        timeoutMs: 20_000,
      });
      await waitFor(() => !left.test(list()), { what: `nothing of ${change}`, timeoutMs: 20_000 });
    }
    assert.ok(stack.counters.routingRestored >= 4, 'those of the test before');
  });

  test('everything at once is back, and the last word of a quarrel is ours', async () => {
    for (let round = 0; round < 20; round++) {
      await run('ip', ['rule', 'del', 'pref', '9']).catch(() => '');
      await run('ip', ['route', 'flush', 'table', '2077']).catch(() => '');
    }
    await run('nft', ['flush', 'ruleset']);
    await waitFor(() => deletions.every(([, , isThere]) => isThere()), { what: 'all of it' });
  });

  test('while nothing changes no program is started, however often it is looked', async () => {
    // What the last test did is through: the table that was written was read once more.
    let faults = -1;
    await waitFor(
      async () => {
        const known = faults;
        await stack.ensure();
        faults = childFaults();
        return faults === known;
      },
      { what: 'no program any more' },
    );
    const { reads } = view.counters;
    for (let round = 0; round < 100; round++) await stack.ensure();
    assert.equal(childFaults(), faults);
    assert.equal(view.counters.reads, reads, 'and nothing is asked of the kernel');
    execFileSync('true');
    assert.ok(childFaults() > faults, 'a program would have been seen');
  });

  test('changes of others start no program', async () => {
    const faults = childFaults();
    const { notices } = view.counters;
    execFileSync('nft', ['add', 'table', 'inet', 'other']);
    execFileSync('ip', ['rule', 'add', 'pref', '20', 'fwmark', '0x40/0x40', 'lookup', '99']);
    const known = childFaults();
    assert.ok(known > faults, 'those that this test started');
    await view.rtnetlink.changeLink(1, { isUp: true });
    await waitFor(() => view.counters.notices > notices, { what: 'the rule is noticed' });
    await view.refresh();
    await stack.ensure();
    assert.equal(childFaults(), known);
  });

  // As of an nft of another version, or of another program that undoes each write.
  test('a table that is never as it should be is written at most once a second, and status says so', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-nft-'));
    const path = process.env['PATH'] ?? '';
    const found = execFileSync('sh', ['-c', 'command -v nft'], { encoding: 'utf8' }).trim();
    const writes = join(directory, 'writes');
    const script = `#!/bin/sh\nif [ "$1" = list ]; then ${found} "$@" | sed s/notrack/untracked/; exit; fi\necho >>${writes}\nexec ${found} "$@"\n`;
    writeFileSync(join(directory, 'nft'), script, { mode: 0o755 });
    const written = (): number => readFileSync(writes).length;
    process.env['PATH'] = `${directory}:${path}`;
    try {
      await run('nft', ['delete', 'table', 'inet', 'tandem']);
      const isSaid = (): boolean => stack.degradations.some(({ fix }) => /nft monitor/.test(fix));
      await waitFor(isSaid, { what: 'it in the status', timeoutMs: 30_000 });
      const known = written();
      const startMs = performance.now();
      await waitFor(() => written() >= known + 4, { what: 'four writes', timeoutMs: 30_000 });
      // One may be due already, and the first token may come at once: the others take a second each.
      assert.ok(performance.now() - startMs >= 1.9 * repairSlowMs);
      await waitFor(() => stack.counters.tableDelayed > 0, { what: 'it counted' });
      // A look at the table is due in up to a second: what is missing besides does not wait for it.
      const isBackApart = async (): Promise<boolean> => {
        const writesBefore = written();
        await run('ip', ['rule', 'del', 'pref', '9', 'ipproto', 'tcp']);
        await waitFor(() => shown('ip', 'rule').includes(rule4), { what: 'the rule' });
        await stack.ensure();
        return written() === writesBefore;
      };
      await waitFor(isBackApart, { what: 'a rule that is back without a look at the table' });
    } finally {
      process.env['PATH'] = path;
      rmSync(directory, { recursive: true });
    }
    await run('nft', ['delete', 'table', 'inet', 'tandem']);
    await waitFor(() => stack.degradations.length === 0, { what: 'it', timeoutMs: 30_000 });
  });

  test('ARP tables that do not last are said as such, and no link has nft tried again', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-nft-'));
    const path = process.env['PATH'] ?? '';
    const found = execFileSync('sh', ['-c', 'command -v nft'], { encoding: 'utf8' }).trim();
    const program = (lines: string): void =>
      writeFileSync(join(directory, 'nft'), `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
    // As a kernel without the family.
    program(`if [ "$1" = -f ]; then echo not supported >&2; exit 1; fi; exec ${found} "$@"`);
    process.env['PATH'] = `${directory}:${path}`;
    const said = (): string =>
      stack.degradations.map(({ code, message, fix }) => `${code}: ${message}; ${fix}`).join('\n');
    try {
      await stack.guardArp({ podBridges: ['cni0'], trustedPorts: [] });
      assert.match(said(), /^arp-unguarded: .*not supported/);
      const settled = async (): Promise<boolean> => {
        const { failed } = stack.counters;
        await stack.ensure();
        return stack.counters.failed === failed + 1;
      };
      assert.ok(await settled(), 'each periodic round tries');
      const faults = childFaults();
      const { notices } = view.counters;
      execFileSync('ip', ['link', 'set', 'lo', 'mtu', '65000']);
      await waitFor(() => view.counters.notices > notices, { what: 'the link is noticed' });
      await view.refresh();
      // What a rule causes comes after what the link would have caused.
      const own = childFaults();
      const { routingRestored } = stack.counters;
      await view.rtnetlink.deleteRule(view.state.rules.find(({ priority }) => priority === 9)!);
      await waitFor(() => stack.counters.routingRestored > routingRestored, { what: 'the rule' });
      assert.equal(childFaults(), own, 'no nft was started');
      assert.ok(own > faults, 'a program would have been seen');
      assert.match(said(), /arp-unguarded/);
      // Another program undoes each write.
      program(
        `${found} "$@" || exit; [ "$1" != -f ] || ${found} delete table arp tandem 2>/dev/null; true`,
      );
      await stack.ensure();
      await waitFor(() => /arp-unguarded: .*again and again.*nft monitor/.test(said()), {
        what: 'the quarrel',
        timeoutMs: 60_000,
      });
      assert.doesNotMatch(said(), /network-rules/);
    } finally {
      process.env['PATH'] = path;
      rmSync(directory, { recursive: true });
    }
    await stack.guardArp({ podBridges: [], trustedPorts: [] });
    await waitFor(() => stack.degradations.length === 0, { what: 'peace', timeoutMs: 60_000 });
  });

  test('a loopback interface that is down is named by what brings it up', async () => {
    execFileSync('ip', ['link', 'set', 'lo', 'down']);
    // The quarrel of the test before may be said once more.
    const fixes = (): string[] => stack.degradations.map(({ code, fix }) => `${code}: ${fix}`);
    const isSaid = (): boolean =>
      fixes().length > 0 && fixes().every((each) => /^network-rules: ip link set lo up/.test(each));
    await waitFor(isSaid, { what: 'what is missing', state: () => fixes().join() });
    execFileSync('ip', ['link', 'set', 'lo', 'up']);
    await waitFor(() => stack.degradations.length === 0, { what: 'the rules' });
  });

  test('what is stopped mends nothing', async () => {
    await stack.stop();
    await run('ip', ['rule', 'del', 'pref', '9', 'ipproto', 'tcp']);
    await view.refresh();
    await stack.ensure();
    assert.ok(!shown('ip', 'rule').includes(rule4));
  });
});
