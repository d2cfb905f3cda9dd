// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The redirect and `judge` together with kube-proxy's own rules, in both of its forms: whatever server a
 * pod asks and however that is reached, its names are judged, the reply comes from whom it asked, and
 * the address is reachable at once. Pods without DNS rules ask as if we were not there.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { askDns } from '@tandem/testing/dns-query';
import type { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { oddPort, type RedirectNode, startRedirectNode } from '../kit/redirect-node.ts';

const families = ['ipv4', 'ipv6'] as const;
const transports = ['udp', 'tcp'] as const;
const judgedServers = ['clusterIp', 'bridgePod', 'ptpPod', 'otherPort', 'external'] as const;
let nextNumber = 1;

interface Path {
  readonly server: string;
  readonly transport: 'udp' | 'tcp';
}

/** An allowed name is answered and reachable, a denied one refused and sent to no server. */
async function checkJudged(node: RedirectNode, client: Probe, path: Path): Promise<void> {
  const type = path.server.includes(':') ? 'AAAA' : 'A';
  const allowed = await askDns(client, { ...path, type, name: `n-${nextNumber++}.allowed.test` });
  assert.equal(allowed.rcode, 'NOERROR');
  assert.equal(allowed.from, path.server, 'the reply comes from the server that was asked');
  const [to] = allowed.addresses;
  assert.ok(to !== undefined);
  const stream = await client.tcp({ to, port: 80, data: 'x', want: 1 });
  assert.equal(stream.retransmits, 0, 'the first SYN passed');
  const name = `n-${nextNumber++}.denied.test`;
  const denied = await askDns(client, { ...path, name });
  assert.equal(denied.rcode, 'REFUSED');
  assert.deepEqual(await node.seen(name), [], 'no server saw the denied name');
}

/** The last packets of connections that a test before has closed are steered too: waits for their end. */
async function steeredSoFar(node: RedirectNode): Promise<number | undefined> {
  let last = node.tandem.counters()['redirected'];
  await waitFor(
    async () => {
      await delay(20);
      const now = node.tandem.counters()['redirected'];
      const isQuiet = now === last;
      last = now;
      return isQuiet;
    },
    { what: 'the packets of earlier tests to end' },
  );
  return last;
}

/** The pod itself asks the server: any name, from its own address. */
async function checkUntouched(
  node: RedirectNode,
  client: Probe,
  source: string | null,
  path: Path,
): Promise<void> {
  const steered = await steeredSoFar(node);
  const name = `n-${nextNumber++}.denied.test`;
  const reply = await askDns(client, { ...path, name });
  assert.equal(reply.rcode, 'NOERROR');
  const [query, ...others] = await node.seen(name);
  assert.equal(query?.from, source, 'the server sees the pod');
  assert.equal(others.length, 0);
  assert.equal(node.tandem.counters()['redirected'], steered, 'nothing was steered');
}

for (const kubeProxy of ['iptables', 'nftables'] as const) {
  describe(`kube-proxy in ${kubeProxy} form`, () => {
    let node: RedirectNode;
    before(async () => {
      node = await startRedirectNode(kubeProxy);
    });
    after(() => node[Symbol.asyncDispose]());

    for (const client of ['ptp', 'bridge'] as const) {
      for (const server of judgedServers) {
        test(`${client} client to ${server}: names are judged`, async () => {
          for (const family of families) {
            for (const transport of transports) {
              const path = { server: node.servers[server][family], transport };
              await checkJudged(node, node.clients[client], path);
            }
          }
        });
      }
    }

    test('a pod without policy and one with plain port rules ask the server themselves', async () => {
      for (const family of families) {
        for (const transport of transports) {
          for (const server of ['clusterIp', 'bridgePod'] as const) {
            for (const name of ['free', 'plain'] as const) {
              const path = { server: node.servers[server][family], transport };
              await checkUntouched(node, node.clients[name], node.node.pod(name)[family], path);
            }
          }
        }
      }
      const denied = { server: node.servers.ptpPod.ipv4, name: 'n-1.allowed.test', timeoutMs: 300 };
      await assert.rejects(askDns(node.clients.plain, denied), /ETIMEDOUT/, 'another server');
    });

    test('a server that no rule names is not reachable', async () => {
      for (const server of ['203.0.113.54', '2001:db8:53::54']) {
        for (const transport of transports) {
          const question = { server, transport, name: 'n-1.allowed.test', timeoutMs: 300 };
          await assert.rejects(askDns(node.clients.ptp, question), /ETIMEDOUT/);
        }
      }
    });

    test('DNS on a frontend port other than 53 is dropped as not redirected', async () => {
      const dropped = node.tandem.counters()['drop_not_redirected'] ?? 0;
      for (const family of families) {
        for (const transport of transports) {
          const name = `n-${nextNumber++}.allowed.test`;
          const server = node.servers.oddFrontend[family];
          const question = { server, transport, port: oddPort, name, timeoutMs: 300 };
          await assert.rejects(askDns(node.clients.ptp, question), /ETIMEDOUT/);
          assert.deepEqual(await node.seen(name), []);
          const free = await askDns(node.clients.free, question);
          assert.equal(free.rcode, 'NOERROR', 'the Service works for those without policy');
        }
      }
      assert.ok((node.tandem.counters()['drop_not_redirected'] ?? 0) >= dropped + 4);
      const said = node.tandem.process('agent').stderr();
      assert.match(said, /dns-frontend-port[^\n]*odd-frontend|odd-frontend[^\n]*dns-frontend-port/);
    });

    test('steered whatever the reverse path filter and src_valid_mark say', async () => {
      for (const srcValidMark of [0, 1]) {
        for (const reversePathFilter of [0, 1, 2]) {
          await node.node.node.sysctl({
            'net.ipv4.conf.all.rp_filter': reversePathFilter,
            'net.ipv4.conf.all.src_valid_mark': srcValidMark,
          });
          for (const client of ['ptp', 'bridge'] as const) {
            for (const transport of transports) {
              const path = { server: node.servers.clusterIp.ipv4, transport };
              await checkJudged(node, node.clients[client], path);
            }
          }
        }
      }
    });
  });
}
