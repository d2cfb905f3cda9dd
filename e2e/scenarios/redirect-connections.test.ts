// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * `judge` beside kube-proxy's rules, in both of its forms: who may connect to whom when policy says so
 * by labels, entities, CIDRs, ports and denials; straight, through Services and node ports; between pods
 * of one bridge and of none, the host, another node and the world; and what becomes of open connections
 * when policy changes.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { plan } from '@tandem/testing/node-plan';
import { waitFor } from '@tandem/testing/wait';
import {
  type ConnectionNode,
  nodePort,
  type Place,
  services,
  startConnectionNode,
} from '../kit/connection-node.ts';

const ports = (port: string, protocol = 'TCP'): object => ({
  toPorts: [{ ports: [{ port, protocol }] }],
});
const labelled = (...apps: readonly string[]): object[] => [
  { matchExpressions: [{ key: 'app', operator: 'In', values: apps }] },
];

function policy(app: string, spec: object): object {
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: app, namespace: 'default' },
    spec: { endpointSelector: { matchLabels: { app } }, ...spec },
  };
}

const toWeb = {
  toEndpoints: labelled('web'),
  toPorts: [{ ports: [{ port: '8080', endPort: 8095, protocol: 'ANY' }] }],
};
const clientRules: readonly object[] = [
  { toEndpoints: labelled('remote', 'right'), ...ports('8080') },
  { toEndpoints: labelled('left') },
  { toEntities: ['host'], ...ports('6443') },
  {
    toCIDRSet: [
      { cidr: '203.0.113.0/24', except: ['203.0.113.128/25'] },
      { cidr: '2001:db8:9::/64', except: ['2001:db8:9::8000/113'] },
    ],
    ...ports('80'),
  },
  { toCIDR: ['198.51.100.0/24'] },
];
const clientPolicy = (egress: readonly object[]): object =>
  policy('client', {
    ingress: [{}],
    egress,
    egressDeny: [{ toCIDR: ['203.0.113.13/32'] }, ports('6444')],
  });
const policies: readonly object[] = [
  clientPolicy([toWeb, ...clientRules]),
  policy('web', {
    ingress: [
      { fromEndpoints: labelled('client'), ...ports('8080', 'ANY') },
      { fromEntities: ['remote-node'], ...ports('8080') },
      { fromCIDR: [`${plan.upstream4}/32`, `${plan.upstream6}/128`], ...ports('8080') },
    ],
  }),
  policy('left', {
    egress: [{ toEndpoints: labelled('right'), ...ports('8080') }, { toEntities: ['remote-node'] }],
  }),
  policy('right', {
    ingress: [{ fromEndpoints: labelled('client', 'left'), ...ports('8080') }],
    egress: [{ toEntities: ['world'] }],
  }),
];

interface Case {
  readonly from: Place;
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  readonly to: string;
  readonly port: number;
  readonly passes: boolean;
  readonly source?: string;
}

/** "client tcp 10.1.0.13 8080": one line each, as one writes them down. Pod names stand for both addresses. */
const allowed = `
client tcp web 8080
client udp web 8080
client tcp ${services.web} 80
client udp ${services.web} 80
client tcp ${services.web6} 80
client udp ${services.web6} 80
client tcp ${services.client} 80
client tcp ${services.right} 80
client tcp ${services.remote} 80
client tcp ${services.node} 80
client tcp right 8080
client tcp left 9090
client icmp left 0
client tcp ${plan.remotePod4} 8080
client tcp ${plan.remotePod6} 8080
client tcp ${plan.node4} 6443
client tcp ${plan.bridgeGateway4} 6443
client tcp 203.0.113.10 80
client tcp 2001:db8:9::1 80
client tcp 198.51.100.9 443
client tcp ${plan.nodeUpstream4} ${nodePort}
client udp ${plan.nodeUpstream4} ${nodePort}
client tcp ${plan.nodeUpstream6} ${nodePort}
left tcp right 8080
left tcp ${services.right} 80
left tcp ${services.left} 80
left tcp ${plan.remoteNode4} 9090
left icmp ${plan.remoteNode6} 0
right tcp 203.0.113.10 443
right icmp 203.0.113.10 0
right icmp 2001:db8::1 0
other tcp 203.0.113.13 6444
other tcp left 9090
other icmp left 0
web tcp left 8080
internet tcp ${plan.nodeUpstream4} ${nodePort}
internet tcp ${plan.nodeUpstream6} ${nodePort}
internet tcp web 8080
remote tcp web 8080
node tcp web 9090
node tcp client 8080
node tcp right 9090
node icmp web 0
node tcp ${services.web} 80
node tcp ${services.right} 80
`;
const refused = `
client tcp web 9090
client icmp web 0
client tcp right 9090
client tcp other 8080
client tcp ${plan.remotePod4} 9090
client tcp ${plan.remoteNode4} 8080
client tcp ${plan.node4} 9090
client udp ${plan.node4} 8080
client tcp ${plan.node6} 9090
client tcp 203.0.113.200 80
client tcp 2001:db8:9::8001 80
client tcp 203.0.113.10 443
client tcp 203.0.113.13 80
client tcp 198.51.100.9 6444
client icmp 203.0.113.10 0
web tcp client 8080
other tcp web 8080
other tcp ${services.web} 80
other udp ${services.web6} 80
other tcp ${plan.nodeUpstream4} ${nodePort}
other tcp right 8080
left tcp right 9090
left icmp right 0
left tcp web 8080
left tcp ${services.remote} 80
left tcp 203.0.113.10 80
right tcp ${plan.remoteNode4} 8080
right tcp ${plan.remotePod6} 8080
right tcp ${plan.node4} 6443
remote tcp web 9090
remote tcp client 8080
internet tcp web 9090
internet tcp right 8080
`;

function parseCases(text: string, passes: boolean): Case[] {
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [from = '', protocol = '', to = '', port = ''] = line.split(' ');
      return { from, protocol, to, port: Number(port), passes } as Case;
    });
}

const cases: readonly Case[] = [
  ...parseCases(allowed, true),
  ...parseCases(refused, false),
  // The remote node passes, its pod does not.
  {
    from: 'remote',
    protocol: 'tcp',
    to: 'web',
    port: 8080,
    source: plan.remotePod4,
    passes: false,
  },
];

const tryMs = 600;

/** Does the connection come about, in each family that the case has? */
async function attempt({ probes, node }: ConnectionNode, one: Case): Promise<string[]> {
  const pod = node.pods.find(({ name }) => name === one.to);
  const targets = pod === undefined ? [one.to] : [pod.ipv4 ?? '', pod.ipv6 ?? ''];
  const own = targets.filter((to) => one.source === undefined || !to.includes(':'));
  return Promise.all(own.map((to) => connect(probes[one.from], one, to)));
}

async function connect(
  probe: ConnectionNode['client'],
  { protocol, port, source }: Case,
  to: string,
): Promise<string> {
  const options = { timeoutMs: tryMs, ...(source === undefined ? {} : { source }) };
  const data = 'x';
  try {
    if (protocol === 'icmp') await probe.ping(to, options);
    else if (protocol === 'udp') await probe.udp({ to, port, data, ...options });
    else await probe.tcp({ to, port, data, want: 1, ...options });
    return 'passes';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

for (const kubeProxy of ['iptables', 'nftables'] as const) {
  describe(`connections beside kube-proxy in ${kubeProxy} form`, () => {
    let node: ConnectionNode;
    before(async () => {
      node = await startConnectionNode(kubeProxy, policies);
    });
    after(() => node[Symbol.asyncDispose]());

    for (const from of new Set(cases.map((one) => one.from))) {
      test(`from ${from}`, async () => {
        const own = cases.filter((one) => one.from === from);
        const results = await Promise.all(
          own.map(async (one) => {
            const { protocol, to, port, source = '' } = one;
            return `${protocol} ${to} ${port} ${source}: ${(await attempt(node, one)).join(' ')}`;
          }),
        );
        const expected = own.map(({ protocol, to, port, source = '', passes }) => {
          const isPod = node.node.pods.some(({ name }) => name === to) && source === '';
          const each = passes ? 'passes' : 'ETIMEDOUT';
          return `${protocol} ${to} ${port} ${source}: ${isPod ? `${each} ${each}` : each}`;
        });
        assert.deepEqual(results, expected);
      });
    }

    test('policy that goes away takes open connections with it, and no others', async () => {
      const { probes, tandem } = node;
      const open = async (to: string, port: number): ReturnType<typeof probes.client.connect> =>
        probes.client.connect({ to, port, data: 'x', want: 1 });
      const web = node.node.pod('web');
      const revoked = [await open(web.ipv4 ?? '', 8080), await open(services.web6, 80)];
      const kept = [await open('203.0.113.10', 80), await open(services.right, 80)];
      const exchange = { data: 'y', want: 1, timeoutMs: tryMs };
      tandem.write('policy.yaml', [clientPolicy(clientRules), ...policies.slice(1)]);
      const reaches = async (): Promise<boolean> =>
        probes.client.tcp({ to: services.web, port: 80, timeoutMs: tryMs }).then(
          () => true,
          () => false,
        );
      await waitFor(async () => !(await reaches()), { what: 'the rule to be gone' });
      for (const stream of kept) assert.ok((await stream.exchange(exchange)).data.length > 0);
      for (const stream of revoked) await assert.rejects(stream.exchange(exchange), /ETIMEDOUT/);
      tandem.write('policy.yaml', policies);
      await waitFor(reaches, { what: 'the rule to hold again' });
      for (const stream of kept) await stream.exchange(exchange);
    });
  });
}
