// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What the agent puts into routing and nft, see its node/network-rules.ts: there, and whole. */

import { ownTable } from '@tandem/agent/firewall/read';
import { type Check, type CheckResult, type DoctorContext, fail, pass, skip } from './check.ts';
import { hasRules } from './families.ts';
import { hex, readJson } from './system.ts';

interface RoutingRule {
  readonly priority: number;
  readonly fwmark?: string;
  readonly fwmask?: string;
  readonly ipproto?: string;
  readonly dport?: number;
  readonly table?: string;
}

const chains = ['untrack_steered', 'untrack_replies', 'keep_conntrack'] as const;
const byAgent = 'a running tandem-agent puts it back within seconds';

export const checkRules: Check = async (context) => {
  if (context.isPreflight) return [skip('network-rules', 'before Tandem runs')];
  if (context.endpoints === null) return [skip('network-rules', 'nothing is pinned')];
  return [await checkTable(), await checkRouting('-4', context), await checkRouting('-6', context)];
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

async function checkRouting(family: '-4' | '-6', context: DoctorContext): Promise<CheckResult> {
  const { settings, mark } = context;
  const { port, routingTable, rulePriority } = settings;
  const check = `routing${family === '-4' ? '4' : '6'}`;
  if (!hasRules(family)) return skip(check, 'the loopback interface has no IPv6');
  const table = String(routingTable);
  const rules = await readJson<readonly RoutingRule[]>('ip', ['-j', family, 'rule', 'show']);
  if (!rules.ok) return fail(check, rules.error);
  const missing: string[] = [];
  for (const protocol of ['udp', 'tcp']) {
    const isThere = rules.value.some(
      (rule) =>
        rule.priority === rulePriority &&
        Number(rule.fwmark) === mark &&
        Number(rule.fwmask) === mark &&
        rule.ipproto === protocol &&
        Number(rule.dport) === port &&
        rule.table === table,
    );
    if (isThere) continue;
    missing.push(
      `ip ${family} rule add pref ${rulePriority} fwmark ${hex(mark)}/${hex(mark)} ipproto ${protocol} dport ${port} lookup ${table}`,
    );
  }
  // A table nobody has used yet is an error of ip.
  const routes = await readJson<readonly unknown[]>('ip', [
    '-j',
    family,
    'route',
    'show',
    'table',
    table,
  ]);
  if (!routes.ok || routes.value.length === 0) {
    missing.push(`ip ${family} route replace local default dev lo table ${table}`);
  }
  if (missing.length > 0 && (await isLoopbackDown())) {
    return fail(
      check,
      'steered DNS is not delivered to the shared socket: the loopback interface is down',
      'ip link set lo up',
    );
  }
  if (missing.length === 0) return pass(check, `steered packets are delivered by table ${table}`);
  return fail(
    check,
    `steered DNS is not delivered to the shared socket: ${missing.length} of 3 rules and routes are missing (${byAgent})`,
    missing.join(' && '),
  );
}

async function isLoopbackDown(): Promise<boolean> {
  const links = await readJson<readonly { readonly flags?: readonly string[] }[]>('ip', [
    ...['-j', 'link', 'show', 'lo'],
  ]);
  return links.ok && links.value[0]?.flags?.includes('UP') === false;
}
