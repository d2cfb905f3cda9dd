// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The rules of `nft --json list ruleset` (libnftables-json(5)). An expression that is not understood makes a match
 * unknown, never true or false.
 */

import { hostPrefix, type Prefix, parseAddress, parsePrefix } from '@tandem/core/net/ip';
import type { AddressFamily, Chain, DnsPacket, MarkUse, Rule, RuleVerdict, Tri } from './rule.ts';
import { allBits, allOf, matchAddress, matchMark, negated } from './rule.ts';

type Json = unknown;
type Fields = Readonly<Record<string, Json>>;

const isFields = (value: Json): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const member = (value: Json, name: string): Json => (isFields(value) ? value[name] : undefined);

/** Chains with their rules; those for which `isForeign` is false are left out. */
export function parseNft(
  document: Json,
  isForeign: (family: string, table: string) => boolean,
): readonly Chain[] {
  const list = member(document, 'nftables');
  if (!Array.isArray(list)) return [];
  const owned = new Set(
    list.flatMap((item: Json) => {
      const table = member(item, 'table');
      return isOwned(table)
        ? [`${String(member(table, 'family'))} ${String(member(table, 'name'))}`]
        : [];
    }),
  );
  const chains = new Map<string, Chain & { readonly rules: Rule[] }>();
  for (const item of list as readonly Json[]) {
    const chain = member(item, 'chain');
    const [family, table, name] = [
      member(chain, 'family'),
      member(chain, 'table'),
      member(chain, 'name'),
    ];
    if (typeof family !== 'string' || typeof table !== 'string' || typeof name !== 'string')
      continue;
    if (!isForeign(family, table)) continue;
    const hook = member(chain, 'hook');
    const isFilter = member(chain, 'type') === 'filter' && typeof hook === 'string';
    chains.set(`${family} ${table} ${name}`, {
      table: `nft ${family} ${table}`,
      isOwned: owned.has(`${family} ${table}`),
      name,
      families: familiesOf(family),
      filterHook: isFilter ? hook : null,
      policy: member(chain, 'policy') === 'drop' ? 'drop' : 'accept',
      rules: [],
    });
  }
  for (const item of list as readonly Json[]) {
    const rule = member(item, 'rule');
    const expressions = member(rule, 'expr');
    const key = ['family', 'table', 'chain'].map((name) => String(member(rule, name))).join(' ');
    if (Array.isArray(expressions)) chains.get(key)?.rules.push(parseRule(expressions, key));
  }
  return [...chains.values()];
}

/**
 * nft 1.0.6 writes a text of its memory for the flag `owner`. A table with `persist` alone outlived its owner (Linux 6.9): everybody may
 * change it.
 */
function isOwned(table: Json): boolean {
  const flags = member(table, 'flags');
  const all: readonly Json[] = Array.isArray(flags) ? flags : [flags];
  return all.some((flag) => flag !== undefined && flag !== 'dormant' && flag !== 'persist');
}

function familiesOf(family: string): readonly AddressFamily[] {
  if (family === 'ip' || family === 'ip6') return [family];
  return family === 'inet' ? ['ip', 'ip6'] : [];
}

function parseRule(expressions: readonly Json[], place: string): Rule {
  const verdict = verdictOf(expressions);
  // A verdict map decides by a key: what it accepts is possible, not certain.
  const hasMap = expressions.some((expression) => member(expression, 'vmap') !== undefined);
  return {
    text: `${place}: ${JSON.stringify(expressions)}`,
    matches: (packet) => {
      const conditions = expressions.map((expression) => matchOf(expression, packet));
      return hasMap ? allOf([...conditions, vmapOf(expressions, packet)]) : allOf(conditions);
    },
    verdict: hasMap && verdict.kind === 'none' ? { kind: 'accept' } : verdict,
    markUses: expressions.flatMap(markUsesOf),
    usesConntrack: /"ct":/.test(JSON.stringify(expressions)),
  };
}

/** `ct state vmap`: it says which states it has. Any other map: unknown. */
function vmapOf(expressions: readonly Json[], { state }: DnsPacket): Tri {
  const map = expressions.map((expression) => member(expression, 'vmap')).find(isFields);
  if (member(member(map?.['key'], 'ct'), 'key') !== 'state') return null;
  return JSON.stringify(map).includes(`"${state}"`) ? null : false;
}

function verdictOf(expressions: readonly Json[]): RuleVerdict {
  for (const expression of expressions) {
    if (!isFields(expression)) continue;
    for (const kind of ['jump', 'goto'] as const) {
      const target = member(expression[kind], 'target');
      if (typeof target === 'string') return { kind, target };
    }
    if ('accept' in expression) return { kind: 'accept' };
    if ('drop' in expression || 'reject' in expression) return { kind: 'drop' };
    if ('return' in expression) return { kind: 'return' };
  }
  return { kind: 'none' };
}

/** Expressions that let every packet go on to the next one. */
const passing: ReadonlySet<string> = new Set([
  ...['counter', 'log', 'mangle', 'notrack', 'accept', 'drop', 'reject', 'return', 'jump', 'goto'],
  'vmap',
]);

function matchOf(expression: Json, packet: DnsPacket): Tri {
  if (!isFields(expression)) return null;
  const match = expression['match'];
  if (match === undefined)
    return Object.keys(expression).every((name) => passing.has(name)) || null;
  const left = member(match, 'left');
  // An untracked packet has a state and nothing else: the rule does not hold, whatever its operator.
  const ct = member(member(left, 'ct'), 'key');
  if (ct !== undefined && ct !== 'state') return packet.state === 'untracked' ? false : null;
  const found = compare(left, member(match, 'right'), packet);
  return member(match, 'op') === '!=' ? negated(found) : found;
}

/** nft shows protocols so where there is no /etc/protocols, as in the images. */
const protocolNumbers = { tcp: 6, udp: 17 } as const;

/** No DNS packet of a pod passes the loopback interface. */
const interfaceKeys: ReadonlySet<string> = new Set(['iif', 'iifname', 'oif', 'oifname']);

function compare(left: Json, right: Json, packet: DnsPacket): Tri {
  const mask = markMaskOf(left);
  if (mask !== null) return matchMark(packet, mask, (value) => isOneOf(right, value));
  if (member(member(left, 'ct'), 'key') === 'state') return isOneOf(right, packet.state);
  const meta = member(member(left, 'meta'), 'key');
  if (meta === 'l4proto') {
    return isOneOf(right, packet.protocol) || isOneOf(right, protocolNumbers[packet.protocol]);
  }
  if (meta === 'nfproto') return isOneOf(right, packet.family === 'ip' ? 'ipv4' : 'ipv6');
  if (meta !== undefined && interfaceKeys.has(String(meta))) return right === 'lo' ? false : null;
  const payload = member(left, 'payload');
  const [protocol, field] = [member(payload, 'protocol'), member(payload, 'field')];
  if (typeof protocol !== 'string') return null;
  if (protocol === 'ip' || protocol === 'ip6') {
    if (protocol !== packet.family) return false;
    const addresses = { saddr: packet.sources, daddr: packet.destinations }[String(field)] ?? [];
    const prefixes = prefixesOf(right);
    return prefixes === null ? null : matchAddress(addresses, prefixes);
  }
  if (protocol !== 'th' && protocol !== packet.protocol) return false;
  const port = { sport: packet.sourcePort, dport: packet.destinationPort }[String(field)] ?? null;
  return port === null ? null : isOneOf(right, port);
}

/** Whether `value` is meant by a right side: itself, a set, a list, a range. */
function isOneOf(right: Json, value: string | number): boolean {
  if (right === value) return true;
  if (Array.isArray(right)) return right.some((item: Json) => isOneOf(item, value));
  const set = member(right, 'set');
  if (set !== undefined) return isOneOf(set, value);
  const range = member(right, 'range');
  if (!Array.isArray(range) || typeof value !== 'number') return false;
  return value >= Number(range[0]) && value <= Number(range[1]);
}

/** Addresses and prefixes of a right side; null: it has something else. */
function prefixesOf(right: Json): readonly Prefix[] | null {
  const items = member(right, 'set') ?? right;
  const prefixes = (Array.isArray(items) ? items : [items]).map((item: Json) => {
    const prefix = member(item, 'prefix');
    if (isFields(prefix)) return parsePrefix(`${String(prefix['addr'])}/${String(prefix['len'])}`);
    const address = typeof item === 'string' ? parseAddress(item) : null;
    return address === null ? null : hostPrefix(address);
  });
  return prefixes.every((prefix) => prefix !== null) ? prefixes : null;
}

const isMark = (value: Json): boolean => member(member(value, 'meta'), 'key') === 'mark';

/** The bits of the mark that `left` is; null: it is something else. */
function markMaskOf(left: Json): number | null {
  if (isMark(left)) return allBits;
  const masked = member(left, '&');
  if (!Array.isArray(masked) || !isMark(masked[0])) return null;
  return typeof masked[1] === 'number' ? masked[1] >>> 0 : allBits;
}

function markUsesOf(expression: Json): readonly MarkUse[] {
  const match = member(expression, 'match');
  const mask = markMaskOf(member(match, 'left'));
  if (mask !== null) {
    const right = member(match, 'right');
    const isValue = typeof right === 'number' && member(match, 'op') === '==';
    return [{ ...{ kind: 'match', bits: mask }, ...(isValue ? { value: right >>> 0 } : {}) }];
  }
  const mangle = member(expression, 'mangle');
  if (!isMark(member(mangle, 'key'))) return [];
  const value = member(mangle, 'value');
  return [{ kind: isOfConnection(value) ? 'restore' : 'set', bits: changedBits(value) }];
}

/** A value taken from the connection's mark, whatever is done to it. */
function isOfConnection(value: Json): boolean {
  if (!isFields(value)) return false;
  if (member(value['ct'], 'key') === 'mark') return true;
  return ['&', '|', '^'].some((operator) => {
    const operands = value[operator];
    return Array.isArray(operands) && isOfConnection(operands[0]);
  });
}

/** Bits that may differ from the mark before. */
function changedBits(value: Json): number {
  if (isMark(value)) return 0;
  if (!isFields(value)) return allBits;
  for (const operator of ['&', '|', '^'] as const) {
    const operands = value[operator];
    if (!Array.isArray(operands) || typeof operands[1] !== 'number') continue;
    const own = operator === '&' ? ~operands[1] : operands[1];
    return (changedBits(operands[0]) | own) >>> 0;
  }
  return allBits;
}
