// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What the node's network stack must do for the shared socket, beside BPF: deliver steered packets
 * locally (policy routing), keep them out of conntrack, and have conntrack at all. Everything is named,
 * so that it is found again, and put back when somebody removed it. A part that cannot be made keeps no
 * other from being made: without routing pods get no DNS answers, and policy is enforced all the same.
 */

import { ipv6State } from '@tandem/datapath/address-families';
import type { MarkConfig } from '@tandem/datapath/config';
import { TandemError } from '@tandem/runtime/tandem-error';
import { run } from './command.ts';

export interface NetworkRulesOptions {
  readonly mark: MarkConfig;
  readonly port: number;
  /** Routing table and rule priority that are ours. */
  readonly routingTable: number;
  readonly rulePriority: number;
}

interface RuleJson {
  readonly priority: number;
  readonly fwmark?: string;
  readonly fwmask?: string;
  readonly ipproto?: string;
  readonly dport?: number;
  readonly table?: string;
}

const nftTable = 'tandem';
const hex = (value: number): string => `0x${value.toString(16)}`;

const ruleParts = ['IPv4 routing', 'IPv6 routing', 'nft table'] as const;
export type RulePart = (typeof ruleParts)[number];

export interface RuleProblem {
  readonly part: RulePart;
  readonly message: string;
}

type Work = readonly (readonly [part: RulePart, work: () => Promise<void>])[];

/**
 * Brings rules, routes and the nft table to what they must be; does nothing where they are. Never rejects:
 * gives what could not be done. IPv6 is left out where the loopback interface does not have it.
 */
export function ensureNetworkRules(options: NetworkRulesOptions): Promise<readonly RuleProblem[]> {
  return attemptAll([
    ['IPv4 routing', () => ensureRouting('-4', options)],
    ...(ipv6State() === 'on'
      ? ([['IPv6 routing', () => ensureRouting('-6', options)]] as const)
      : []),
    ['nft table', () => ensureNftTable(options)],
  ]);
}

/** Takes everything away again. Never rejects. */
export function removeNetworkRules(options: NetworkRulesOptions): Promise<readonly RuleProblem[]> {
  return attemptAll([
    ['IPv4 routing', () => removeRouting('-4', options)],
    ...(ipv6State() === 'absent'
      ? []
      : ([['IPv6 routing', () => removeRouting('-6', options)]] as const)),
    ['nft table', removeNftTable],
  ]);
}

async function attemptAll(parts: Work): Promise<readonly RuleProblem[]> {
  const problems: RuleProblem[] = [];
  for (const [part, work] of parts) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await work();
    } catch (error) {
      problems.push({ part, message: TandemError.from(error).message });
    }
  }
  return problems;
}

async function removeRouting(family: string, options: NetworkRulesOptions): Promise<void> {
  for (const protocol of ['udp', 'tcp']) {
    if (!(await hasRule(family, protocol, options))) continue;
    await run('ip', [family, 'rule', 'del', ...ruleArguments(protocol, options)]);
  }
  const table = String(options.routingTable);
  if ((await localRoutes(family, table)).length > 0) {
    await run('ip', [family, 'route', 'flush', 'table', table]);
  }
}

async function removeNftTable(): Promise<void> {
  if (await hasNftTable()) await run('nft', ['delete', 'table', 'inet', nftTable]);
}

/**
 * `dport P` in the rule is what makes it hold with src_valid_mark=1: the reverse path check swaps the
 * ports, so it does not match there.
 */
function ruleArguments(protocol: string, options: NetworkRulesOptions): string[] {
  const { mark, port, routingTable, rulePriority } = options;
  return [
    ...['pref', String(rulePriority), 'fwmark', `${hex(mark.redirect)}/${hex(mark.mask)}`],
    ...['ipproto', protocol, 'dport', String(port), 'lookup', String(routingTable)],
  ];
}

async function ensureRouting(family: string, options: NetworkRulesOptions): Promise<void> {
  const table = String(options.routingTable);
  if ((await localRoutes(family, table)).length === 0) {
    await run('ip', [family, 'route', 'replace', 'local', 'default', 'dev', 'lo', 'table', table]);
  }
  const rules = await readRules(family);
  for (const protocol of ['udp', 'tcp']) {
    if (rules.some((rule) => isOurs(rule, protocol, options))) continue;
    await run('ip', [family, 'rule', 'add', ...ruleArguments(protocol, options)]);
  }
  for (const rule of rules) {
    if (!isOutdated(rule, options)) continue;
    const match = ['fwmark', `${rule.fwmark}/${rule.fwmask}`, 'ipproto', `${rule.ipproto}`];
    const what = ['pref', `${rule.priority}`, ...match, 'dport', `${rule.dport}`, 'lookup', table];
    await run('ip', [family, 'rule', 'del', ...what]);
  }
}

async function readRules(family: string): Promise<readonly RuleJson[]> {
  return JSON.parse(await run('ip', ['-j', family, 'rule', 'show'])) as readonly RuleJson[];
}

/** Made by us for another mark or port, before the configuration changed. */
function isOutdated(rule: RuleJson, options: NetworkRulesOptions): boolean {
  const { priority, table, fwmark, fwmask, ipproto, dport } = rule;
  if (priority !== options.rulePriority || table !== String(options.routingTable)) return false;
  if (fwmark === undefined || fwmask === undefined || dport === undefined) return false;
  return ipproto !== undefined && !isOurs(rule, ipproto, options);
}

async function localRoutes(family: string, table: string): Promise<readonly unknown[]> {
  // A table nobody has used yet is an error of ip, not an empty list.
  const text = await run('ip', ['-j', family, 'route', 'show', 'table', table]).catch(() => '');
  return text.trim() === '' ? [] : (JSON.parse(text) as readonly unknown[]);
}

async function hasRule(
  family: string,
  protocol: string,
  options: NetworkRulesOptions,
): Promise<boolean> {
  return (await readRules(family)).some((rule) => isOurs(rule, protocol, options));
}

function isOurs(
  rule: RuleJson,
  protocol: string,
  { mark, port, routingTable, rulePriority }: NetworkRulesOptions,
): boolean {
  return (
    rule.priority === rulePriority &&
    Number(rule.fwmark) === mark.redirect &&
    Number(rule.fwmask) === mark.mask &&
    rule.ipproto === protocol &&
    Number(rule.dport) === port &&
    rule.table === String(routingTable)
  );
}

async function hasNftTable(): Promise<boolean> {
  const tables = await run('nft', ['list', 'tables', 'inet']);
  return tables.split('\n').includes(`table inet ${nftTable}`);
}

/**
 * Steered queries and our replies are not tracked: one conntrack entry per query would let a pod fill
 * the table (safety rule 8). The ct state rule keeps conntrack on in both families: without it replies
 * are judged as new connections.
 */
async function ensureNftTable({ mark }: NetworkRulesOptions): Promise<void> {
  if (
    (await hasNftTable()) &&
    isNftTable(await run('nft', ['list', 'table', 'inet', nftTable]), mark)
  )
    return;
  const redirect = `meta mark & ${hex(mark.mask)} == ${hex(mark.redirect)}`;
  const socket = `meta mark & ${hex(mark.mask)} == ${hex(mark.socket)}`;
  await run(
    'nft',
    ['-f', '-'],
    `table inet ${nftTable} {}
delete table inet ${nftTable}
table inet ${nftTable} {
  chain untrack_steered {
    type filter hook prerouting priority -300; policy accept;
    ${redirect} notrack
  }
  chain untrack_replies {
    type filter hook output priority -300; policy accept;
    ${socket} notrack
  }
  chain keep_conntrack {
    type filter hook prerouting priority -150; policy accept;
    ct state invalid counter
  }
}
`,
  );
}

/** Each chain with its rule, for these marks: nft pads numbers in its own way. */
function isNftTable(present: string, { mask, redirect, socket }: MarkConfig): boolean {
  const notrack = (value: number): string =>
    `meta mark & 0x0*${mask.toString(16)} == 0x0*${value.toString(16)} notrack`;
  return [
    ['untrack_steered', notrack(redirect)],
    ['untrack_replies', notrack(socket)],
    ['keep_conntrack', 'ct state invalid'],
  ].every(([chain, rule]) => new RegExp(`chain ${chain} \\{[^}]*${rule}`).test(present));
}
