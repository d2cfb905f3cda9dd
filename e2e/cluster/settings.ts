// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Names, addresses and places of the cluster. One machine has one: all begins with `prefix`. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root: string = fileURLToPath(new URL('../..', import.meta.url));
export const prefix = 'tdk';
/** All that a cluster leaves on disk; gone after `down`. */
export const stateDirectory: string = join(root, '.tools/cluster');
export const logDirectory: string = join(stateDirectory, 'log');
export const pkiDirectory: string = join(stateDirectory, 'pki');
export const imageDirectory: string = join(stateDirectory, 'images');
export const recordPath: string = join(stateDirectory, 'cluster.json');

/** Network of nodes; .1 is the control plane, and the world beyond it. */
export const controlPlaneAddress = '172.30.0.1';
export const nodeAddress = (index: number): string => `172.30.0.${10 + index}`;
export const nodeName = (index: number): string => `n${index}`;
export const podCidr = '10.244.0.0/16';
export const nodePodCidr = (index: number): string => `10.244.${index}.0/24`;
export const serviceCidr = '10.96.0.0/16';
export const kubernetesServiceAddress = '10.96.0.1';
export const dnsServiceAddress = '10.96.0.10';
/** Addresses of the world, at an interface of the control plane's namespace. */
export const worldAddresses = ['198.51.100.10', '198.51.100.20', '203.0.113.53'] as const;
/** DNS server that CoreDNS asks for names outside of the cluster. */
export const worldDns = '203.0.113.53';

export const cniKinds = ['ptp', 'bridge'] as const;
export type CniKind = (typeof cniKinds)[number];
export const proxyModes = ['iptables', 'nftables'] as const;
export type ProxyMode = (typeof proxyModes)[number];

export interface ClusterSpec {
  readonly nodes: number;
  readonly cni: CniKind;
  readonly proxyMode: ProxyMode;
}

/** What `up` made, for the commands after it. */
export interface ClusterRecord extends ClusterSpec {
  /** Pids of the control plane's programs, by name. */
  readonly controlPlane: Readonly<Record<string, number>>;
  /** Process 1 of each node, as this namespace numbers it. */
  readonly nodePids: readonly number[];
  /** Values of sysctls before. */
  readonly sysctls: Readonly<Record<string, string>>;
}
