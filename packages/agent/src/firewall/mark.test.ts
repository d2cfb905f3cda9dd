// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Rules of other software that use a bit of the mark, and the bit that the agent takes then. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Rule as RoutingRule } from '@tandem/netlink/rule';
import { Namespace } from '@tandem/testing/namespace';
import { parseIptablesSave } from './iptables.ts';
import { chooseMark, conflictOf, firewallUsers, type MarkUser, routingUsers } from './mark.ts';
import { parseNft } from './nft.ts';

const iptables = (rules: string): readonly MarkUser[] => {
  const chains = [':INPUT ACCEPT [0:0]', ':X - [0:0]'];
  const text = ['*mangle', ...chains, ...rules.split('\n'), 'COMMIT'].join('\n');
  return firewallUsers({ chains: parseIptablesSave(text, 'ip', 'iptables'), unread: [] });
};

const conflict = (users: readonly MarkUser[], mark = 0x1000): 'set' | 'match' | null => {
  const found = users.map((user) => conflictOf(user, mark));
  if (found.includes('set')) return 'set';
  return found.includes('match') ? 'match' : null;
};

const rows: readonly (readonly [rule: string, want: 'set' | 'match' | null, why: string])[] = [
  ['-j MARK --set-xmark 0x1000/0x1000', 'set', 'portmap, were it configured so'],
  ['-m mark --mark 0x1000/0x1000 -j MASQUERADE', 'match', 'portmap'],
  ['-m mark --mark 0x2000/0x3000 -j DROP', 'match', 'two bits, ours among them'],
  ['-m mark ! --mark 0x1000/0x1000 -j DROP', 'match', 'inverted'],
  ['-j MARK --set-xmark 0x2000/0x2000', null, 'portmap'],
  ['-j MARK --set-xmark 0x4000/0x0', null, 'kube-proxy'],
  ['-m mark --mark 0x40000/0xff0000 -j MASQUERADE', null, 'Tailscale'],
  ['-j MARK --set-xmark 0x1/0xffffffff', 'set', 'the whole mark'],
  ['-m mark --mark 0x1000 -j DROP', 'match', 'the whole mark is compared with ours'],
  [
    '-m mark --mark 0xca6c -j ACCEPT',
    null,
    'the whole mark is compared with one that has not our bit',
  ],
  ['-m mark --mark 0xfca6 -j DROP', 'match', 'and with one that has it'],
  ['-j CONNMARK --restore-mark', null, 'wg-quick: steered packets have no connection'],
  ['-j CONNMARK --restore-mark --nfmask 0x1000 --ctmask 0x1000', 'set', 'somebody owns this bit'],
  ['-j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80', null, 'AWS VPC CNI'],
  ['-m mark --mark 0x20/0x60 -j ACCEPT', null, 'KubeSpan of Talos'],
  ['-m mark --mark 0x1bd20 -j MASQUERADE', 'match', 'NetBird'],
  ['-A INPUT -m mark --mark 0x1000/0x1000 -j ACCEPT', null, 'what doctor advises'],
  ['-A INPUT -m mark --mark 0x1000/0x3000 -j ACCEPT', 'match', 'more than doctor advises'],
];

for (const [rule, want, why] of rows) {
  test(`iptables ${rule}: ${want ?? 'no use of 0x1000'} (${why})`, () => {
    assert.equal(conflict(iptables(rule.startsWith('-A') ? rule : `-A X ${rule}`)), want);
  });
}

test('nft, in the words of the real program', async () => {
  await using namespace = await Namespace.create('mark');
  const nftRows: readonly (readonly [string, 'set' | 'match' | null])[] = [
    ['meta mark set meta mark | 0x1000', 'set'],
    ['meta mark set meta mark & 0xffffefff', 'set'],
    ['meta mark & 0x1000 == 0x1000 masquerade', 'match'],
    ['meta mark & 0x1000 == 0x1000 accept', null],
    ['meta mark set meta mark | 0x4000', null],
    ['meta mark set ct mark', null],
    ['meta mark 0x51820 accept', 'match'],
    ['meta mark 0xca6c accept', null],
    ['meta mark { 1, 2 } accept', 'match'],
    ['ct mark set meta mark', null],
  ];
  for (const [rule, want] of nftRows) {
    const text = `add table inet t
flush table inet t
table inet t { chain c { type nat hook postrouting priority srcnat; ${rule}; }; }
`;
    await namespace.run('nft', ['-f', '-'], text);
    const json: unknown = JSON.parse(await namespace.run('nft', ['--json', 'list', 'ruleset']));
    const users = firewallUsers({ chains: parseNft(json, () => true), unread: [] });
    assert.equal(conflict(users), want, rule);
    await namespace.run('nft', ['delete', 'table', 'inet', 't']);
  }
});

const routing = (rule: Partial<RoutingRule>): RoutingRule => ({
  ...{ family: 2, priority: 100, table: 100, mark: 0x1000, mask: 0x1000, ipProtocol: 0 },
  ...{ sourcePort: null, destinationPort: null, action: 1, protocol: 0, hasOtherConditions: false },
  ...rule,
});

test('routing rules by the mark, without those to the own table', () => {
  const of = (rule: Partial<RoutingRule>): 'set' | 'match' | null =>
    conflict(routingUsers([routing(rule)], 2077));
  assert.equal(of({}), 'match');
  assert.equal(of({ table: 2077 }), null, 'ours');
  assert.equal(of({ mark: 0, mask: 0 }), null, 'no fwmark');
  assert.equal(of({ mark: 0x80000, mask: 0xff0000 }), null, 'Tailscale');
  assert.equal(of({ mark: 0xca6c, mask: 0xffffffff }), null, 'wg-quick');
  assert.equal(of({ mark: 0x1000, mask: 0xffffffff }), 'match');
  assert.deepEqual(
    routingUsers([routing({ family: 10 })], 2077).map(({ where, text }) => [where, text]),
    [['routing6', 'ip -6 rule pref 100 fwmark 0x1000/0x1000 lookup 100']],
  );
});

const setting = (...bits: readonly number[]): readonly MarkUser[] =>
  iptables(bits.map((bit) => `-A X -j MARK --set-xmark ${bit}/${bit}`).join('\n'));

test('the bit that is taken', () => {
  const choices: readonly (readonly [
    request: Parameters<typeof chooseMark>[0],
    want: number | RegExp,
  ])[] = [
    [{ wanted: 'auto', inForce: null, users: [] }, 0x1000],
    [{ wanted: 'auto', inForce: null, users: setting(0x1000) }, 0x40],
    [{ wanted: 'auto', inForce: null, users: setting(0x1000, 0x40) }, 0x20],
    [{ wanted: 'auto', inForce: 0x40, users: [] }, 0x40],
    [{ wanted: 'auto', inForce: 0x40, users: setting(0x40) }, 0x1000],
    [{ wanted: 'auto', inForce: 0x100000, users: setting(0x1000) }, 0x100000],
    [{ wanted: 0x20, inForce: 0x40, users: [] }, 0x20],
    [{ wanted: 0x20, inForce: null, users: setting(0x40) }, 0x20],
    [
      { wanted: 0x20, inForce: 0x20, users: setting(0x20) },
      /the option mark is 0x20.*--set-xmark 32\/32; leave mark at auto or set it to 0x1000/,
    ],
    [
      { wanted: 'auto', inForce: null, users: setting(0xffffffff) },
      /each of the bits 0x1000, 0x40, 0x20.*set the option mark to a free bit, for both processes/,
    ],
  ];
  for (const [request, want] of choices) {
    const chosen = chooseMark(request);
    if (typeof want === 'number') assert.equal(chosen.ok && chosen.value.mark, want);
    else assert.match(chosen.ok ? '' : chosen.error, want);
  }
  const why = chooseMark({ wanted: 'auto', inForce: null, users: setting(0x1000) });
  assert.match(why.ok ? why.value.why : '', /0x1000 is used by iptables -t mangle -A X -j MARK/);
});
