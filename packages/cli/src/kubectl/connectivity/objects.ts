// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The objects of `kubectl tandem connectivity test`: two clients and a server, and the policies that are tried on them. */

export const serverPort = 8080;
export const serverName = 'server';
export const clients = ['client-1', 'client-2'] as const;
export type Client = (typeof clients)[number];

/** Answers each request, and is what its readiness probe asks, which kubelet sends from the node. */
const serverScript = `require('node:http').createServer((_, reply) => reply.end('tandem')).listen(${serverPort})`;
const clientScript = 'setInterval(() => {}, 1 << 30)';

/** Label of the test's namespace: a namespace without it belongs to others and is never deleted. */
export const ownLabel: Readonly<Record<string, string>> = {
  'app.kubernetes.io/managed-by': 'kubectl-tandem',
};

export interface TestPods {
  readonly namespace: string;
  /** With /bin/node: that of the agent, which every node has. */
  readonly image: string;
  /** Nodes of server and first client, and of the second client: two where there are two. */
  readonly nodes: readonly [string, string];
}

export function testObjects({ namespace, image, nodes }: TestPods): readonly object[] {
  const [near, far] = nodes;
  const pod = (name: string, node: string, script: string, more: object = {}): object => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name } },
    spec: {
      nodeName: node,
      tolerations: [{ operator: 'Exists' }],
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: 0,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 65_532,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name,
          image,
          imagePullPolicy: 'IfNotPresent',
          command: ['/bin/node', '-e', script],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          resources: { requests: { cpu: '10m', memory: '48Mi' }, limits: { memory: '128Mi' } },
          ...more,
        },
      ],
    },
  });
  return [
    {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: namespace, labels: ownLabel },
    },
    pod(serverName, near, serverScript, {
      readinessProbe: { httpGet: { path: '/', port: serverPort }, periodSeconds: 2 },
    }),
    pod(clients[0], near, clientScript),
    pod(clients[1], far, clientScript),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: serverName, namespace },
      spec: { selector: { app: serverName }, ports: [{ port: serverPort }] },
    },
  ];
}

export const policyName = 'connectivity';

/** Policy under which no client reaches the server, or only the named ones. */
export function ingressPolicy(namespace: string, allowed: readonly Client[]): object {
  const from = allowed.map((app) => ({ podSelector: { matchLabels: { app } } }));
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: policyName, namespace },
    spec: {
      podSelector: { matchLabels: { app: serverName } },
      policyTypes: ['Ingress'],
      ingress: from.length === 0 ? [] : [{ from }],
    },
  };
}

/** The first client may ask for one name and reach it at one port, and nothing else. */
export function fqdnPolicy(namespace: string, name: string, port: number): object {
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: policyName, namespace },
    spec: {
      endpointSelector: { matchLabels: { app: clients[0] } },
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
            { ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: [{ matchName: name }] } },
          ],
        },
        {
          toFQDNs: [{ matchName: name }],
          toPorts: [{ ports: [{ port: String(port), protocol: 'TCP' }] }],
        },
      ],
    },
  };
}
