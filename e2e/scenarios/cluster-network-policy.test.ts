// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ClusterNetworkPolicy on the datapath: the order of tiers and of rules, over TCP and UDP, IPv4 and IPv6. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { agentAdminPath } from '@tandem/dns-proxy/config';
import { EventType } from '@tandem/proto/gen/messages';
import { AdminService } from '@tandem/proto/gen/services';
import { GrpcClient } from '@tandem/runtime/grpc-client';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { addressOf, assertCounted, frameOf } from '../kit/attack.ts';
import { proxyUid } from '../kit/shipped-privileges.ts';
import {
  clusterDns4,
  type StandardNode,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';

type Rule = Readonly<Record<string, unknown>>;
type Way = 'tcp4' | 'tcp6' | 'udp4' | 'udp6';

const ways: readonly Way[] = ['tcp4', 'tcp6', 'udp4', 'udp6'];
const internet = { 4: '203.0.113.10', 6: '2001:db8:5::10' } as const;
const everybody = { networks: ['0.0.0.0/0', '::/0'] };
const toInternet = { networks: ['203.0.113.0/24', '2001:db8:5::/64'] };
const named = (name: string): object => ({ 'kubernetes.io/metadata.name': name });
const shop = { namespaces: { matchLabels: named('shop') } };
const dnsPods = {
  pods: {
    namespaceSelector: { matchLabels: named('kube-system') },
    podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } },
  },
};
const client = {
  pods: {
    namespaceSelector: { matchLabels: named('default') },
    podSelector: { matchLabels: { app: 'client' } },
  },
};
const deniedMs = 1000;

let standard: StandardNode;
let web: Probe;

before(async () => {
  standard = await startStandardNode({
    pods: [{ name: 'web' }],
    podObjects: { web: { namespace: 'shop' } },
  });
  const { node } = standard;
  web = node.own(Probe.start(node.pod('web').namespace));
  for (const address of ['0.0.0.0', '::']) {
    for (const protocol of ['tcp', 'udp'] as const) {
      // oxlint-disable-next-line no-await-in-loop -- four
      await web.listen({ protocol, address, port: 80 });
    }
  }
});
after(() => standard[Symbol.asyncDispose]());

async function apply(...objects: readonly object[]): Promise<void> {
  const { tandem } = standard;
  const revision = tandem.appliedRevision();
  tandem.write('policy.yaml', objects);
  await tandem.waitForRevision(revision);
}

function policy(
  tier: 'Admin' | 'Baseline',
  egress: readonly Rule[],
  more: {
    readonly priority?: number;
    readonly ingress?: readonly Rule[];
    readonly subject?: object;
  } = {},
): object {
  const { priority = 10, ingress, subject = client } = more;
  return {
    ...{ apiVersion: 'policy.networking.k8s.io/v1beta1', kind: 'ClusterNetworkPolicy' },
    metadata: { name: `${tier.toLowerCase()}-${priority}` },
    spec: { tier, priority, subject, egress, ...(ingress === undefined ? {} : { ingress }) },
  };
}

/** Isolates the client, but for these peers. */
function networkPolicy(to: readonly object[]): object {
  return {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
    metadata: { name: 'client', namespace: 'default' },
    spec: {
      podSelector: { matchLabels: { app: 'client' } },
      policyTypes: ['Egress'],
      egress: to.length === 0 ? [] : [{ to }],
    },
  };
}
const ofShop = { namespaceSelector: { matchLabels: named('shop') } };
const blocks = [{ ipBlock: { cidr: '0.0.0.0/0' } }, { ipBlock: { cidr: '::/0' } }];

/** The ways by which the client gets an answer. */
async function reached(peer: 'web' | 'internet'): Promise<readonly Way[]> {
  const pod = standard.node.pod('web');
  const addresses = peer === 'web' ? { 4: pod.ipv4, 6: pod.ipv6 } : internet;
  const asked = ways.map(async (way) => {
    const to = addresses[way.endsWith('4') ? 4 : 6] ?? '';
    const options = { to, port: 80, data: 'x', want: 1, timeoutMs: deniedMs };
    const { client: probe } = standard;
    const answer = way.startsWith('tcp') ? probe.tcp(options) : probe.udp(options);
    const isReached = await answer.then(
      () => true,
      () => false,
    );
    return isReached ? [way] : [];
  });
  return (await Promise.all(asked)).flat();
}

async function assertReach(
  expected: Readonly<Record<'web' | 'internet', readonly Way[]>>,
): Promise<void> {
  const [toWeb, toOutside] = await Promise.all([reached('web'), reached('internet')]);
  assert.deepEqual({ web: toWeb, internet: toOutside }, expected, standard.tandem.logs());
}

test('a pod that only this kind selects passes all that no rule denies', async () => {
  await apply(policy('Admin', [{ action: 'Deny', to: [toInternet] }]));
  await assertReach({ web: ways, internet: [] });
  const { addresses, rcode } = await askDns(standard.client, {
    ...{ server: clusterDns4, name: 'n-1.denied.test' },
  });
  assert.equal(rcode, 'NOERROR');
  assert.equal(addresses.length, 1);
});

test('a Deny of networks holds for what the node takes as a broadcast or a group', async () => {
  const { node, tandem, client: probe } = standard;
  const pod = node.pod('client');
  await using host = Probe.start(node.node);
  const servers = [
    await host.listen({ protocol: 'udp', address: '0.0.0.0', port: 5353 }),
    await host.listen({ protocol: 'udp', address: '::', port: 5353 }),
  ];
  const places = ['255.255.255.255', '224.0.0.1', 'ff02::1'];
  const send = async (to: string): Promise<void> => {
    const ip = { source: addressOf(pod, to), destination: to, ttl: 1 };
    const udp = { sourcePort: 4444, destinationPort: 5353 };
    await probe.frame(frameOf(pod, { ip, udp, payload: Buffer.from('x') }));
  };
  const received = async (): Promise<number> => {
    const counts = await Promise.all(servers.map((server) => server.served()));
    return counts.reduce((sum, { datagrams }) => sum + datagrams, 0);
  };
  for (const [prefix, denied] of [
    ['0.0.0.0/0', ['255.255.255.255', '224.0.0.1']],
    ['224.0.0.0/4', ['224.0.0.1']],
    ['ff00::/8', ['ff02::1']],
  ] as const) {
    const earlier = await received();
    await apply(policy('Admin', [{ action: 'Deny', to: [{ networks: [prefix] }] }]));
    for (const to of denied) await assertCounted(tandem, 'drop_policy_deny', () => send(to));
    const others = places.filter((to) => !(denied as readonly string[]).includes(to));
    for (const to of others) await assertCounted(tandem, 'forwarded', () => send(to));
    const isReceived = async (): Promise<boolean> => (await received()) >= earlier + others.length;
    await waitFor(isReceived, { what: 'what is not denied' });
    assert.equal(await received(), earlier + others.length, prefix);
  }
});

test('the agent names the rule of a drop, and its tier', async () => {
  await apply(policy('Admin', [{ action: 'Deny', to: [toInternet] }]));
  await assertReach({ web: ways, internet: [] });
  const path = agentAdminPath(standard.tandem.runDirectory);
  using admin = new GrpcClient({ path, serverUids: [proxyUid] });
  const request = { pod: 'default/client', type: EventType.EVENT_TYPE_DROP, last: 1 };
  const isNamed = async (): Promise<boolean> => {
    for await (const { rule, ruleTier } of admin.serverStream(AdminService.observe, request)) {
      const isRule = rule === 'ClusterNetworkPolicy/admin-10: spec.egress[0]';
      return isRule && ruleTier === 'Admin tier, priority 10';
    }
    return false;
  };
  await waitFor(isNamed, { what: 'the rule of the last drop' });
});

test('an Admin Deny beats what a NetworkPolicy allows', async () => {
  await apply(networkPolicy(blocks), policy('Admin', [{ action: 'Deny', to: [shop] }]));
  await assertReach({ web: [], internet: ways });
});

test('an Admin Accept before an Admin Deny holds, for its ports alone, and beats a NetworkPolicy', async () => {
  const rules = [
    { action: 'Accept', to: [shop], protocols: [{ tcp: { destinationPort: { number: 80 } } }] },
    { action: 'Deny', to: [everybody] },
  ];
  await apply(networkPolicy([]), policy('Admin', rules));
  await assertReach({ web: ['tcp4', 'tcp6'], internet: [] });
  await apply(networkPolicy(blocks), policy('Admin', [...rules].reverse()));
  await assertReach({ web: [], internet: [] });
});

test('an Accept of some pods holds before a rule that denies every peer, pods or not', async () => {
  // Of a peer that is not known: in the kernel it is a rule for every peer, which the Accept must be spared.
  const rules = [
    { action: 'Accept', to: [shop] },
    { action: 'Deny', to: [{ nodes: {} }] },
  ];
  await apply(policy('Admin', rules));
  await assertReach({ web: ways, internet: [] });
});

test('the lower priority is asked first, whatever the names', async () => {
  await apply(
    policy('Admin', [{ action: 'Accept', to: [everybody] }], { priority: 900 }),
    policy('Admin', [{ action: 'Deny', to: [shop] }], { priority: 9 }),
  );
  await assertReach({ web: [], internet: ways });
});

test('a Pass leaves a packet to NetworkPolicies, else to the Baseline tier', async () => {
  const admin = policy('Admin', [
    { action: 'Pass', to: [shop] },
    { action: 'Deny', to: [everybody] },
  ]);
  await apply(admin, networkPolicy([ofShop]));
  await assertReach({ web: ways, internet: [] });
  await apply(admin, networkPolicy(blocks.slice(0, 0)));
  await assertReach({ web: [], internet: [] });
  await apply(admin);
  await assertReach({ web: ways, internet: [] });
  const udp = { protocols: [{ udp: { destinationPort: { range: { start: 79, end: 81 } } } }] };
  await apply(admin, policy('Baseline', [{ action: 'Deny', to: [shop], ...udp }]));
  await assertReach({ web: ['tcp4', 'tcp6'], internet: [] });
});

test('a Baseline Deny yields to a NetworkPolicy', async () => {
  const baseline = policy('Baseline', [{ action: 'Deny', to: [everybody] }]);
  await apply(baseline);
  await assertReach({ web: [], internet: [] });
  await apply(baseline, networkPolicy([ofShop]));
  await assertReach({ web: ways, internet: [] });
});

test('ingress rules', async () => {
  const from = [{ namespaces: { matchLabels: named('default') } }];
  const udp = [{ udp: { destinationPort: { number: 80 } } }];
  const ingress = [
    { action: 'Accept', from, protocols: udp },
    { action: 'Deny', from },
  ];
  await apply(policy('Admin', [], { subject: shop, ingress }));
  await assertReach({ web: ['udp4', 'udp6'], internet: ways });
});

test('an accepted DNS server answers every name, and toFQDNs learns from it', async () => {
  const ask = (name: string): ReturnType<typeof askDns> =>
    askDns(standard.client, { server: clusterDns4, name });
  await apply(standardPolicy);
  assert.equal((await ask('n-3.denied.test')).rcode, 'REFUSED');
  await apply(standardPolicy, policy('Admin', [{ action: 'Accept', to: [dnsPods] }]));
  const denied = await ask('n-4.denied.test');
  assert.equal(denied.rcode, 'NOERROR');
  const allowed = await ask('n-5.allowed.test');
  const { client: probe } = standard;
  const to = (name: typeof denied): Promise<unknown> =>
    probe.tcp({
      ...{ to: name.addresses[0] ?? '', port: 80, data: 'x', want: 1, timeoutMs: deniedMs },
    });
  await to(allowed);
  await assert.rejects(to(denied));
  await apply(standardPolicy, policy('Admin', [{ action: 'Deny', to: [dnsPods] }]));
  const asked = { server: clusterDns4, name: 'n-6.allowed.test', timeoutMs: deniedMs };
  const rcode = await askDns(probe, asked).then(
    (reply) => reply.rcode,
    () => 'no answer',
  );
  assert.ok(rcode === 'REFUSED' || rcode === 'no answer', rcode);
});

test('a peer that is not known denies, and an invalid object holds its pods', async () => {
  await apply(policy('Admin', [{ action: 'Pass', to: [{ nodes: {} }] }]));
  await assertReach({ web: [], internet: [] });
  await apply(policy('Admin', [{ action: 'Accept', to: [{ nodes: {} }] }]));
  await assertReach({ web: ways, internet: ways });
  // Under another name, or the valid version before it stays in force.
  await apply(policy('Admin', [{ action: 'Drop', to: [shop] }], { priority: 7 }));
  await assertReach({ web: [], internet: [] });
});
