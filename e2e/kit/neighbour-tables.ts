// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Owner of each address of a test node, and what its tables and those of its pods say of it. */

import type { Pod, TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';

interface Entry {
  /** The Ethernet address of a neighbour, the port of a forwarding entry. */
  readonly value: string;
  /** Whether nothing but its owner's end may remove it. */
  readonly isFixed: boolean;
}

/** By "namespace device address" and "fdb address". */
export type Tables = ReadonlyMap<string, Entry>;

export async function readTables(node: TestNode): Promise<Tables> {
  const tables = new Map<string, Entry>();
  for (const space of [node.node, ...node.pods.map(({ namespace }) => namespace)]) {
    // oxlint-disable-next-line no-await-in-loop -- few
    const neighbours = (await space.ipJson(['neigh', 'show'])) as readonly {
      readonly dst: string;
      readonly dev: string;
      readonly lladdr?: string;
      readonly state: readonly string[];
    }[];
    for (const { dst, dev, lladdr, state } of neighbours) {
      if (lladdr === undefined) continue;
      tables.set(`${space.name} ${dev} ${dst}`, {
        value: lladdr,
        isFixed: state.includes('PERMANENT'),
      });
    }
  }
  const text = await node.node.run('bridge', ['-j', 'fdb', 'show', 'br', plan.bridge]);
  const entries = JSON.parse(text) as readonly {
    readonly mac: string;
    readonly ifname: string;
    readonly flags?: readonly string[];
  }[];
  for (const { mac, ifname, flags = [] } of entries) {
    tables.set(`fdb ${mac}`, { value: ifname, isFixed: flags.includes('sticky') });
  }
  return tables;
}

/** True entries, by the same names as `Tables`. */
export function trueEntries(
  node: TestNode,
  uplinks: readonly (readonly [device: string, mac: string, addresses: readonly string[]])[],
  linkLocalOf: (mac: string) => string,
  attackers: readonly string[],
): ReadonlyMap<string, string> {
  const entries = new Map<string, string>();
  const addressesOf = ({ ipv4, ipv6, mac }: Pod): string[] =>
    [ipv4, ipv6, linkLocalOf(mac)].filter((address) => address !== null);
  for (const pod of node.pods) {
    // On a link of its own an attacker may say of itself what it likes.
    if (attackers.includes(pod.name) && pod.kind === 'ptp') continue;
    const isBridged = pod.kind === 'bridge';
    const device = isBridged ? plan.bridge : pod.hostInterface;
    for (const address of addressesOf(pod)) {
      entries.set(`${node.node.name} ${device} ${address}`, pod.mac);
    }
    if (isBridged) entries.set(`fdb ${pod.mac}`, pod.hostInterface);
    const gateways = isBridged
      ? [plan.bridgeGateway4, plan.bridgeGateway6]
      : [plan.ptpGateway4, plan.ptpGateway6];
    for (const gateway of [...gateways, linkLocalOf(pod.gatewayMac)]) {
      entries.set(`${pod.namespace.name} eth0 ${gateway}`, pod.gatewayMac);
    }
    for (const other of isBridged ? node.pods.filter(({ kind }) => kind === 'bridge') : []) {
      for (const address of addressesOf(other)) {
        entries.set(`${pod.namespace.name} eth0 ${address}`, other.mac);
      }
    }
  }
  for (const [device, mac, addresses] of uplinks) {
    for (const address of addresses) entries.set(`${node.node.name} ${device} ${address}`, mac);
  }
  return entries;
}

/**
 * False entries, entries that are gone although nothing may remove them, and new ones that `truth` does not have; in words.
 * What a pod may say as it likes is `isFree`.
 */
export function falseEntries(
  truth: ReadonlyMap<string, string>,
  before: Tables,
  after: Tables,
  isFree: (name: string, value: string) => boolean,
): string[] {
  const faults: string[] = [];
  for (const [name, value] of truth) {
    const is = after.get(name)?.value;
    if (is === undefined ? before.get(name)?.isFixed === true : is !== value) {
      faults.push(`${name}: ${is ?? 'nothing'} instead of ${value}`);
    }
  }
  for (const [name, { value }] of after) {
    if (!truth.has(name) && !before.has(name) && !isFree(name, value)) {
      faults.push(`${name}: ${value} is new`);
    }
  }
  return faults;
}
