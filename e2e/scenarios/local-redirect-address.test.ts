// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A CiliumLocalRedirectPolicy leads an address that no Service has to a cache, and a DNS rule names the cache. When the cache is
 * gone, queries of pods under the rule do not go to whom the address belongs elsewhere; when it is back, it is asked at once.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { ProbeError } from '@tandem/testing/probe-process';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { learnedAddresses } from '../kit/learned.ts';
import { dnsPolicy, redirectPolicy } from '../kit/objects.ts';
import { standardRules, startStandardNode } from '../kit/standard-node.ts';

/** In the internet of the test, where a server has it that no rule names. */
const address = '203.0.113.53';
const pattern = [{ matchPattern: '*.allowed.test' }];
const cacheLabels = { 'k8s-app': 'node-local-dns' };
const dnsPeers = {
  toEndpoints: [
    {
      matchLabels: {
        'k8s:io.kubernetes.pod.namespace': 'kube-system',
        'k8s:k8s-app': 'node-local-dns',
      },
    },
  ],
};
const toPorts = [
  { port: '53', name: 'dns', protocol: 'UDP' },
  { port: '53', name: 'dns-tcp', protocol: 'TCP' },
];
const transports = ['udp', 'tcp'] as const;

const standard = await startStandardNode({
  pods: [{ name: 'cache' }],
  podObjects: { cache: { namespace: 'kube-system', labels: cacheLabels, isReady: true } },
  policies: [
    dnsPolicy({ selects: { app: 'client' }, dns: pattern, fqdns: pattern, dnsPeers }),
    redirectPolicy({ frontend: { addressMatcher: { ip: address, toPorts } } }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem, client } = standard;
const stranger = node.own(
  await DnsServer.start(node.upstream, { addresses: [address], rules: standardRules }),
);

const startCache = async (): Promise<DnsServer> => {
  const { namespace, ipv4, ipv6 } = node.pod('cache');
  const addresses = [ipv4, ipv6].filter((each) => each !== null);
  return node.own(await DnsServer.start(namespace, { addresses, rules: standardRules }));
};

let next = 1;
/** RCODE of a new name, or why there is none. */
async function ask(transport: 'udp' | 'tcp'): Promise<string> {
  const name = `n-${next++}.allowed.test`;
  try {
    return (await askDns(client, { server: address, transport, name, timeoutMs: 5000 })).rcode;
  } catch (error) {
    if (error instanceof ProbeError) return error.code;
    throw error;
  }
}

test('a cache that is killed is asked again as soon as it is back, and a stranger at its address never', async () => {
  const cache = await startCache();
  const shown = (): Promise<{ stdout: string }> =>
    tryRun(...node.node.enter('nft', ['list', 'table', 'inet', 'tandem_redirect']));
  await waitFor(async () => (await shown()).stdout.includes('dnat'), { what: 'the redirect' });
  for (const transport of transports) assert.equal(await ask(transport), 'NOERROR');
  const learned = learnedAddresses(tandem).size;
  await cache[Symbol.asyncDispose]();
  for (const transport of [...transports, ...transports]) {
    assert.notEqual(await ask(transport), 'NOERROR', transport);
  }
  assert.equal((await stranger.totals()).total, 0);
  assert.equal(learnedAddresses(tandem).size, learned);
  const back = await startCache();
  for (const transport of transports) assert.equal(await ask(transport), 'NOERROR');
  assert.deepEqual([(await back.totals()).total, (await stranger.totals()).total], [2, 0]);
});
