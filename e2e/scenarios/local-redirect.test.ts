// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node-local DNS cache in a pod, to which a CiliumLocalRedirectPolicy leads what pods ask the cluster's DNS: beside
 * kube-proxy in both of its forms, the cache point to point and behind a bridge.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { Probe } from '@tandem/testing/probe';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { learnedAddresses } from '../kit/learned.ts';
import { dnsPolicy, podObject, redirectPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const inForce = /redirects are in force active=(\d+)/g;
const transports = ['udp', 'tcp'] as const;
const frontends = [clusterDns4, clusterDns6];
const ownAddress = '169.254.20.10';
const cacheLabels = { 'k8s-app': 'node-local-dns' };
const cacheObject = { namespace: 'kube-system', labels: cacheLabels, isReady: true };
const toCache = {
  toEndpoints: [
    {
      matchLabels: {
        'k8s:io.kubernetes.pod.namespace': 'kube-system',
        'k8s:k8s-app': 'node-local-dns',
      },
    },
  ],
};
const names = {
  dns: [{ matchPattern: '*.allowed.test' }],
  fqdns: [{ matchPattern: '*.allowed.test' }],
};
const policies = [
  standardPolicy,
  dnsPolicy({ ...names, name: 'cache', selects: { app: 'named' }, dnsPeers: toCache }),
  {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: 'plain', namespace: 'default' },
    spec: {
      endpointSelector: { matchLabels: { app: 'plain' } },
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
          toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }],
        },
      ],
    },
  },
];

let nextNumber = 1;
const nextName = (suffix: string): string => `n-${nextNumber++}.${suffix}`;

for (const [kubeProxy, kind] of [
  ['iptables', 'ptp'],
  ['nftables', 'bridge'],
] as const) {
  describe(`a cache in a pod (${kind}) beside kube-proxy in ${kubeProxy} form`, () => {
    let standard: StandardNode;
    let cache: DnsServer;
    const probes = new Map<string, Probe>();
    const probe = (name: string): Probe => probes.get(name) as Probe;

    /** Table of Tandem in nft; '': none. */
    const table = async (): Promise<string> => {
      const { node } = standard;
      const list = ['nft', ['list', 'table', 'inet', 'tandem_redirect']] as const;
      return (await tryRun(...node.node.enter(...list))).stdout;
    };
    /** In nft, and in conntrack, whose entries are forgotten before the agent says that its rules are in force. */
    const redirected = async (isSo: boolean): Promise<void> => {
      const what = isSo ? 'redirects' : 'no redirects';
      await waitFor(async () => (await table()).includes('dnat') === isSo, { what });
      const last = (): string | undefined =>
        [...standard.tandem.process('agent').stderr().matchAll(inForce)].at(-1)?.[1];
      await waitFor(() => Number(last()) > 0 === isSo, { what: `the agent to say ${what}` });
    };
    const writePods = (isReady = true): void => {
      const { node, tandem } = standard;
      tandem.write(
        'pods.yaml',
        node.pods.map((pod) =>
          podObject(
            pod,
            pod.name === 'cache'
              ? { ...cacheObject, isReady }
              : pod.name === 'dns'
                ? { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }
                : undefined,
          ),
        ),
      );
    };
    /** Server that answered, "cache" or "dns", and the source of the query. */
    const answeredBy = async (
      from: Probe,
      server: string,
      transport: 'udp' | 'tcp' = 'udp',
    ): Promise<readonly [who: string, from: string]> => {
      const name = nextName('allowed.test');
      const type = server.includes(':') ? 'AAAA' : 'A';
      const reply = await askDns(from, { server, transport, type, name });
      assert.equal(reply.rcode, 'NOERROR');
      assert.equal(reply.from, server, 'the reply comes from whom the pod asked');
      const [byCache, byDns] = await Promise.all([cache.queries(name), standard.dns.queries(name)]);
      assert.equal(byCache.length + byDns.length, 1);
      return byCache.length === 1
        ? ['cache', byCache[0]?.from ?? '']
        : ['dns', byDns[0]?.from ?? ''];
    };

    before(async () => {
      standard = await startStandardNode({
        kubeProxy,
        clientKind: kind,
        dnsKind: kind,
        pods: [
          { name: 'cache', kind },
          { name: 'named', kind: 'ptp' },
          { name: 'plain', kind: 'bridge' },
          { name: 'free', kind },
        ],
        podObjects: { cache: cacheObject },
        policies: [...policies, redirectPolicy()],
      });
      const { node } = standard;
      const { ipv4, ipv6 } = node.pod('cache');
      const addresses = [ipv4, ipv6].filter((each) => each !== null);
      cache = node.own(
        await DnsServer.start(node.pod('cache').namespace, { addresses, rules: standardRules }),
      );
      probes.set('client', standard.client);
      for (const name of ['cache', 'named', 'plain', 'free']) {
        probes.set(name, node.own(Probe.start(node.pod(name).namespace)));
      }
      await redirected(true);
    });
    after(() => standard[Symbol.asyncDispose]());

    for (const server of frontends) {
      test(`${server}: names are judged by a rule for kube-dns alone, and by one for the cache`, async () => {
        for (const name of ['client', 'named']) {
          for (const transport of transports) {
            const [who] = await answeredBy(probe(name), server, transport);
            assert.equal(who, 'cache', `${name} over ${transport}`);
            const denied = nextName('denied.test');
            const refused = await askDns(probe(name), { server, transport, name: denied });
            assert.equal(refused.rcode, 'REFUSED');
            assert.deepEqual(await cache.queries(denied), []);
          }
        }
      });

      test(`${server}: what the cache answers is learned, and reachable at once (cilium#44064)`, async () => {
        const name = nextName('allowed.test');
        const type = server.includes(':') ? 'AAAA' : 'A';
        const reply = await askDns(probe('client'), { server, type, name });
        const [to] = reply.addresses;
        assert.ok(to !== undefined);
        assert.equal(learnedAddresses(standard.tandem).has(to), true);
        const stream = await probe('client').tcp({ to, port: 80, data: 'x', want: 1 });
        assert.equal(stream.retransmits, 0, 'the first SYN passed');
      });

      test(`${server}: a pod without policy reaches the cache with its own address`, async () => {
        const { ipv4, ipv6 } = standard.node.pod('free');
        for (const transport of transports) {
          assert.deepEqual(await answeredBy(probe('free'), server, transport), [
            'cache',
            server.includes(':') ? ipv6 : ipv4,
          ]);
        }
      });

      test(`${server}: the cache itself reaches the pods of kube-dns`, async () => {
        for (const transport of transports) {
          const [who] = await answeredBy(probe('cache'), server, transport);
          assert.equal(who, 'dns');
        }
      });

      test(`${server}: by port alone kube-dns is not the cache, as in Cilium`, async () => {
        const query = { server, name: nextName('allowed.test'), timeoutMs: 300 };
        await assert.rejects(askDns(probe('plain'), query), /ETIMEDOUT/);
      });
    }

    test('a cache that is not ready: the pods of kube-dns answer, with each rule', async () => {
      writePods(false);
      await redirected(false);
      for (const server of frontends) {
        for (const name of ['client', 'named', 'free', 'plain']) {
          for (const transport of transports) {
            const [who] = await answeredBy(probe(name), server, transport);
            assert.equal(who, 'dns', name);
          }
        }
      }
      writePods(true);
      await redirected(true);
      for (const name of ['client', 'named', 'free']) {
        assert.deepEqual((await answeredBy(probe(name), clusterDns4))[0], 'cache');
      }
    });

    test('a table that somebody empties is written again', async () => {
      await standard.node.node.run('nft', ['flush', 'ruleset', 'inet']);
      await redirected(true);
    });

    test('an address of its own: judged by a rule for the cache (cilium#42313, #43800)', async () => {
      const toPorts = [
        { port: '53', name: 'dns', protocol: 'UDP' },
        { port: '53', name: 'dns-tcp', protocol: 'TCP' },
      ];
      const own = redirectPolicy({
        name: 'by-address',
        frontend: { addressMatcher: { ip: ownAddress, toPorts } },
      });
      const before_ = standard.tandem.appliedRevision();
      standard.tandem.write('address.yaml', [own]);
      await standard.tandem.waitForRevision(before_);
      await waitFor(async () => (await table()).includes(ownAddress), { what: 'its redirect' });
      for (const transport of transports) {
        assert.equal((await answeredBy(probe('free'), ownAddress, transport))[0], 'cache');
        assert.equal((await answeredBy(probe('named'), ownAddress, transport))[0], 'cache');
        const denied = nextName('denied.test');
        const query = { server: ownAddress, transport, name: denied };
        assert.equal((await askDns(probe('named'), query)).rcode, 'REFUSED');
      }
      const query = { server: ownAddress, name: nextName('allowed.test'), timeoutMs: 300 };
      await assert.rejects(askDns(probe('client'), query), /ETIMEDOUT/, 'a rule for kube-dns');
      standard.tandem.remove('address.yaml');
      await waitFor(async () => !(await table()).includes(ownAddress), { what: 'its end' });
    });

    test('without processes of ours the redirect goes on, and the next agent keeps it', async () => {
      const { tandem } = standard;
      await tandem.kill('agent');
      assert.equal((await answeredBy(probe('free'), clusterDns4))[0], 'cache');
      assert.equal((await answeredBy(probe('client'), clusterDns4))[0], 'cache', 'by the proxy');
      await tandem.startProcess('agent');
      await tandem.waitForMembers(['agent', 'proxy']);
      assert.equal((await answeredBy(probe('client'), clusterDns4))[0], 'cache');
    });

    test('a policy that goes takes its redirect with it', async () => {
      const { tandem } = standard;
      tandem.write('policy.yaml', policies);
      await redirected(false);
      assert.equal(await table(), '');
      for (const name of ['client', 'free', 'plain']) {
        assert.equal((await answeredBy(probe(name), clusterDns4))[0], 'dns');
      }
    });
  });
}
