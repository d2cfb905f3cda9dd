// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** CoreDNS as kubeadm installs it, with one replica. What is not the cluster's it asks at the node's resolver. */

import { corednsImage } from './base-images.ts';
import { type ClusterConfig, dnsServiceAddress, ipv6 } from './layout.ts';

const corefile = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
}
`;

const metadata = { name: 'coredns', namespace: 'kube-system' };
const labels = { 'k8s-app': 'kube-dns' };
const rbac = 'rbac.authorization.k8s.io';
const ports = [
  { name: 'dns', port: 53, protocol: 'UDP' },
  { name: 'dns-tcp', port: 53, protocol: 'TCP' },
];

/** `moreZones`: server blocks behind the Corefile's own. */
export const clusterDnsObjects = (
  { isDualStack }: ClusterConfig,
  moreZones = '',
): readonly unknown[] => [
  { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
  {
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRole',
    metadata: { name: 'system:coredns' },
    rules: [
      {
        apiGroups: [''],
        resources: ['endpoints', 'services', 'pods', 'namespaces'],
        verbs: ['list', 'watch'],
      },
      { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
    ],
  },
  {
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name: 'system:coredns' },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'system:coredns' },
    subjects: [{ kind: 'ServiceAccount', ...metadata }],
  },
  { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { Corefile: corefile + moreZones } },
  {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { ...metadata, labels },
    spec: {
      replicas: 1,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          serviceAccountName: 'coredns',
          dnsPolicy: 'Default',
          containers: [
            {
              name: 'coredns',
              image: corednsImage,
              imagePullPolicy: 'IfNotPresent',
              args: ['-conf', '/etc/coredns/Corefile'],
              ports: ports.map(({ name, port, protocol }) => ({
                name,
                containerPort: port,
                protocol,
              })),
              // Without a request it gets next to no CPU time beside others on a busy machine.
              resources: { requests: { cpu: '100m', memory: '70Mi' }, limits: { memory: '170Mi' } },
              readinessProbe: { httpGet: { path: '/ready', port: 8181 }, periodSeconds: 1 },
              volumeMounts: [{ name: 'config', mountPath: '/etc/coredns', readOnly: true }],
            },
          ],
          volumes: [{ name: 'config', configMap: { name: 'coredns' } }],
        },
      },
    },
  },
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: 'kube-dns',
      namespace: 'kube-system',
      labels: { ...labels, 'kubernetes.io/name': 'CoreDNS' },
    },
    spec: {
      clusterIP: dnsServiceAddress,
      ...(isDualStack
        ? {
            clusterIPs: [dnsServiceAddress, ipv6.dnsServiceAddress],
            ipFamilyPolicy: 'RequireDualStack',
          }
        : {}),
      selector: labels,
      ports,
    },
  },
];
