// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The firewall of this network namespace, from both of its faces. */

import type { FirewallView } from '../doctor/check.ts';
import { readCommand, readJson, readText } from '../doctor/system.ts';
import { parseIptablesSave } from './iptables.ts';
import { parseNft } from './nft.ts';
import type { AddressFamily, Chain } from './rule.ts';

/** The agent's own, see its node/network-rules.ts. */
export const ownTable = { family: 'inet', name: 'tandem' } as const;

/** Tables that iptables-nft keeps in nft: iptables-save tells more of them. */
const iptablesTables: ReadonlySet<string> = new Set(['filter', 'nat', 'mangle', 'raw', 'security']);

interface Face {
  readonly program: string;
  readonly family: AddressFamily;
}
const faces: readonly Face[] = [
  { program: 'iptables', family: 'ip' },
  { program: 'ip6tables', family: 'ip6' },
];

export async function readFirewall(): Promise<FirewallView> {
  const chains: Chain[] = [];
  const unread: string[] = [];
  /** Families whose tables of iptables' names were read by iptables-save. */
  const covered = new Set<string>();
  for (const { program, family } of faces) {
    const saved = await readCommand(`${program}-save`, []);
    if (!saved.ok) {
      unread.push(saved.error);
      continue;
    }
    chains.push(...parseIptablesSave(saved.value, family, program));
    if (!saved.value.includes('(nf_tables)')) continue;
    covered.add(family);
    // Both variants can be in force at once.
    const legacy = readText(`/proc/net/${family === 'ip' ? 'ip' : 'ip6'}_tables_names`);
    if (legacy === null || legacy === '') continue;
    const old = await readCommand(`${program}-legacy-save`, []);
    if (old.ok) chains.push(...parseIptablesSave(old.value, family, `${program}-legacy`));
    else unread.push(old.error);
  }
  const ruleset = await readJson<unknown>('nft', ['--json', 'list', 'ruleset']);
  if (ruleset.ok) {
    const isForeign = (family: string, table: string): boolean =>
      !(family === ownTable.family && table === ownTable.name) &&
      !(covered.has(family) && iptablesTables.has(table));
    chains.push(...parseNft(ruleset.value, isForeign));
  } else {
    unread.push(ruleset.error);
  }
  return { chains, unread };
}
