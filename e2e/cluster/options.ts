// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options that every command has that brings a cluster up. */

import { boolOption, enumOption, intOption, stringOption } from '@tandem/runtime/config-option';
import type { OptionTable } from '@tandem/runtime/flags';
import { UsageError } from '@tandem/runtime/tool';
import {
  type ClusterConfig,
  type CniKind,
  cniKinds,
  flannelBackend,
  nodesMax,
  type ProxyMode,
  proxyModes,
} from './layout.ts';

export interface ClusterArguments {
  readonly name: string;
  readonly nodes: number;
  readonly cni: CniKind;
  readonly proxyMode: ProxyMode;
  readonly dualStack: boolean;
}

export const clusterOptions: OptionTable<ClusterArguments> = {
  name: stringOption({
    placeholder: 'NAME',
    description: 'of the cluster; several can be up at once',
    default: 'tandem',
    pattern: { test: /^[a-z][a-z0-9]{0,11}$/, range: 'up to 12 small letters and digits' },
  }),
  nodes: intOption({
    description: `nodes: 1 to ${nodesMax}`,
    ...{ default: 2, min: 1, max: nodesMax },
  }),
  cni: enumOption({
    placeholder: 'KIND',
    description: "the pods' network",
    ...{ values: cniKinds, default: 'bridge' },
  }),
  proxyMode: enumOption({
    placeholder: 'MODE',
    description: "kube-proxy's mode",
    ...{ values: proxyModes, default: 'iptables' },
  }),
  dualStack: boolOption({
    description: 'nodes, pods and services have IPv6 addresses too; with bridge and ptp',
    default: false,
  }),
};

/** Relations between them. @throws UsageError */
export function clusterConfig({ dualStack, ...config }: ClusterArguments): ClusterConfig {
  if (dualStack && flannelBackend(config.cni) !== null) {
    throw new UsageError('--dual-stack: with --cni bridge or ptp');
  }
  const { name, nodes, cni, proxyMode } = config;
  return { name, nodes, cni, proxyMode, isDualStack: dualStack };
}
