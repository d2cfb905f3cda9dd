// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A tenant cannot exempt its pods from the operator's redirects by a policy of its own. The operator redirects a
 * metadata address to a proxy, and the tenant tries to reach the address itself.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Probe } from '@tandem/testing/probe';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { redirectPolicy, serviceObjects } from '../kit/objects.ts';
import { type StandardNode, startStandardNode } from '../kit/standard-node.ts';

/** Address in the internet of the test, so that a query past the proxy is seen. */
const metadata = '203.0.113.254';
const shopService = '10.96.0.66';
const backendLabels = { 'k8s-app': 'node-local-dns' };
const port = { port: '80', name: 'http', protocol: 'TCP' };

const ofOperator = redirectPolicy({
  name: 'metadata',
  frontend: { addressMatcher: { ip: metadata, toPorts: [port] } },
  toPorts: [port],
});
const ofTenant = redirectPolicy({
  name: 'mine',
  namespace: 'shop',
  frontend: { serviceMatcher: { serviceName: 'web', namespace: 'shop' } },
  toPorts: [port],
});

for (const kind of ['ptp', 'bridge'] as const) {
  describe(`pods ${kind}`, () => {
    let standard: StandardNode;
    const probes = new Map<string, Probe>();
    before(async () => {
      standard = await startStandardNode({
        pods: ['proxy', 'mine', 'other'].map((name) => ({ name, kind })),
        podObjects: {
          proxy: { namespace: 'kube-system', labels: backendLabels, isReady: true },
          mine: { namespace: 'shop', labels: backendLabels, isReady: true },
          other: { namespace: 'shop', labels: { app: 'other' }, isReady: true },
        },
      });
      const { node, tandem } = standard;
      for (const name of ['proxy', 'mine', 'other']) {
        const probe = node.own(Probe.start(node.pod(name).namespace));
        await probe.listen({ protocol: 'tcp', address: '0.0.0.0', port: 80 });
        probes.set(name, probe);
      }
      const backends = [{ address: node.pod('mine').ipv4 ?? '', port: 80 }];
      const web = [{ clusterIp: shopService, port: 80, protocol: 'tcp', backends } as const];
      tandem.write('shop.yaml', serviceObjects('web', 'shop', web));
    });
    after(() => standard[Symbol.asyncDispose]());

    const write = async (policies: readonly object[], frontend: string): Promise<void> => {
      const { node, tandem } = standard;
      tandem.write('redirects.yaml', policies);
      const list = node.node.enter('nft', ['list', 'table', 'inet', 'tandem_redirect']);
      await waitFor(async () => (await tryRun(...list)).stdout.includes(frontend), {
        what: 'the redirect',
      });
    };
    let asked = 0;
    /** Whether what it sends to the metadata server stays on the node. */
    const isLed = async (from: string): Promise<boolean> => {
      const data = `secret-${asked++}`;
      await using past = await standard.internet.capture({ contains: data });
      const probe = probes.get(from) as Probe;
      // A server answers in any case: without one this throws.
      await probe.tcp({ to: metadata, port: 80, data, want: 1 });
      return (await past.captured()).matched === 0;
    };

    test('the operator leads every pod to its proxy', async () => {
      await write([ofOperator], metadata);
      assert.ok(await isLed('other'));
      assert.ok(await isLed('mine'));
    });

    test('a pod that a policy of its own tenant selects is led there still', async () => {
      await write([ofOperator, ofTenant], shopService);
      assert.ok(await isLed('other'));
      assert.ok(await isLed('mine'));
    });

    test('the proxy itself reaches what it stands for', async () => {
      assert.ok(!(await isLed('proxy')));
    });
  });
}
