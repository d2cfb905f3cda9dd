// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * No ARP of an unknown pod behind a bridge reaches the node (safety rule 6). BPF programs at netfilter hooks see no ARP, and the port of
 * such a pod has no `from_pod`: the node would take what the pod claims into its neighbour table. So nft drops ARP at bridges of pods
 * unless it has the mark's bit, which `from_pod` sets in ARP that it has verified, and a chain of the family netdev in ARP that enters
 * by a trusted port. The hook of ARP knows the bridge alone, not the port. None of this needs a process: a port that comes while the agent
 * is dead sets no bit, and the kernel removes a trusted port from the chain with its interface.
 */

import { TandemError } from '@tandem/runtime/tandem-error';
import { run } from './command.ts';
import { nftName, nftTable } from './nft-table.ts';

/** Bridges of pods and their ports, as `classifyDevices` tells them. */
export interface PodPorts {
  /** Names of bridges whose ports are pods'. */
  readonly podBridges: readonly string[];
  /** Names of their ports that are no pod's. */
  readonly trustedPorts: readonly string[];
}

/** Families of nft in which the agent has a table of the name `nftTable` for this. */
export const arpFamilies = ['arp', 'netdev'] as const;

const hex = (value: number): string => `0x${value.toString(16)}`;
const remove = arpFamilies
  .map((family) => `table ${family} ${nftTable} {}\ndelete table ${family} ${nftTable}\n`)
  .join('');

export class ArpGuard {
  readonly #mark: number;
  /** Null: no pod's programs are attached yet, so that all pods' ARP would be dropped. */
  #ports: PodPorts | null = null;
  /** Tables as this process wrote them last, and as nft showed them then. */
  #written: string | null = null;
  #shown = '';

  /** `mark`: the bit of the packet mark of `from_pod`. */
  constructor(mark: number) {
    this.#mark = mark;
  }

  /** @returns whether `ensure` has to be called: they are others than before */
  set(ports: PodPorts): boolean {
    const text = textOf(this.#mark, ports);
    const isChange = this.#ports === null || text !== textOf(this.#mark, this.#ports);
    this.#ports = ports;
    return isChange;
  }

  /** @returns whether another process had changed the tables. @throws TandemError */
  async ensure(): Promise<boolean> {
    if (this.#ports === null) return false;
    const { podBridges, trustedPorts } = this.#ports;
    const odd = [...podBridges, ...trustedPorts].find((name) => !nftName.test(name));
    if (odd !== undefined) {
      throw new TandemError('TANDEM_COMMAND', `nft cannot name the interface ${odd}`);
    }
    const text = textOf(this.#mark, this.#ports);
    const isSame = text === this.#written;
    const shown = await showTables();
    if (isSame && shown === this.#shown) return false;
    if (text !== '' || shown !== '') {
      await run('nft', ['-f', '-'], `${remove}${text}`);
      this.#shown = await showTables();
    } else {
      this.#shown = '';
    }
    this.#written = text;
    return isSame;
  }
}

/** @throws TandemError */
export async function removeArpTables(): Promise<void> {
  if ((await showTables()) !== '') await run('nft', ['-f', '-'], remove);
}

/** As nft shows them, without the values of counters; empty: there are none. @throws TandemError */
async function showTables(): Promise<string> {
  const lists = arpFamilies.map((family) => `list ruleset ${family}\n`).join('');
  const shown = await run('nft', ['--stateless', '-f', '-'], lists);
  const tables = shown.match(/^table \w+ tandem \{[^]*?^\}/gm) ?? [];
  return tables.join('\n');
}

/** Empty: there is no bridge of pods. One transaction: without the second table hosts behind trusted ports would be cut off. */
function textOf(mark: number, { podBridges, trustedPorts }: PodPorts): string {
  if (podBridges.length === 0) return '';
  const drops = podBridges
    .toSorted()
    .map((name) => `    iifname "${name}" meta mark & ${hex(mark)} == 0 counter drop\n`);
  return `table arp ${nftTable} {
  chain strangers {
    type filter hook input priority 0; policy accept;
${drops.join('')}  }
}
${trustedPorts.length === 0 ? '' : trustedTable(mark, trustedPorts)}`;
}

function trustedTable(mark: number, ports: readonly string[]): string {
  const names = ports
    .toSorted()
    .map((name) => `"${name}"`)
    .join(', ');
  return `table netdev ${nftTable} {
  chain trusted {
    type filter hook ingress devices = { ${names} } priority 0; policy accept;
    meta protocol arp meta mark set meta mark or ${hex(mark)}
  }
}
`;
}
