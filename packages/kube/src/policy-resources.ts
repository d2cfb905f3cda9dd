// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Kinds of policies, which both the agent and the controller read. */

import { customResource, type Resource } from './resource.ts';

export const networkPolicies: Resource = {
  path: '/apis/networking.k8s.io/v1/networkpolicies',
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
};

const ciliumVersion = 'cilium.io/v2';
export const ciliumPolicies: Resource = customResource(
  ciliumVersion,
  'CiliumNetworkPolicy',
  'ciliumnetworkpolicies',
);
export const ciliumClusterwidePolicies: Resource = customResource(
  ciliumVersion,
  'CiliumClusterwideNetworkPolicy',
  'ciliumclusterwidenetworkpolicies',
);
export const ciliumRedirectPolicies: Resource = customResource(
  ciliumVersion,
  'CiliumLocalRedirectPolicy',
  'ciliumlocalredirectpolicies',
);

export const clusterPolicies: Resource = {
  ...customResource(
    'policy.networking.k8s.io/v1beta1',
    'ClusterNetworkPolicy',
    'clusternetworkpolicies',
  ),
  alternatives: [
    {
      path: '/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies',
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
    },
  ],
};
