// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Objects of the demonstration: a client on each node, and their policy. */

export const demoNamespace = 'shop';

export const demoObjects: readonly object[] = [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: demoNamespace } },
  {
    ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy' },
    metadata: { name: 'client', namespace: demoNamespace },
    spec: {
      endpointSelector: { matchLabels: { app: 'client' } },
      egress: [
        {
          toEndpoints: [
            {
              matchLabels: {
                'k8s:io.kubernetes.pod.namespace': 'kube-system',
                'k8s:k8s-app': 'kube-dns',
              },
            },
          ],
          toPorts: [
            {
              ports: [{ port: '53', protocol: 'ANY' }],
              rules: {
                dns: [{ matchName: 'api.example.com' }, { matchPattern: 'new-*.example.com' }],
              },
            },
          ],
        },
        {
          toFQDNs: [{ matchName: 'api.example.com' }, { matchPattern: 'new-*.example.com' }],
          toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }],
        },
      ],
    },
  },
  {
    ...{ apiVersion: 'apps/v1', kind: 'DaemonSet' },
    metadata: { name: 'client', namespace: demoNamespace },
    spec: {
      selector: { matchLabels: { app: 'client' } },
      template: {
        metadata: { labels: { app: 'client' } },
        spec: {
          terminationGracePeriodSeconds: 0,
          containers: [
            {
              name: 'client',
              image: 'registry.k8s.io/e2e-test-images/agnhost:2.63.0',
              imagePullPolicy: 'Never',
            },
          ],
        },
      },
    },
  },
];
