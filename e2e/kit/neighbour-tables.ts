// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Owner of each address of a test node, and what its tables and those of its pods say of it. */

import { addressBytes, addressText } from '@tandem/testing/address';
import type { Pod, TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';

interface Entry {
  /** The Ethernet address of a neighbour, the port of a forwarding entry. */
  readonly value: string;
  /** Whether nothing but its owner's end may remove it. */
  readonly isFixed: boolean;
}

/** By "namespace device address", "fdb address", and for the groups that a port listens to "fdb group port". */
export type Tables = ReadonlyMap<string, Entry>;

/** Neighbours of the node, its pods, the other node and the upstream; forwarding entries of the pods' bridge. */
export async function readTables(node: TestNode): Promise<Tables> {
  const tables = new Map<string, Entry>();
  const pods = node.pods.map(({ namespace }) => namespace);
  for (const space of [node.node, node.remote, node.upstream, ...pods]) {
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
    readonly state?: string;
  }[];
  for (const { mac, ifname, flags = [], state } of entries) {
    const isOfPort = flags.includes('self');
    tables.set(isOfPort ? `fdb ${mac} ${ifname}` : `fdb ${mac}`, {
      value: ifname,
      isFixed: flags.includes('sticky') || state === 'permanent',
    });
  }
  return tables;
}

/** The link-local address that is made of the Ethernet address (RFC 4291, appendix A). */
export const linkLocalOf = (mac: string): string => {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac
    .split(':')
    .map((octet) => Number.parseInt(octet, 16));
  const group = (high: number, low: number): string => (high * 256 + low).toString(16);
  return addressText(
    addressBytes(`fe80::${group(a ^ 2, b)}:${group(c, 0xff)}:${group(0xfe, d)}:${group(e, f)}`),
  );
};

/** True entries, by the same names as `Tables`. */
export function trueEntries(
  node: TestNode,
  uplinks: readonly (readonly [device: string, mac: string, addresses: readonly string[]])[],
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
 * False entries, and of those that `truth` does not have the ones that are new, that have another value, or that are gone although
 * nothing may remove them; in words. What a pod may say as it likes is `isFree`.
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
    const was = before.get(name)?.value;
    if (truth.has(name) || was === value || isFree(name, value)) continue;
    faults.push(`${name}: ${value} ${was === undefined ? 'is new' : `instead of ${was}`}`);
  }
  for (const [name, { value, isFixed }] of before) {
    if (isFixed && !truth.has(name) && !after.has(name) && !isFree(name, value)) {
      faults.push(`${name}: nothing instead of ${value}`);
    }
  }
  return faults;
}
