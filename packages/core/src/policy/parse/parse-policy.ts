// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { PolicyObject } from '../../k8s/objects.ts';
import type { Result } from '../../result.ts';
import type { InvalidPolicy, Policy } from '../model/rule.ts';
import { parseCiliumPolicy } from './parse-cilium.ts';
import { parseClusterNetworkPolicy } from './parse-cluster-network-policy.ts';
import { parseNetworkPolicy } from './parse-network-policy.ts';

/** The rules of a policy object of any kind, or why it has none and whom to hold meanwhile. */
export function parsePolicy(object: PolicyObject): Result<Policy, InvalidPolicy> {
  switch (object.kind) {
    case 'NetworkPolicy':
      return parseNetworkPolicy(object);
    case 'ClusterNetworkPolicy':
      return parseClusterNetworkPolicy(object);
    default:
      return parseCiliumPolicy(object);
  }
}
