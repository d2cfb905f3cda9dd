// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Addresses of the cluster that the files name: of nodes, of their pods' networks, of Services. */

import type { K8sObject } from '@tandem/core/k8s/objects';
import { hostPrefix, type Prefix } from '@tandem/core/net/ip';

export interface KnownAddresses {
  readonly nodes: readonly Prefix[];
  readonly pods: readonly Prefix[];
  readonly services: readonly Prefix[];
}

export function clusterAddresses(objects: readonly K8sObject[]): KnownAddresses {
  return {
    nodes: objects.flatMap((object) =>
      object.kind === 'Node' ? object.addresses.map(hostPrefix) : [],
    ),
    pods: objects.flatMap((object) => {
      if (object.kind === 'Node') return object.podCidrs;
      return object.kind === 'Pod' && !object.hostNetwork ? object.addresses.map(hostPrefix) : [];
    }),
    services: objects.flatMap((object) =>
      object.kind === 'Service' ? object.clusterIps.map(hostPrefix) : [],
    ),
  };
}
