// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * No ARP of an unknown pod behind a bridge reaches the node (safety rule 6). BPF programs at netfilter hooks see no ARP, and the port of
 * such a pod has no `from_pod`: the node would take what the pod claims into its neighbour table. So nft drops ARP at bridges of pods
 * unless it has the mark's bit, which `from_pod` sets in ARP that it has verified, and a chain of the family netdev in ARP that enters
 * by a trusted port. The hook of ARP knows the bridge alone, not the port. None of this needs a process: a port that comes while the agent
 * is dead sets no bit. When a trusted port goes, a kernel before 6.16 takes its hook off without a notice; a later one keeps the hook
 * for the next interface of that name.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Ifindex } from '@tandem/core/ids';
import { TandemError } from '@tandem/runtime/tandem-error';
import { arpPauseMs, arpTries } from '../limits.ts';
import { run } from './command.ts';
import { bitPattern, chainLines, isShownAs, nftTable } from './nft-table.ts';

export interface TrustedPort {
  readonly name: string;
  readonly ifindex: Ifindex;
}

/** Bridges of pods and their ports, as `classifyDevices` tells them. */
export interface PodPorts {
  /** Names of bridges whose ports are pods'. */
  readonly podBridges: readonly string[];
  /** Their ports that are no pod's. */
  readonly trustedPorts: readonly TrustedPort[];
}

/** Families of nft in which the agent has a table of the name `nftTable` for this. */
export const arpFamilies = ['arp', 'netdev'] as const;
type ArpFamily = (typeof arpFamilies)[number];
/** A table: how it is written, and a pattern for each line that nft shows of it. */
interface Table {
  readonly text: string;
  readonly lines: readonly string[];
}
type Tables = Readonly<Partial<Record<ArpFamily, Table>>>;

/** NFT_NETDEVICE_MAX of the kernel is 256, for one chain. */
const chainDevicesMax = 255;
const hex = (value: number): string => `0x${value.toString(16)}`;
/** The bits of the mark that a rule of the table `arp` tests, as nft shows them. */
const testedBits = /(?<= meta mark & )0x[\da-f]+(?= == )/g;
/** A name that nft would not take as it is between quotes: it has no escape there, and an asterisk at the end means all that begin so. */
const oddName = /["\p{Cc}\uFFFD]|\*$/u;

export class ArpGuard {
  readonly #mark: number;
  /** Null: no pod's programs are attached yet, so that all pods' ARP would be dropped. */
  #ports: PodPorts | null = null;
  /** `keyOf` the ports for which the tables were written, or found right, last. */
  #ensured: string | null = null;

  /** `mark`: the bit of the packet mark of `from_pod`. */
  constructor(mark: number) {
    this.#mark = mark;
  }

  /** @returns whether `ensure` has to be called: they are others than before */
  set(ports: PodPorts): boolean {
    const isChange = this.#ports === null || keyOf(ports) !== keyOf(this.#ports);
    this.#ports = ports;
    return isChange;
  }

  /** Whether the tables have hooks of interfaces, which the kernel may take off without a notice. */
  get hasTrustedPorts(): boolean {
    return this.#ports !== null && this.#ports.trustedPorts.length > 0;
  }

  /** @returns whether another process had changed the tables. @throws TandemError: they are not as they should be */
  async ensure(): Promise<boolean> {
    if (this.#ports === null) return false;
    const key = keyOf(this.#ports);
    const isSame = key === this.#ensured;
    const odd: string[] = [];
    const tables = tablesOf(this.#mark, this.#ports, odd);
    const shown = await showTables();
    const isWhole = areTables(shown, tables);
    if (!isWhole) {
      await run('nft', ['-f', '-'], textOf(shown, tables));
      if (!areTables(await showTables(), tables)) {
        throw new TandemError(
          'TANDEM_COMMAND',
          `the nft tables arp ${nftTable} and netdev ${nftTable} are not as they were just written: another program changes them, or this version of nft shows them in an unknown way`,
        );
      }
    }
    this.#ensured = key;
    if (odd.length > 0) {
      throw new TandemError('TANDEM_COMMAND', `nft cannot name the interface ${odd.join(', ')}`);
    }
    return isSame && !isWhole;
  }
}

/**
 * ARP that has either bit passes, until the tables are written again: while a start replaces `from_pod`, and for good if it fails. A table
 * of several such starts tests the bits of all of them. One that does not test `former` is removed. @throws TandemError
 */
export async function acceptFormerMark(former: number, mark: number): Promise<void> {
  const shown = (await showTables()).get('arp') ?? '';
  const tested = [...shown.matchAll(testedBits)].map(([bits]) => Number(bits));
  const isPassed = (bit: number): boolean => tested.every((bits) => (bits & bit) !== 0);
  if (tested.length === 0 || !isPassed(former)) return removeArpTables();
  if (isPassed(mark)) return;
  const both = shown.replaceAll(testedBits, (bits) => hex((Number(bits) | mark) >>> 0));
  await run('nft', ['-f', '-'], `delete table arp ${nftTable}\n${both}`);
}

/** Repeats what changes these tables although nft fails once, as by its timeout under load. @throws TandemError */
export async function retryArp(work: () => Promise<void>, tries: number = arpTries): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (tries <= 1) throw error;
    await delay(arpPauseMs);
    await retryArp(work, tries - 1);
  }
}

/** Without these tables, bridged pods have ARP whatever `from_pod` does. @throws TandemError */
export async function removeArpTables(): Promise<void> {
  const shown = await showTables();
  if (shown.size > 0) await run('nft', ['-f', '-'], textOf(shown, {}));
}

/** A port that was made again under its name is another: its hook may be gone. */
function keyOf({ podBridges, trustedPorts }: PodPorts): string {
  const ports = trustedPorts.map(({ name, ifindex }) => `${name} ${ifindex}`);
  return JSON.stringify([podBridges.toSorted(), ports.toSorted()]);
}

/** The tables that exist, as nft shows them. @throws TandemError */
async function showTables(): Promise<ReadonlyMap<ArpFamily, string>> {
  const shown = new Map<ArpFamily, string>();
  for (const family of arpFamilies) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- two
      shown.set(family, await run('nft', ['--stateless', 'list', 'table', family, nftTable]));
    } catch (error) {
      // Also of a kernel without the family.
      const isAbsent = /: Error: No such file or directory/.test(TandemError.from(error).message);
      if (!isAbsent) throw error;
    }
  }
  return shown;
}

const areTables = (shown: ReadonlyMap<ArpFamily, string>, tables: Tables): boolean =>
  arpFamilies.every((family) => {
    const present = shown.get(family);
    const wanted = tables[family];
    if (present === undefined || wanted === undefined) return present === wanted;
    return isShownAs(sortDevices(present), wanted.lines);
  });

/**
 * One transaction: without the second table hosts behind trusted ports would be cut off. A family that is neither there nor wanted is not
 * named: the kernel may lack it.
 */
const textOf = (shown: ReadonlyMap<ArpFamily, string>, tables: Tables): string =>
  arpFamilies
    .filter((family) => shown.has(family) || tables[family] !== undefined)
    .map((family) => {
      const name = `table ${family} ${nftTable}`;
      return `${name} {}\ndelete ${name}\n${tables[family]?.text ?? ''}`;
    })
    .join('');

/** Puts names that nft cannot have into `odd`, and leaves them out: one of them does not stop the others. */
function tablesOf(mark: number, { podBridges, trustedPorts }: PodPorts, odd: string[]): Tables {
  const named = (names: readonly string[]): readonly string[] => {
    odd.push(...names.filter((name) => oddName.test(name)));
    return names.filter((name) => !oddName.test(name)).toSorted();
  };
  const bridges = named(podBridges);
  const ports = named(trustedPorts.map(({ name }) => name));
  if (bridges.length === 0) return {};
  const arp = makeTable('arp', [
    {
      name: 'strangers',
      hook: 'input',
      rules: bridges.map((name) => `iifname "${name}" meta mark & ${hex(mark)} == 0 counter drop`),
      shown: bridges.map(
        (name) =>
          `iifname "${literal(name)}" meta mark & ${bitPattern(mark)} == (?:0x)?0+ counter drop`,
      ),
    },
  ]);
  if (ports.length === 0) return { arp };
  const chains = Array.from({ length: Math.ceil(ports.length / chainDevicesMax) }, (_, at) => {
    const some = ports.slice(at * chainDevicesMax, (at + 1) * chainDevicesMax);
    return {
      name: `trusted${at === 0 ? '' : at}`,
      hook: `ingress devices = { ${some.map((name) => `"${name}"`).join(', ')} }`,
      shownHook: `ingress ${literal(deviceList(some))}`,
      rules: [`meta protocol arp meta mark set meta mark or ${hex(mark)}`],
      shown: [
        `meta protocol (?:arp|0x0806) meta mark set meta mark (?:or|\\|) ${bitPattern(mark)}`,
      ],
    };
  });
  return { arp, netdev: makeTable('netdev', chains) };
}

interface Chain {
  readonly name: string;
  readonly hook: string;
  /** Pattern of the hook as nft shows it; default: as written. */
  readonly shownHook?: string;
  readonly rules: readonly string[];
  /** Patterns of the rules as nft shows them. */
  readonly shown: readonly string[];
}

function makeTable(family: ArpFamily, chains: readonly Chain[]): Table {
  const texts = chains.map(
    ({ name, hook, rules }) => `  chain ${name} {
    type filter hook ${hook} priority 0; policy accept;
${rules.map((rule) => `    ${rule}\n`).join('')}  }
`,
  );
  return {
    text: `table ${family} ${nftTable} {\n${texts.join('')}}\n`,
    lines: [
      `table ${family} ${nftTable} \\{(?: #.*)?`,
      ...chains.flatMap(({ name, hook, shownHook, shown }) =>
        chainLines(name, shownHook ?? hook, shown),
      ),
      '\\}',
    ],
  };
}

/** nft shows one device in another way than several, and versions differ in the quotes. No name has a space or a quote. */
const sortDevices = (shown: string): string =>
  shown.replaceAll(/ ingress (?:device (\S+)|devices = \{ (.*?) \}) priority /g, (...parts) => {
    const [, one, several] = parts as readonly (string | undefined)[];
    const names = (one ?? several ?? '').replaceAll('"', '').split(', ');
    return ` ingress ${deviceList(names.toSorted())} priority `;
  });
const deviceList = (names: readonly string[]): string => `devices = { ${names.join(', ')} }`;

const literal = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
