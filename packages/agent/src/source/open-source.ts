// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The source that the configuration names. */

import { join } from 'node:path';
import type { ClusterState } from '@tandem/core/policy/cluster-state';
import { inClusterEndpoint, type KubeEndpoint } from '@tandem/kube/endpoint';
import { readKubeconfig } from '@tandem/kube/kubeconfig';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import type { AgentConfig } from '../config.ts';
import type { Sandboxes } from '../gate/sandboxes.ts';
import { KubeSource } from './kube-source.ts';
import type { ObjectSource } from './object-source.ts';
import { PolicySource } from './policy-source.ts';

export interface OpenSourceOptions {
  readonly config: AgentConfig;
  readonly sandboxes: Sandboxes;
  /** Whether the pins or the snapshot hold a policy. */
  readonly isInForce: boolean;
  readonly apply: (cluster: ClusterState) => Promise<void>;
  readonly log: Logger;
}

export const kubernetesSource = 'kubernetes';
const directoryPrefix = 'directory:';

/** @throws TandemError TANDEM_KUBE_CONFIG: how the API server is reached is not known */
export async function openSource(options: OpenSourceOptions): Promise<ObjectSource> {
  const { config, sandboxes, apply, log } = options;
  if (config.source === kubernetesSource) {
    const endpoint = await endpointOf(config);
    return new KubeSource({ endpoint, nodeName: config.nodeName, sandboxes, apply, log });
  }
  return new PolicySource({
    directory: config.source.slice(directoryPrefix.length),
    copiesDirectory: join(config.stateDir, 'source'),
    isInForce: options.isInForce,
    apply,
    log,
  });
}

async function endpointOf({ kubeconfig }: AgentConfig): Promise<KubeEndpoint> {
  const endpoint =
    kubeconfig === '' ? inClusterEndpoint(process.env) : await readKubeconfig(kubeconfig);
  if (!endpoint.ok) throw new TandemError('TANDEM_KUBE_CONFIG', endpoint.error, {});
  return endpoint.value;
}
