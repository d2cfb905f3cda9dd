// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options, addresses and files of a cluster of the bed. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const cniKinds = ['bridge', 'ptp', 'flannel', 'flannel-host-gw'] as const;
export type CniKind = (typeof cniKinds)[number];
/** Backend by which flannel sends packets to other nodes. Null: no flannel, the bed routes. */
export const flannelBackend = (cni: CniKind): 'vxlan' | 'host-gw' | null =>
  cni === 'flannel' ? 'vxlan' : cni === 'flannel-host-gw' ? 'host-gw' : null;
export const proxyModes = ['iptables', 'nftables'] as const;
export type ProxyMode = (typeof proxyModes)[number];
export const nodesMax = 3;

export interface ClusterConfig {
  /** Prefix of its network namespaces and cgroups. */
  readonly name: string;
  readonly nodes: number;
  readonly cni: CniKind;
  readonly proxyMode: ProxyMode;
  /** Nodes, pods and services have IPv6 addresses too. */
  readonly isDualStack: boolean;
}

/** The network of the nodes: a bridge in the control plane's namespace, which is also all that is outside. */
export const controlPlaneAddress = '172.30.0.1';
export const nodeAddress = (index: number): string => `172.30.0.${10 + index}`;
export const apiServerUrl: string = `https://${controlPlaneAddress}:6443`;
export const clusterCidr = '10.244.0.0/16';
export const podCidr = (index: number): string => `10.244.${index}.0/24`;
export const serviceCidr = '10.96.0.0/16';
export const apiServiceAddress = '10.96.0.1';
export const dnsServiceAddress = '10.96.0.10';
/** The outside, at the control plane's loopback interface: web servers at every address, a DNS server (world.ts). */
export const worldCidr = '198.51.100.0/24';
export const worldApiAddress = '198.51.100.10';
export const worldWwwAddress = '198.51.100.20';
/** Address of `new-N.example.com`, which no other name has. */
export const worldNewAddress = (number: number): string => `198.51.100.${100 + number}`;
export const worldNewNumberMax = 150;
export const worldDns = '203.0.113.53';
/** IPv6 addresses of a cluster with both families. */
export const ipv6 = {
  controlPlaneAddress: 'fd00:30::1',
  nodeAddress: (index: number): string => `fd00:30::1${index}`,
  clusterCidr: 'fd00:244::/32',
  podCidr: (index: number): string => `fd00:244:${index}::/64`,
  serviceCidr: 'fd00:96::/112',
  dnsServiceAddress: 'fd00:96::a',
  worldCidr: '2001:db8:198::/64',
  worldApiAddress: '2001:db8:198::10',
  worldWwwAddress: '2001:db8:198::20',
  worldNewAddress: (number: number): string => `2001:db8:198::1:${number.toString(16)}`,
} as const;
export const nodeName = (index: number): string => `n${index}`;

/** One below it for each cluster; beside them what all clusters of the machine share. */
export const bedDirectory = '/var/lib/tandem-cluster';

/** Built programs and images: kept when clusters come and go. */
export const cacheDirectory: string = join(
  process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
  'tandem/cluster',
);

/** Names of files, namespaces and cgroups of one cluster. */
export class Layout {
  readonly name: string;
  readonly directory: string;

  constructor(name: string) {
    this.name = name;
    this.directory = join(bedDirectory, name);
  }

  get controlPlaneNetns(): string {
    return `${this.name}-cp`;
  }

  nodeNetns(index: number): string {
    return `${this.name}-${nodeName(index)}`;
  }

  get pki(): string {
    return join(this.directory, 'pki');
  }

  /** With wrappers of kubectl and helm that work from anywhere on the machine. */
  get bin(): string {
    return join(this.directory, 'bin');
  }

  get logs(): string {
    return join(this.directory, 'logs');
  }

  get processes(): string {
    return join(this.directory, 'processes');
  }

  node(index: number): string {
    return join(this.directory, nodeName(index));
  }

  get #record(): string {
    return join(this.directory, 'cluster.json');
  }

  /** Null: no cluster of this name was ever begun, or it was taken down. */
  readRecord(): ClusterRecord | null {
    if (!existsSync(this.#record)) return null;
    return JSON.parse(readFileSync(this.#record, 'utf8')) as ClusterRecord;
  }

  writeRecord(record: ClusterRecord): void {
    writeFileSync(this.#record, `${JSON.stringify(record, null, 2)}\n`);
  }
}

export interface ClusterRecord {
  readonly config: ClusterConfig;
  /** A record that says "starting", without a command that holds its lock, is of a cluster whose start was interrupted. */
  readonly phase: 'starting' | 'up';
}

export const nodeIndexes = ({ nodes }: ClusterConfig): readonly number[] =>
  Array.from({ length: nodes }, (_, index) => index + 1);
