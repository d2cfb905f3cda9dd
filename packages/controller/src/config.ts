// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options of the controller. */

import type { ConfigSpec } from '@tandem/runtime/config';
import {
  boolOption,
  durationOption,
  enumOption,
  stringOption,
} from '@tandem/runtime/config-option';
import { type LogConfig, logOptions } from '@tandem/runtime/log-options';
import { type DefinitionMode, definitionModes } from './definition-keeper.ts';
import { leaseDurationMaxMs } from './limits.ts';

export interface ControllerConfig extends LogConfig {
  readonly kubeconfig: string;
  readonly namespace: string;
  readonly podName: string;
  readonly leaseName: string;
  /** ms. */
  readonly leaseDuration: number;
  readonly agentDaemonSet: string;
  readonly dnsProxyDaemonSet: string;
  readonly startupTaint: string;
  readonly taintNotReady: boolean;
  readonly crdsInstall: DefinitionMode;
  readonly metricsAddress: string;
}

const objectName = {
  test: /^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/,
  range: 'a name of an object of Kubernetes',
};
const taintKey = {
  test: /^([-.a-z0-9]{1,253}\/[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?$/,
  range: 'a key of a taint, PREFIX/NAME, or empty',
};

export const controllerConfigSpec: ConfigSpec<ControllerConfig> = {
  program: 'tandem-controller',
  description:
    "Tandem's controller: the one process of a cluster that writes to its API. It writes whether each policy is valid, and removes the startup taint from nodes on which Tandem is ready.",
  options: {
    kubeconfig: stringOption({
      group: 'Cluster',
      description:
        'File (kubeconfig) for the Kubernetes API, for a controller outside of a pod; empty: the service account of this pod.',
      default: '',
    }),
    namespace: stringOption({
      group: 'Cluster',
      description: 'Namespace of the DaemonSets and of the lease.',
      pattern: objectName,
    }),
    podName: stringOption({
      group: 'Cluster',
      description: 'Name of this pod: the holder of the lease is named by it.',
      pattern: objectName,
    }),
    leaseName: stringOption({
      group: 'Cluster',
      description: 'Name of the Lease by which one of several controllers is the one that writes.',
      default: 'tandem-controller',
      pattern: objectName,
    }),
    leaseDuration: durationOption({
      group: 'Cluster',
      description:
        'Time after which another controller takes a lease that is not renewed. The holder stops writing after two thirds of it.',
      default: 15_000,
      min: 3000,
      max: leaseDurationMaxMs,
    }),
    agentDaemonSet: stringOption({
      group: 'Cluster',
      description: "Name of the agents' DaemonSet.",
      default: 'tandem-agent',
      pattern: objectName,
    }),
    dnsProxyDaemonSet: stringOption({
      group: 'Cluster',
      description: "Name of the DNS proxies' DaemonSet.",
      default: 'tandem-dns-proxy',
      pattern: objectName,
    }),
    startupTaint: stringOption({
      group: 'Cluster',
      description:
        'Key of the taint that is removed from a node when an agent and a DNS proxy are ready there; empty: nodes are neither read nor changed.',
      default: 'tandem.dev/agent-not-ready',
      pattern: taintKey,
    }),
    taintNotReady: boolOption({
      group: 'Cluster',
      description:
        'Also set the taint, with effect NoSchedule, on a node that has an agent and for a minute none that is ready. Pods that run stay.',
      default: false,
    }),
    crdsInstall: enumOption({
      group: 'Cluster',
      description:
        "Definitions of CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy and CiliumLocalRedirectPolicy. auto: made where the cluster has none, and brought to this version where they are an earlier one of Tandem; always: also restored where Tandem's were changed; never: left alone. Definitions of others, such as Cilium's own, are never touched.",
      default: 'auto',
      values: definitionModes,
    }),
    metricsAddress: stringOption({
      group: 'Observability',
      description:
        'Address of /metrics, /healthz and /readyz: ADDRESS:PORT, such as 127.0.0.1:9966 or [::]:9966; empty: none. They have no authentication.',
      default: '',
    }),
    ...logOptions,
  },
  check: ({ metricsAddress }) =>
    metricsAddress === '' || parseAddress(metricsAddress) !== null
      ? []
      : ['metricsAddress must be ADDRESS:PORT, such as 127.0.0.1:9966'],
};

export interface TcpAddress {
  readonly kind: 'tcp';
  readonly host: string;
  readonly port: number;
}

/** The last colon ends the address; one with others may stand in brackets, as an IPv6 address should, or not, as a pod's variable has it. */
export function parseAddress(text: string): TcpAddress | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9A-Za-z.:-]+)):([0-9]{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port > 65_535 ? null : { kind: 'tcp', host, port };
}
