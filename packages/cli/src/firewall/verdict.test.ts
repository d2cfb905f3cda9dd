// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Rules in the words of both firewalls, and what becomes of a steered packet. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIptablesSave } from '@tandem/agent/firewall/iptables';
import { parseNft } from '@tandem/agent/firewall/nft';
import type { Chain, DnsPacket, MarkUse } from '@tandem/agent/firewall/rule';
import { parseAddress } from '@tandem/core/net/ip';
import { Namespace } from '@tandem/testing/namespace';
import { passagesAt } from './verdict.ts';

const packet: DnsPacket = {
  family: 'ip',
  protocol: 'udp',
  mark: 0x1000,
  markMask: 0x3000,
  sources: [],
  destinations: [],
  sourcePort: null,
  destinationPort: 10_053,
  state: 'untracked',
};

/** "accept", "drop", and with a "?" where a rule before might accept. */
function outcome(chains: readonly Chain[], of: DnsPacket = packet): string {
  const [passage] = passagesAt('input', chains, of);
  if (passage === undefined) return 'no chain';
  return `${passage.verdict}${passage.verdict === 'drop' && passage.maybe.length > 0 ? '?' : ''}`;
}

const saved = (rules: string, policy = 'DROP'): string =>
  ['*filter', `:INPUT ${policy} [0:0]`, ':fw - [0:0]', ...rules.split('\n'), 'COMMIT'].join('\n');

const iptablesRows: readonly [rules: string, want: string, policy?: string][] = [
  ['', 'drop'],
  ['', 'accept', 'ACCEPT'],
  ['-A INPUT -j DROP', 'drop', 'ACCEPT'],
  ['-A INPUT -j REJECT --reject-with icmp-port-unreachable', 'drop', 'ACCEPT'],
  ['-A INPUT -m mark --mark 0x1000/0x3000 -j ACCEPT', 'accept'],
  ['-A INPUT -m mark --mark 0x3000/0x3000 -j ACCEPT', 'drop'],
  ['-A INPUT -m mark ! --mark 0x0/0x1000 -j ACCEPT', 'accept'],
  ['-A INPUT -m mark --mark 0x1000 -j ACCEPT', 'drop?'],
  ['-A INPUT -m connmark --mark 0x1000/0x3000 -j ACCEPT', 'drop?'],
  ['-A INPUT -p udp -m udp --dport 10053 -j ACCEPT', 'accept'],
  ['-A INPUT -p tcp -m tcp --dport 10053 -j ACCEPT', 'drop'],
  ['-A INPUT -p udp -m multiport --dports 53,10000:10100 -j ACCEPT', 'accept'],
  ['-A INPUT -p udp -m multiport ! --dports 53,10053 -j ACCEPT', 'drop'],
  ['-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', 'drop'],
  ['-A INPUT -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT', 'accept'],
  ['-A INPUT -i lo -j ACCEPT', 'drop'],
  ['-A INPUT ! -i eth0 -j ACCEPT', 'drop?'],
  ['-A INPUT -s 10.0.0.0/8 -j ACCEPT', 'drop?'],
  ['-A INPUT -s 10.0.0.0/8 -j DROP', 'accept', 'ACCEPT'],
  ['-A INPUT -j fw\n-A fw -p udp -j ACCEPT', 'accept'],
  ['-A INPUT -j fw\n-A fw -p udp -j RETURN\n-A INPUT -j ACCEPT', 'accept'],
  ['-A INPUT -g fw\n-A INPUT -j ACCEPT', 'drop'],
  ['-A INPUT -i veth0 -j fw\n-A fw -j ACCEPT', 'drop?'],
  ['-A INPUT -j fw\n-A fw -j fw', 'drop'],
  ['-A INPUT -m comment --comment "-j ACCEPT" -j DROP', 'drop'],
  ['-A INPUT -j LOG --log-prefix "-j ACCEPT "', 'drop'],
];

for (const [rules, want, policy] of iptablesRows) {
  test(`iptables: ${rules.replaceAll('\n', '; ') || 'no rules'} (${policy ?? 'DROP'}) is ${want}`, () => {
    assert.equal(outcome(parseIptablesSave(saved(rules, policy), 'ip', 'iptables')), want);
  });
}

test('iptables: sources of pods', () => {
  for (const [rule, , want] of sourceRows) {
    const chains = parseIptablesSave(saved(`-A INPUT ${rule}`), 'ip', 'iptables');
    assert.equal(outcome(chains, ofPods), want, rule);
  }
});

const marksOf = (chains: readonly Chain[]): MarkUse[] =>
  chains.flatMap(({ rules }) => rules.flatMap(({ markUses }) => markUses));

test('iptables: bits of the mark that rules look at and change', () => {
  const rows: readonly [string, readonly MarkUse[]][] = [
    ['-m mark --mark 0x4000/0x4000 -j RETURN', [{ kind: 'match', bits: 0x4000, value: 0x4000 }]],
    ['-m mark --mark 0x1 -j RETURN', [{ kind: 'match', bits: 0xffffffff, value: 1 }]],
    ['-m mark ! --mark 0x1 -j RETURN', [{ kind: 'match', bits: 0xffffffff }]],
    ['-j MARK --set-xmark 0x4000/0x4000', [{ kind: 'set', bits: 0x4000 }]],
    ['-j MARK --set-xmark 0x4000/0x0', [{ kind: 'set', bits: 0x4000 }]],
    ['-j MARK --set-xmark 0x20/0xffffffff', [{ kind: 'set', bits: 0xffffffff }]],
    ['-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff', [{ kind: 'restore', bits: 0xff }]],
    ['-j CONNMARK --restore-mark', [{ kind: 'restore', bits: 0xffffffff }]],
    ['-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff', []],
    ['-m connmark --mark 0x1000/0x1000 -j RETURN', []],
  ];
  for (const [rule, want] of rows) {
    const chains = parseIptablesSave(saved(`-A INPUT ${rule}`), 'ip', 'iptables');
    assert.deepEqual(marksOf(chains), want, rule);
  }
});

const nftRows: readonly [rules: string, want: string][] = [
  ['', 'drop'],
  ['meta mark & 0x3000 == 0x1000 accept', 'accept'],
  ['meta mark & 0x3000 != 0x1000 accept', 'drop'],
  ['meta mark & 0x3000 == { 0x1000, 0x3000 } accept', 'accept'],
  ['meta mark & 0xf000 == 0x1000 accept', 'drop?'],
  ['udp dport 10053 accept', 'accept'],
  ['tcp dport 10053 accept', 'drop'],
  ['th dport 10000-10100 accept', 'accept'],
  ['meta l4proto { tcp, udp } accept', 'accept'],
  ['ct state established,related accept', 'drop'],
  ['ct state { established, untracked } accept', 'accept'],
  ['ct state vmap { established : accept, invalid : drop }', 'drop'],
  ['ct status dnat accept', 'drop'],
  ['ct status != dnat accept', 'drop'],
  ['ct mark != 1 accept', 'drop'],
  ['iifname "lo" accept', 'drop'],
  ['iifname "veth*" accept', 'drop?'],
  ['ip saddr 10.0.0.0/8 accept', 'drop?'],
  ['ip6 saddr fd00::/8 accept', 'drop'],
  ['meta nfproto ipv4 accept', 'accept'],
  ['jump other\naccept', 'accept'],
  ['jump steered', 'accept'],
  ['limit rate 5/second accept', 'drop?'],
  ['counter reject', 'drop'],
];

const ofPods: DnsPacket = {
  ...packet,
  sources: ['10.1.0.11', '10.1.2.3'].map((text) => parseAddress(text) ?? new Uint8Array(0)),
};

/** Rules of iptables and of nft that say the same of a packet of one of these pods. */
const sourceRows: readonly [iptables: string, nft: string, want: string][] = [
  ['-s 10.0.0.0/8 -j ACCEPT', 'ip saddr 10.0.0.0/8 accept', 'accept'],
  ['-s 10.1.0.0/24 -j ACCEPT', 'ip saddr 10.1.0.0/24 accept', 'drop?'],
  ['-s 10.2.0.0/16 -j ACCEPT', 'ip saddr 10.2.0.0/16 accept', 'drop'],
  ['! -s 10.2.0.0/16 -j ACCEPT', 'ip saddr != 10.2.0.0/16 accept', 'accept'],
  ['-s 10.1.0.11/32 -j ACCEPT', 'ip saddr 10.1.0.11 accept', 'drop?'],
  ['-d 10.0.0.0/8 -j ACCEPT', 'ip daddr 10.0.0.0/8 accept', 'drop?'],
  ['-s 10.1.0.0/16 -g fw\n-A fw -j ACCEPT', 'ip saddr { 10.1.0.11, 10.1.2.0/24 } accept', 'accept'],
];

/** As nft shows protocols where there is no /etc/protocols. */
const byNumber = (json: string): string =>
  json.replaceAll(/("l4proto"\}\}, "right": )(\{"set": \[[^\]]*\]\}|"\w+")/g, (_, left, right) => {
    const numbers = Object.entries({ icmp: 1, tcp: 6, udp: 17 });
    const shown = numbers.reduce(
      (text, [name, number]) => text.replaceAll(`"${name}"`, `${number}`),
      String(right),
    );
    return `${left}${shown}`;
  });

test('nft: the words of the real program', async () => {
  await using namespace = await Namespace.create('nft');
  const parse = async (rules: string): Promise<readonly Chain[]> => {
    const text = `table inet fw {}
delete table inet fw
table inet fw {
  chain other { tcp dport 1 drop; }
  chain steered { udp dport 10053 accept; }
  chain input {
    type filter hook input priority 0; policy drop;
${rules}
  }
}
`;
    await namespace.run('nft', ['-f', '-'], text);
    shown = await namespace.run('nft', ['--json', 'list', 'ruleset']);
    return parseNft(JSON.parse(shown), () => true);
  };
  let shown = '';
  for (const [rules, want] of nftRows) {
    assert.equal(outcome(await parse(rules)), want, rules);
    const numbered = JSON.parse(byNumber(shown));
    assert.equal(outcome(parseNft(numbered, () => true)), want, `${rules} by number`);
  }
  for (const [, rule, want] of sourceRows)
    assert.equal(outcome(await parse(rule), ofPods), want, rule);
  const marks: readonly [string, readonly MarkUse[]][] = [
    ['meta mark set 0x1', [{ kind: 'set', bits: 0xffffffff }]],
    ['meta mark set ct mark', [{ kind: 'restore', bits: 0xffffffff }]],
    ['meta mark set ct mark and 0xff', [{ kind: 'restore', bits: 0xffffffff }]],
    ['meta mark set mark or 0x4000', [{ kind: 'set', bits: 0x4000 }]],
    ['meta mark set mark xor 0x4000', [{ kind: 'set', bits: 0x4000 }]],
    ['meta mark set mark and 0xfffff0ff or 0x100', [{ kind: 'set', bits: 0xf00 }]],
    ['meta mark 0x55 accept', [{ kind: 'match', bits: 0xffffffff, value: 0x55 }]],
    ['meta mark != 0x55 accept', [{ kind: 'match', bits: 0xffffffff }]],
    ['meta mark & 0x1000 == 0x1000 accept', [{ kind: 'match', bits: 0x1000, value: 0x1000 }]],
    ['meta mark { 1, 2 } accept', [{ kind: 'match', bits: 0xffffffff }]],
    ['ct mark set meta mark', []],
  ];
  for (const [rule, want] of marks) assert.deepEqual(marksOf(await parse(rule)), want, rule);
  const v6: DnsPacket = { ...packet, family: 'ip6', protocol: 'tcp' };
  assert.equal(outcome(await parse('meta l4proto tcp ip6 saddr ::/0 accept'), v6), 'drop?');
  assert.equal(outcome(await parse('meta nfproto ipv6 accept'), v6), 'accept');
});

test('iptables-save of the real program says what was told to iptables', async () => {
  await using namespace = await Namespace.create('iptables');
  await namespace.run('iptables', ['-P', 'INPUT', 'DROP']);
  const chains = async (): Promise<readonly Chain[]> =>
    parseIptablesSave(await namespace.run('iptables-save', []), 'ip', 'iptables');
  assert.equal(outcome(await chains()), 'drop');
  const accept = ['-A', 'INPUT', '-m', 'mark', '--mark', '0x1000/0x3000', '-j', 'ACCEPT'];
  await namespace.run('iptables', accept);
  assert.equal(outcome(await chains()), 'accept');
  await namespace.run('iptables', [
    '-t',
    'mangle',
    '-A',
    'PREROUTING',
    '-j',
    'MARK',
    '--set-mark',
    '7',
  ]);
  assert.ok(
    marksOf(await chains()).some(({ kind, bits }) => kind === 'set' && bits === 0xffffffff),
  );
});
