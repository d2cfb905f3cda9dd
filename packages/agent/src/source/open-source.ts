// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The source that the configuration names. */

import { join } from 'node:path';
import type { ClusterState } from '@tandem/core/policy/model/cluster-state';
import { ok, type Result } from '@tandem/core/result';
import { inClusterEndpoint, type KubeEndpoint } from '@tandem/kube/endpoint';
import { readKubeconfig } from '@tandem/kube/kubeconfig';
import type { Logger } from '@tandem/runtime/log';
import type { AgentConfig } from '../config.ts';
import type { Sandboxes } from '../gate/sandboxes.ts';
import { KubeSource } from './kube-source.ts';
import { LateSource } from './late-source.ts';
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

export function openSource(options: OpenSourceOptions): ObjectSource {
  const { config, sandboxes, apply, log } = options;
  if (config.source === kubernetesSource) {
    const { nodeName } = config;
    const open = async (): Promise<Result<ObjectSource, string>> => {
      const endpoint = await endpointOf(config);
      if (!endpoint.ok) return endpoint;
      return ok(new KubeSource({ endpoint: endpoint.value, nodeName, sandboxes, apply, log }));
    };
    return new LateSource({ open, log });
  }
  return new PolicySource({
    directory: config.source.slice(directoryPrefix.length),
    copiesDirectory: join(config.stateDir, 'source'),
    isInForce: options.isInForce,
    apply,
    log,
  });
}

async function endpointOf({ kubeconfig }: AgentConfig): Promise<Result<KubeEndpoint, string>> {
  return kubeconfig === '' ? inClusterEndpoint(process.env) : readKubeconfig(kubeconfig);
}
