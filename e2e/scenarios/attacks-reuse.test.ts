// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * An address whose pod ended and that another pod has by now (rule 18): until the agent knows the new one, nothing that was
 * meant for the old one reaches it, from any sender: a pod, the node's own programs, a member that asks the DNS server which
 * the old pod was, a local redirect. What may reach a pod does so before and after.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import type { Pod } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { type Capture, Probe } from '@tandem/testing/probe';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { addressOf, assertDropped, canConnect } from '../kit/attack.ts';
import { endpointOf } from '../kit/endpoints.ts';
import { podObject, redirectPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const token = 'for-the-old-pod';
const port = 9000;
const labels = { 'k8s-app': 'node-local-dns' };
const dnsObject = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };
const evilObject = { namespace: 'shop', labels };
const families = ['10.', 'fd00::'] as const;
const kinds = { ptp: ['10.1.0.77', 'fd00:1::77'], bridge: ['10.1.2.77', 'fd00:1:2::77'] } as const;

for (const kind of ['ptp', 'bridge'] as const) {
  describe(`${kind}: the address of a pod that ended while no agent lives`, () => {
    const [ipv4, ipv6] = kinds[kind];
    let standard: StandardNode;
    let host: Probe;
    let free: Probe;
    let fresh: Pod;
    let atFresh: Capture;
    let evil: DnsServer;
    let asked = 1;
    const nextName = (): string => `n-${asked++}.allowed.test`;
    const table = async (): Promise<string> => {
      const list = standard.node.node.enter('nft', ['list', 'table', 'inet', 'tandem_redirect']);
      return (await tryRun(...list)).stdout;
    };

    before(async () => {
      standard = await startStandardNode({
        pods: [{ name: 'cache', kind, ipv4, ipv6 }, { name: 'free' }],
        podObjects: { cache: { namespace: 'kube-system', labels, isReady: true } },
        policies: [standardPolicy, redirectPolicy()],
      });
      const { node } = standard;
      host = node.own(Probe.start(node.node));
      free = node.own(Probe.start(node.pod('free').namespace));
      await waitFor(async () => (await table()).includes(ipv4), { what: 'the redirect' });
    });
    after(() => standard[Symbol.asyncDispose]());

    test('the old pod is reached: by a pod, by the node, by members through the redirect', async () => {
      const { node, client } = standard;
      const cache = node.pod('cache');
      const probe = Probe.start(cache.namespace);
      const addresses = [ipv4, ipv6];
      const server = await DnsServer.start(cache.namespace, { addresses, rules: standardRules });
      for (const address of ['0.0.0.0', '::'])
        await probe.listen({ protocol: 'tcp', address, port });
      for (const family of families) {
        const to = addressOf(cache, family);
        assert.ok(await canConnect(host, to, port), `the node to ${to}`);
        assert.ok(await canConnect(free, to, port), `a pod to ${to}`);
      }
      for (const from of [client, free]) {
        for (const dns of [clusterDns4, clusterDns6]) {
          // so many that each member has asked
          const names = Array.from({ length: 16 }, nextName);
          const replies = await Promise.all(
            names.map((name) => askDns(from, { server: dns, name })),
          );
          assert.deepEqual(new Set(replies.map(({ rcode }) => rcode)), new Set(['NOERROR']));
          for (const name of names)
            assert.equal((await server.queries(name)).length, 1, 'redirected');
        }
      }
      await server[Symbol.asyncDispose]();
      await probe[Symbol.asyncDispose]();
    });

    test('the agent dies, the pod ends, another one gets its address', async () => {
      const { node, tandem } = standard;
      await tandem.kill('agent');
      await node.removePod('cache');
      fresh = await node.addPod({ name: 'fresh', kind, ipv4, ipv6 });
      const probe = node.own(Probe.start(fresh.namespace));
      for (const address of ['0.0.0.0', '::'])
        await probe.listen({ protocol: 'tcp', address, port });
      atFresh = node.own(await probe.capture({ contains: token }));
      evil = node.own(
        await DnsServer.start(fresh.namespace, { addresses: [ipv4, ipv6], rules: standardRules }),
      );
      assert.ok((await table()).includes(ipv4), 'nobody has taken the redirect away');
    });

    test("neither a pod's packets nor the node's reach it", async () => {
      const { tandem } = standard;
      for (const family of families) {
        const to = addressOf(fresh, family);
        for (const from of [free, host]) {
          // the send fails at once with EPERM
          const send = (): Promise<unknown> =>
            from.udp({ to, port, data: token, want: 0 }).catch((error: Error) => {
              assert.match(error.message, /EPERM/);
            });
          await assertDropped({ tandem, reason: 'drop_unknown_pod', at: atFresh, send });
          assert.ok(
            !(await canConnect(from, to, port)),
            `${from === host ? 'the node' : 'a pod'}: ${to}`,
          );
        }
      }
    });

    test('no query reaches it: a member asks past the redirect, and the pod is answered', async () => {
      const { client } = standard;
      for (const server of [clusterDns4, clusterDns6]) {
        for (const transport of ['udp', 'tcp'] as const) {
          const asks = { server, name: nextName(), transport, timeoutMs: 2000 };
          const reply = await askDns(client, asks).catch((error: Error) => error);
          if (transport === 'udp') {
            assert.ok('rcode' in reply && reply.rcode === 'NOERROR', String(reply));
          }
          await askDns(free, { ...asks, timeoutMs: 300 }).catch(() => null);
        }
      }
      assert.equal((await evil.totals()).total, 0);
    });

    test('a pod that starts with an address of its own is reached by the node', async () => {
      const { node } = standard;
      const [own4, own6] =
        kind === 'ptp' ? ['10.1.0.78', 'fd00:1::78'] : ['10.1.2.78', 'fd00:1:2::78'];
      const pod = await node.addPod({ name: 'starting', kind, ipv4: own4, ipv6: own6 });
      await using probe = Probe.start(pod.namespace);
      await using arrived = await probe.capture({ contains: token });
      // Not over IPv6, and behind a bridge only where the node has a neighbour entry: no claim of an unknown pod passes.
      if (kind === 'bridge') {
        await node.node.ip([`neigh replace ${own4} lladdr ${pod.mac} dev ${plan.bridge}`]);
      }
      await host.udp({ to: own4, port, data: token, want: 0 });
      await waitFor(async () => (await arrived.captured()).matched > 0, { what: own4 });
      await node.removePod('starting');
    });

    test('the agent comes back: nothing reaches the new pod but what may, and then all that may', async () => {
      const { client, node, tandem } = standard;
      const objectOf = (pod: Pod): object => {
        if (pod.name === 'fresh') return podObject(pod, evilObject);
        return podObject(pod, pod.name === 'dns' ? dnsObject : undefined);
      };
      tandem.write('pods.yaml', node.pods.map(objectOf));
      await tandem.startProcess('agent');
      await tandem.waitForMembers(['agent']);
      await waitFor(async () => !(await table()).includes(ipv4), {
        what: 'the end of the redirect',
      });
      const isKnown = (address: string): boolean =>
        endpointOf(tandem, address)?.ifindex === fresh.hostIfindex;
      await waitFor(() => isKnown(ipv4) && isKnown(ipv6), { what: 'the new pod to be known' });
      for (const family of families) {
        const to = addressOf(fresh, family);
        for (const from of [free, host]) assert.ok(await canConnect(from, to, port), to);
      }
      for (const server of [clusterDns4, clusterDns6]) {
        assert.equal((await askDns(client, { server, name: nextName() })).rcode, 'NOERROR');
      }
      assert.equal((await evil.totals()).total, 0);
    });
  });
}
