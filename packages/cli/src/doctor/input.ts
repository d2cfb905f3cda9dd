// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Steered queries come to the node as its own input: a firewall that drops there drops pods' DNS. */

import type { AddressFamily, SteeredPacket } from '@tandem/agent/firewall/rule';
import { type Passage, passagesAt } from '../firewall/verdict.ts';
import { type Check, type CheckResult, type DoctorContext, fail, pass, warn } from './check.ts';
import { hex } from './system.ts';

export const checkInput: Check = (context) =>
  (['ip', 'ip6'] as const).map((family) => checkFamily(context, family));

function checkFamily(context: DoctorContext, family: AddressFamily): CheckResult {
  const { firewall, mark, settings } = context;
  const check = family === 'ip' ? 'input4' : 'input6';
  const dropping: { readonly passage: Passage; readonly protocol: string }[] = [];
  for (const protocol of ['udp', 'tcp'] as const) {
    const packet: SteeredPacket = {
      family,
      protocol,
      mark,
      markMask: mark,
      port: settings.port,
    };
    for (const passage of passagesAt('input', firewall.chains, packet)) {
      if (passage.verdict === 'drop') dropping.push({ passage, protocol });
    }
  }
  const [first] = dropping;
  if (first === undefined) {
    return firewall.unread.length === 0
      ? pass(check, 'the firewall lets steered queries in')
      : warn(check, `not all rules could be read: ${firewall.unread.join('; ')}`);
  }
  const { chain, rule, maybe } = first.passage;
  const protocols = [...new Set(dropping.map(({ protocol }) => protocol))].join(' and ');
  const cause = rule === null ? `the policy of ${chain.table} ${chain.name}` : rule.text;
  const fix = acceptCommand(first.passage, context);
  if (maybe.length > 0) {
    const why = `${cause} drops steered queries (${protocols}) unless an earlier rule accepts them, which tandem doctor cannot evaluate: ${maybe[0]?.text ?? ''}`;
    return warn(check, why, fix);
  }
  return fail(check, `${cause} drops steered queries (${protocols}): pods get no DNS answers`, fix);
}

/** The accept for our mark, in the words of the firewall that drops. */
function acceptCommand({ chain }: Passage, { mark }: DoctorContext): string {
  const bit = hex(mark);
  const nft = /^nft (\S+) (.+)$/.exec(chain.table);
  if (nft !== null) {
    return `nft insert rule ${nft[1]} ${nft[2]} ${chain.name} meta mark and ${bit} == ${bit} accept`;
  }
  const [program = 'iptables', table = 'filter'] = chain.table.split(' ');
  return `${program} -t ${table} -I ${chain.name} 1 -m mark --mark ${bit}/${bit} -j ACCEPT`;
}
