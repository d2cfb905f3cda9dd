// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options that every command has that brings a cluster up, and how values are read. */

import { type ClusterConfig, cniKinds, flannelBackend, nodesMax, proxyModes } from './layout.ts';

export class UsageError extends Error {}

export const clusterOptionsHelp: string = `  --name NAME           of the cluster, default tandem; several can be up at once
  --nodes N             1 to ${nodesMax}, default 2
  --cni KIND            ${cniKinds.join(', ')}; default bridge
  --proxy-mode MODE     kube-proxy's: ${proxyModes.join(' or ')}, default iptables
  --dual-stack          nodes, pods and services have IPv6 addresses too; with bridge and ptp
`;

/** For `parseArgs`. */
export const clusterOptions = {
  name: { type: 'string', default: 'tandem' },
  nodes: { type: 'string', default: '2' },
  cni: { type: 'string', default: 'bridge' },
  'proxy-mode': { type: 'string', default: 'iptables' },
  'dual-stack': { type: 'boolean', default: false },
} as const;

export interface ClusterValues {
  readonly name: string;
  readonly nodes: string;
  readonly cni: string;
  readonly 'proxy-mode': string;
  readonly 'dual-stack': boolean;
}

/** @throws UsageError that names the option which is wrong. */
export function readConfig(values: ClusterValues): ClusterConfig {
  if (!/^[a-z][a-z0-9]{0,11}$/.test(values.name)) {
    throw new UsageError(`--name ${values.name}: up to 12 small letters and digits`);
  }
  const config = {
    name: values.name,
    nodes: count('--nodes', values.nodes, nodesMax),
    cni: oneOf(cniKinds, '--cni', values.cni),
    proxyMode: oneOf(proxyModes, '--proxy-mode', values['proxy-mode']),
    isDualStack: values['dual-stack'],
  };
  if (config.isDualStack && flannelBackend(config.cni) !== null) {
    throw new UsageError('--dual-stack: with --cni bridge or ptp');
  }
  return config;
}

export function count(option: string, text: string, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new UsageError(`${option} ${text}: a number from 1 to ${max}`);
}

export function oneOf<T extends string>(values: readonly T[], option: string, value: string): T {
  const found = values.find((candidate) => candidate === value);
  if (found === undefined) throw new UsageError(`${option} ${value}: one of ${values.join(', ')}`);
  return found;
}
