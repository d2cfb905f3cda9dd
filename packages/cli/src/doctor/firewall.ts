// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Steered queries come to the node as its own input, and what members send on and answer is the node's own output: a
 * firewall that drops there drops pods' DNS.
 */

import type { AddressFamily, Chain, DnsPacket } from '@tandem/agent/firewall/rule';
import { isIpv4 } from '@tandem/core/net/ip';
import { dnsPort } from '@tandem/core/policy/dns/dns-servers';
import { type Passage, passagesAt } from '../firewall/verdict.ts';
import { type Check, type CheckResult, type DoctorContext, fail, pass, warn } from './check.ts';
import type { CheckCode } from './check-codes.ts';
import { hex } from './system.ts';

/** Packets of DNS that pass a hook of the node's own, and how a rule tells them. */
interface DnsPath {
  readonly what: string;
  readonly hook: 'input' | 'output';
  readonly packet: Omit<DnsPacket, 'family' | 'protocol' | 'sources' | 'destinations'>;
  /** End of the packet that has the address of a pod; null: neither. */
  readonly podIs: 'sources' | 'destinations' | null;
  /** The condition in the words of nft. */
  readonly nft: string;
  /** Texts of iptables, for each rule. */
  readonly iptables: readonly string[];
}

export const checkFirewall: Check = (context) => {
  const { mark, settings } = context;
  const { port } = settings;
  const bit = hex(mark);
  const unmarked = { mark: 0, markMask: mark };
  const steered: DnsPath = {
    what: 'steered queries',
    hook: 'input',
    podIs: 'sources',
    packet: {
      ...{ mark, markMask: mark, sourcePort: null, destinationPort: port },
      state: 'untracked',
    },
    nft: `meta mark and ${bit} == ${bit}`,
    iptables: [`-m mark --mark ${bit}/${bit}`],
  };
  const replies: DnsPath = {
    what: 'replies to pods',
    hook: 'output',
    podIs: 'destinations',
    packet: { ...unmarked, sourcePort: port, destinationPort: null, state: 'untracked' },
    nft: `meta l4proto { tcp, udp } th sport ${port}`,
    iptables: [`-p udp --sport ${port}`, `-p tcp --sport ${port}`],
  };
  const sent: DnsPath = {
    what: 'queries that Tandem sends to DNS servers for pods',
    hook: 'output',
    podIs: null,
    packet: { ...unmarked, sourcePort: null, destinationPort: dnsPort, state: 'new' },
    nft: `meta l4proto { tcp, udp } th dport ${dnsPort}`,
    iptables: [`-p udp --dport ${dnsPort}`, `-p tcp --dport ${dnsPort}`],
  };
  return [
    checkPaths(context, 'ip', 'input4', [steered]),
    checkPaths(context, 'ip6', 'input6', [steered]),
    checkPaths(context, 'ip', 'output4', [replies, sent]),
    checkPaths(context, 'ip6', 'output6', [replies, sent]),
  ];
};

interface Dropping {
  readonly path: DnsPath;
  readonly passage: Passage;
  readonly protocol: string;
}

function checkPaths(
  { firewall, endpoints }: DoctorContext,
  family: AddressFamily,
  check: CheckCode,
  paths: readonly DnsPath[],
): CheckResult {
  const pods = (endpoints ?? [])
    .map(({ address }) => address)
    .filter((address) => isIpv4(address) === (family === 'ip'));
  const dropping: Dropping[] = paths.flatMap((path) =>
    (['udp', 'tcp'] as const).flatMap((protocol) =>
      passagesAt(path.hook, firewall.chains, {
        ...{ ...path.packet, family, protocol, sources: [], destinations: [] },
        ...(path.podIs === null ? {} : { [path.podIs]: pods }),
      })
        .filter(({ verdict }) => verdict === 'drop')
        .map((passage) => ({ path, passage, protocol })),
    ),
  );
  const isCertain = ({ passage }: Dropping): boolean => passage.maybe.length === 0;
  const first = dropping.find(isCertain) ?? dropping[0];
  if (first === undefined) {
    const what = paths.map((path) => path.what).join(' and ');
    return firewall.unread.length === 0
      ? pass(check, `the firewall lets ${what} pass`)
      : warn(check, `not all rules could be read: ${firewall.unread.join('; ')}`);
  }
  const { chain, rule, maybe } = first.passage;
  const alike = dropping.filter(({ passage }) => passage.chain === chain && passage.rule === rule);
  const whats = [...new Set(alike.map(({ path }) => path.what))].join(' and ');
  const protocols = [...new Set(alike.map(({ protocol }) => protocol))].join(' and ');
  const cause = rule === null ? `the policy of ${chain.table} ${chain.name}` : rule.text;
  const fix = fixOf(chain, [...new Set(alike.map(({ path }) => path))]);
  if (maybe.length > 0) {
    const why = `${cause} drops ${whats} (${protocols}) unless an earlier rule accepts them, which tandem doctor cannot evaluate: ${maybe[0]?.text ?? ''}`;
    return warn(check, why, fix);
  }
  return fail(check, `${cause} drops ${whats} (${protocols}): pods get no DNS answers`, fix);
}

/** firewalld writes its table again whenever it is reloaded, and a newer one owns it: a rule that is inserted would not stay. */
const firewalldTable = /^nft (inet|ip|ip6) firewalld$/;
const firewalldFix =
  'for each pod CIDR of the cluster: firewall-cmd --permanent --zone=trusted --add-source=CIDR && firewall-cmd --reload';

function fixOf(chain: Chain, paths: readonly DnsPath[]): string {
  if (firewalldTable.test(chain.table) && chain.filterHook === 'input') return firewalldFix;
  if (!chain.isOwned) return paths.flatMap((path) => acceptCommands(chain, path)).join(' && ');
  const conditions = paths.map(({ nft }) => nft).join(', ');
  return `the table belongs to the program that made it (flag owner), and nft cannot add to it: have that program accept ${conditions}`;
}

/** Rules that accept the packets of the path, in the words of the firewall that drops. */
function acceptCommands(chain: Chain, path: DnsPath): readonly string[] {
  const nft = /^nft (\S+) (.+)$/.exec(chain.table);
  if (nft !== null) {
    return [`nft insert rule ${nft[1]} ${nft[2]} ${chain.name} ${path.nft} accept`];
  }
  const [program = 'iptables', table = 'filter'] = chain.table.split(' ');
  return path.iptables.map(
    (condition) => `${program} -t ${table} -I ${chain.name} 1 ${condition} -j ACCEPT`,
  );
}
