// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node-local cache on each node, made of the CoreDNS that the bed has, and a CiliumLocalRedirectPolicy that leads queries for
 * kube-dns to it. The cache asks the address that is redirected, with the loop plugin: were it led to itself, it would end.
 */

import { corednsImage } from '../base-images.ts';
import { kubectl } from '../kubectl.ts';
import { dnsServiceAddress, nodeName } from '../layout.ts';
import type { Trial } from './trial.ts';

export const cacheName = 'node-local-dns';
export const cacheNamespace = 'kube-system';
const metadata = { name: cacheName, namespace: cacheNamespace };
const labels = { 'k8s-app': cacheName };
const ports = [
  { name: 'dns', port: 53, protocol: 'UDP' },
  { name: 'dns-tcp', port: 53, protocol: 'TCP' },
] as const;
/**
 * While it ends it serves on, for five seconds as Kubernetes' own CoreDNS. It keeps no SERVFAIL, which CoreDNS would for five seconds: what
 * fails after kube-dns is back would be taken for Tandem's.
 */
const corefile = `.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    prometheus :9153
    cache 30 {
        servfail 0
    }
    loop
    forward . ${dnsServiceAddress}
}
`;

/** A ConfigMap and a DaemonSet. */
export const cacheObjects: readonly unknown[] = [
  { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { Corefile: corefile } },
  {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata,
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          dnsPolicy: 'Default',
          containers: [
            {
              name: 'coredns',
              image: corednsImage,
              imagePullPolicy: 'IfNotPresent',
              args: ['-conf', '/etc/coredns/Corefile'],
              ports: ports.map(({ port, ...each }) => ({ ...each, containerPort: port })),
              readinessProbe: { httpGet: { path: '/ready', port: 8181 }, periodSeconds: 1 },
              volumeMounts: [{ name: 'config', mountPath: '/etc/coredns', readOnly: true }],
            },
          ],
          volumes: [{ name: 'config', configMap: { name: cacheName } }],
        },
      },
    },
  },
];
/** Leads what pods ask of kube-dns to the cache of their node. */
export const cachePolicy: object = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumLocalRedirectPolicy',
  metadata,
  spec: {
    redirectFrontend: { serviceMatcher: { serviceName: 'kube-dns', namespace: 'kube-system' } },
    redirectBackend: {
      localEndpointSelector: { matchLabels: labels },
      toPorts: ports.map(({ port, ...each }) => ({ ...each, port: `${port}` })),
    },
  },
};

/** The ready cache of a node, which does not end; '' while there is none. */
export async function cachePod({ layout }: Trial, index: number): Promise<string> {
  const on = `--field-selector=spec.nodeName=${nodeName(index)}`;
  const get = ['-n', cacheNamespace, 'get', 'pods', '-l', `k8s-app=${cacheName}`, on];
  const template =
    '{range .items[*]}{.metadata.name} {.metadata.deletionTimestamp} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}';
  const text = await kubectl(layout, [...get, '-o', `jsonpath=${template}`]);
  const ready = text.split('\n').find((line) => / {2}True$/.test(line));
  return ready?.split(' ')[0] ?? '';
}
