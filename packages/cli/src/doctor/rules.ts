// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Routing rules and nft table of the agent (node/network-rules.ts): present and complete. */

import { ownTable } from '@tandem/agent/firewall/read';
import {
  type Family,
  type MissingRouting,
  missingRouting,
  rulesBefore,
} from '@tandem/agent/node/network-rules';
import { rulesShownMax } from '../limits.ts';
import {
  type Check,
  type CheckResult,
  type DoctorContext,
  fail,
  pass,
  skip,
  warn,
} from './check.ts';
import { hasRules } from './families.ts';
import { hex, readJson } from './system.ts';

type OwnRule = MissingRouting['rules'][number];

const IPPROTO_UDP = 17;
const chains = ['untrack_steered', 'untrack_replies', 'keep_conntrack'] as const;
const byAgent = 'a running tandem-agent puts it back within seconds';

export const checkRules: Check = async (context) => {
  if (context.isPreflight) return [skip('rules-unchecked', 'before Tandem runs')];
  if (context.endpoints === null) return [skip('rules-unchecked', 'nothing is pinned')];
  return [await checkTable(), checkRouting('IPv4', context), checkRouting('IPv6', context)];
};

async function checkTable(): Promise<CheckResult> {
  const check = 'nft-table';
  const { family, name } = ownTable;
  const found = await readJson<unknown>('nft', ['--json', 'list', 'table', family, name]);
  const fix = `restart tandem-agent: ${byAgent}`;
  if (!found.ok) {
    const why = `table ${family} ${name} cannot be listed, so steered DNS fills conntrack: ${found.error}`;
    return fail(check, why, fix);
  }
  const text = JSON.stringify(found.value);
  const missing = chains.filter((chain) => !text.includes(`"name":"${chain}"`));
  return missing.length === 0
    ? pass(check, `table ${family} ${name} is whole`)
    : fail(check, `table ${family} ${name} has no ${missing.join(', ')}`, fix);
}

function checkRouting(family: Family, context: DoctorContext): CheckResult {
  const { settings, mark, network } = context;
  const check = family === 'IPv4' ? 'routing4' : 'routing6';
  if (!hasRules(family)) return skip(check, 'the loopback interface has no IPv6');
  const unread = network.problems.get('rules') ?? network.problems.get('routes');
  if (unread !== undefined) return warn(check, `rules and routes cannot be read: ${unread}`);
  const { state } = network;
  const { rules, isRouted } = missingRouting(state, family, { ...settings, mark });
  const table = settings.routingTable;
  const missing = rules.length + (isRouted ? 0 : 1);
  if (missing === 0) {
    return (
      checkBefore(family, context) ?? pass(check, `steered packets are delivered by table ${table}`)
    );
  }
  const lost = 'steered DNS is not delivered to the shared socket';
  if (state.linkByName('lo')?.isUp === false) {
    return fail(check, `${lost}: the loopback interface is down`, 'ip link set lo up');
  }
  const ip = `ip ${family === 'IPv4' ? '-4' : '-6'}`;
  const commands = [
    ...rules.map((rule) => `${ip} rule add ${ruleText(rule)}`),
    ...(isRouted ? [] : [`${ip} route replace local default dev lo table ${table}`]),
  ];
  return fail(
    check,
    `${lost}: ${missing} of 3 rules and routes are missing (${byAgent})`,
    commands.join(' && '),
  );
}

/** Rules of others that the kernel asks before Tandem's; null: none that may match a steered packet. */
function checkBefore(
  family: Family,
  { settings, mark, network }: DoctorContext,
): CheckResult | null {
  const { rulePriority } = settings;
  const before = rulesBefore(network.state, family, { ...settings, mark });
  if (before.length === 0) return null;
  const ip = family === 'IPv4' ? 'ip rule' : 'ip -6 rule';
  const texts = before
    .slice(0, rulesShownMax)
    .map(({ priority, table }) => `pref ${priority} lookup ${table}`);
  const more = before.length > texts.length ? ` and ${before.length - texts.length} more` : '';
  const lowest = Math.min(...before.map(({ priority }) => priority));
  const move = `give the other rules a preference over ${rulePriority}`;
  return warn(
    family === 'IPv4' ? 'routing4' : 'routing6',
    `${ip}: ${texts.join(', ')}${more} come before the rules of Tandem (pref ${rulePriority}) and may route steered queries elsewhere: pods get no DNS answers then`,
    lowest > 1 ? `restart the agent with --rule-priority=${lowest - 1}, or ${move}` : move,
  );
}

function ruleText({ priority, mark, mask, ipProtocol, destinationPort, table }: OwnRule): string {
  const protocol = ipProtocol === IPPROTO_UDP ? 'udp' : 'tcp';
  return `pref ${priority} fwmark ${hex(mark)}/${hex(mask)} ipproto ${protocol} dport ${destinationPort?.start} lookup ${table}`;
}
