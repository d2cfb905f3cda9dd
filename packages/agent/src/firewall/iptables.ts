// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The rules of `iptables-save` and `ip6tables-save` (iptables-extensions(8)). As nft.ts: unknown is unknown. */

import { parsePrefix } from '@tandem/core/net/ip';
import type { AddressFamily, Chain, DnsPacket, MarkUse, Rule, RuleVerdict, Tri } from './rule.ts';
import { allBits, allOf, matchAddress, matchMark, negated } from './rule.ts';

const filterHooks: Readonly<Record<string, string>> = {
  INPUT: 'input',
  FORWARD: 'forward',
  OUTPUT: 'output',
};

/** `program`: for people, "iptables". */
export function parseIptablesSave(
  text: string,
  family: AddressFamily,
  program: string,
): readonly Chain[] {
  const chains = new Map<string, Chain & { readonly rules: Rule[] }>();
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    const declared = /^:(\S+) (\S+)/.exec(line);
    if (declared !== null) {
      const [, name = '', policy] = declared;
      const isFilter = table === 'filter' || table === 'mangle' || table === 'security';
      chains.set(`${table} ${name}`, {
        table: `${program} ${table}`,
        name,
        families: [family],
        isOwned: false,
        filterHook: isFilter && policy !== '-' ? (filterHooks[name] ?? null) : null,
        policy: policy === 'DROP' ? 'drop' : 'accept',
        rules: [],
      });
    }
    const appended = /^-A (\S+) (.*)$/.exec(line);
    if (appended === null) continue;
    const chain = chains.get(`${table} ${appended[1]}`);
    const isChain = (name: string): boolean => chains.has(`${table} ${name}`);
    chain?.rules.push(parseRule(`${program} -t ${table} ${line}`, appended[2] ?? '', isChain));
  }
  return [...chains.values()];
}

type Condition = (packet: DnsPacket) => Tri;

interface Draft {
  readonly conditions: Condition[];
  readonly markUses: MarkUse[];
  verdict: RuleVerdict;
  /** Match or target to which the following options belong. */
  module: string;
  target: string;
  /** Whether CONNMARK takes the mark from the connection. */
  restores: boolean;
}

function parseRule(text: string, specification: string, isChain: (name: string) => boolean): Rule {
  // Quoted texts are comments and prefixes of logs: never options, whatever they say.
  const words = [...specification.matchAll(/"(?:\\.|[^"\\])*"|\S+/g)].map(([word]) => word);
  const draft: Draft = {
    conditions: [],
    markUses: [],
    verdict: { kind: 'none' },
    module: '',
    target: '',
    restores: false,
  };
  let isNegated = false;
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    if (word === '!') {
      isNegated = true;
      continue;
    }
    if (!word.startsWith('-')) continue;
    readOption(word, words[index + 1] ?? '', isNegated, draft, isChain);
    isNegated = false;
  }
  if (draft.restores && draft.markUses.length === 0) {
    draft.markUses.push({ kind: 'restore', bits: allBits });
  }
  const { conditions, verdict, markUses } = draft;
  return {
    text,
    verdict,
    markUses,
    matches: (packet) => allOf(conditions.map((condition) => condition(packet))),
    usesConntrack: /conntrack|--ctstate|-m state|CONNMARK|connmark|NAT|MASQUERADE/.test(text),
  };
}

function readOption(
  option: string,
  value: string,
  isNegated: boolean,
  draft: Draft,
  isChain: (name: string) => boolean,
): void {
  const add = (condition: Condition): void => {
    draft.conditions.push(isNegated ? (packet) => negated(condition(packet)) : condition);
  };
  switch (option) {
    case '-m':
      draft.module = value;
      return;
    case '--comment':
      return;
    case '-p':
      return add(({ protocol }) => value === protocol);
    case '-s':
    case '-d': {
      const prefix = parsePrefix(value);
      return add(({ sources, destinations }) =>
        prefix === null ? null : matchAddress(option === '-s' ? sources : destinations, [prefix]),
      );
    }
    case '--dport':
    case '--dports':
      return add(({ destinationPort }) => isPortOf(value, destinationPort));
    case '--sport':
    case '--sports':
      return add(({ sourcePort }) => isPortOf(value, sourcePort));
    case '-i':
    case '-o':
      return add(() => (value === 'lo' ? false : null));
    case '--ctstate':
    case '--state':
      return add(({ state }) => value.split(',').includes(state.toUpperCase()));
    case '--mark': {
      // connmark looks at the connection, not at the packet.
      if (draft.module !== 'mark') return add(() => null);
      const [wanted, mask] = maskedValue(value);
      draft.markUses.push({
        ...{ kind: 'match', bits: mask },
        ...(isNegated ? {} : { value: wanted }),
      });
      return add((packet) => matchMark(packet, mask, (mark) => mark === wanted));
    }
    case '-j':
    case '-g':
      draft.target = value;
      draft.verdict = verdictOf(value, option, isChain);
      return;
    case '--set-xmark':
    case '--set-mark': {
      const [set, mask] = maskedValue(value);
      if (draft.target === 'MARK') draft.markUses.push({ kind: 'set', bits: (set | mask) >>> 0 });
      return;
    }
    case '--restore-mark':
      draft.restores = true;
      return;
    case '--nfmask':
      if (draft.restores) draft.markUses.push({ kind: 'restore', bits: Number(value) >>> 0 });
      return;
    default:
      // An option of a target changes no match; one of a match is not understood.
      if (draft.target === '') add(() => null);
  }
}

function verdictOf(
  target: string,
  option: string,
  isChain: (name: string) => boolean,
): RuleVerdict {
  if (target === 'ACCEPT') return { kind: 'accept' };
  if (target === 'DROP' || target === 'REJECT') return { kind: 'drop' };
  if (target === 'RETURN') return { kind: 'return' };
  if (!isChain(target)) return { kind: 'none' };
  return { kind: option === '-g' ? 'goto' : 'jump', target };
}

/** "0x1000/0x3000", "0x1". */
function maskedValue(text: string): [value: number, mask: number] {
  const [value = '', mask] = text.split('/');
  return [Number(value) >>> 0, mask === undefined ? allBits : Number(mask) >>> 0];
}

/** "53", "53,10053", "1000:2000". */
function isPortOf(text: string, port: number | null): Tri {
  if (port === null) return null;
  return text.split(',').some((item) => {
    const [first = '', last = first] = item.split(':');
    return port >= Number(first) && port <= Number(last);
  });
}
