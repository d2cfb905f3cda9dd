// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent's table of nftables. Steered queries and our replies are not tracked: one conntrack entry per query would let a pod fill
 * the table (safety rule 8). The ct state rule keeps conntrack on in both families: without it replies are judged as new connections.
 * nft reads and writes the table, because rules in the kernel are programs that nft compiles and prints.
 */

import { run } from './command.ts';

export const nftTable = 'tandem';
/** Names of interfaces that a text for nft can have as they are. */
export const nftName: RegExp = /^[\w.:@-]{1,15}$/;
const hex = (value: number): string => `0x${value.toString(16)}`;

export interface NftTableOptions {
  /** Bit of the packet mark of steered packets. */
  readonly mark: number;
  readonly port: number;
}

/** Writes the table unless it is there and has nothing else. Returns whether it was written. @throws TandemError */
export async function ensureNftTable(options: NftTableOptions): Promise<boolean> {
  const present = await readNftTable();
  if (present !== null && isNftTable(present, options)) return false;
  await run('nft', ['-f', '-'], textOf(options));
  return true;
}

/** @throws TandemError */
export async function removeNftTable(): Promise<void> {
  if ((await readNftTable()) !== null) await run('nft', ['delete', 'table', 'inet', nftTable]);
}

/** The table as nft prints it; null: it does not exist, or nft fails, which the next write reports. */
async function readNftTable(): Promise<string | null> {
  try {
    return await run('nft', ['list', 'table', 'inet', nftTable]);
  } catch {
    return null;
  }
}

const textOf = ({ mark, port }: NftTableOptions): string => `table inet ${nftTable} {}
delete table inet ${nftTable}
table inet ${nftTable} {
  chain untrack_steered {
    type filter hook prerouting priority -300; policy accept;
    meta mark & ${hex(mark)} == ${hex(mark)} notrack
  }
  chain untrack_replies {
    type filter hook output priority -300; policy accept;
    meta l4proto { tcp, udp } th sport ${port} notrack
  }
  chain keep_conntrack {
    type filter hook prerouting priority -150; policy accept;
    ct state invalid counter
  }
}
`;

/**
 * Each line that nft shows of a table with these chains and nothing else: a rule before ours, a chain beside them, another default or
 * the flag `dormant` would take their effect away. nft pads numbers in its own way, gives priorities names, and shows protocols
 * by number where there is no /etc/protocols, as in the images.
 */
function isNftTable(present: string, { mark, port }: NftTableOptions): boolean {
  const bit = bitPattern(mark);
  return isShownAs(present, [
    `table inet ${nftTable} \\{(?: #.*)?`,
    ...chainLines('untrack_steered', 'prerouting', [`meta mark & ${bit} == ${bit} notrack`]),
    ...chainLines('untrack_replies', 'output', [
      `meta l4proto \\{ (?:tcp, udp|6, 17) \\} th sport ${port} notrack`,
    ]),
    ...chainLines('keep_conntrack', 'prerouting', ['ct state invalid(?: counter.*)?']),
    '\\}',
  ]);
}

/** Whether each line that nft shows of a table is the expected one, and there is no other. `expected`: texts of regular expressions. */
export function isShownAs(present: string, expected: readonly string[]): boolean {
  const lines = present.split('\n').map((line) => line.trim());
  const shown = lines.filter((line) => line !== '' && !line.startsWith('#'));
  return (
    shown.length === expected.length &&
    expected.every((line, index) => new RegExp(`^${line}$`).test(shown[index] ?? ''))
  );
}

/** Lines of a chain, for `isShownAs`: so are `hook` and `rules`. */
export const chainLines = (
  name: string,
  hook: string,
  rules: readonly string[],
): readonly string[] => [
  `chain ${name} \\{(?: #.*)?`,
  `type filter hook ${hook} priority [^;]+; policy accept;`,
  ...rules,
  '\\}',
];

/** nft pads the number. */
export const bitPattern = (mark: number): string => `0x0*${mark.toString(16)}`;
