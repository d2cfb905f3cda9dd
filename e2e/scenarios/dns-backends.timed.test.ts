// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A DNS server's Service gets other backends while nothing else changes: both members have to know, because
 * their lasting sockets to the ClusterIP, and connections that are kept, stay on the backend that conntrack gave them.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { formatAddress } from '@tandem/core/net/ip';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import { tryRun } from '@tandem/testing/process';
import { patience, waitFor } from '@tandem/testing/wait';
import { namespaceObject, nodeObjects, podObject, serviceObjects } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';
import { lookUpAll, namesOf, pipelined, rcodesById } from '../kit/tcp-questions.ts';

const standard = await startStandardNode({
  pods: [{ name: 'dns2' }],
  podObjects: { dns2: { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } } },
});
after(() => standard[Symbol.asyncDispose]());
const { client, node, tandem, services } = standard;

/** The server's backend digest in the snapshot file, which has the policy that the agent sends to both members. */
async function digestOf(server: string): Promise<number | undefined> {
  const file = await readSnapshotFile(`${tandem.stateDirectory}/policy.snapshot`);
  assert.ok(file.ok);
  const snapshot = decodePolicySnapshot(file.value);
  assert.ok(snapshot.ok);
  const found = snapshot.value.backendDigests.find(
    (each) => formatAddress(each.address) === server,
  );
  return found?.digest;
}

/** The cluster's DNS with the backends in these pods. */
function servedBy(...pods: readonly string[]): ServiceSpec[] {
  return services.map((service) => ({
    ...service,
    backends: pods.map((name) => {
      const { ipv4, ipv6 } = node.pod(name);
      const address = service.clusterIp.includes(':') ? ipv6 : ipv4;
      return { address: address ?? '', port: 53 };
    }),
  }));
}

/** The cluster's objects again, with the backends in these pods. */
function writeBackends(...pods: readonly string[]): void {
  const moved = servedBy(...pods);
  tandem.write('cluster.yaml', [
    ...['default', 'kube-system'].map(namespaceObject),
    ...nodeObjects(),
    ...serviceObjects('kube-dns', 'kube-system', moved, { 'k8s-app': 'kube-dns' }),
  ]);
}

test('a change of backends alone is a revision of both members within two seconds', async () => {
  const before = await digestOf(clusterDns4);
  assert.ok(before !== undefined && before !== 0);
  for (const pods of [['dns', 'dns2'], ['dns2'], ['dns']]) {
    const revision = tandem.appliedRevision();
    const last = await digestOf(clusterDns4);
    const start = performance.now();
    writeBackends(...pods);
    await tandem.waitForRevision(revision);
    assert.ok(performance.now() - start < 2000 * patience, `${performance.now() - start} ms`);
    assert.notEqual(await digestOf(clusterDns4), last);
  }
  assert.equal(await digestOf(clusterDns4), before, 'the same backends, the same digest');
});

test('over TCP nothing more is asked of a backend that is gone without a word', async () => {
  const { namespace, ipv4, ipv6 } = node.pod('dns2');
  node.own(
    await DnsServer.start(namespace, { addresses: [ipv4 ?? '', ipv6 ?? ''], rules: standardRules }),
  );
  // More than both members keep connections for; one stays open.
  const lookups = {
    ...{ server: clusterDns4, names: namesOf('allowed.test', 40) },
    timeoutMs: 2000,
  };
  assert.deepEqual(await lookUpAll(client, lookups), { NOERROR: 40 });
  const data = pipelined(clusterDns4, namesOf('allowed.test', 1));
  const open = await client.connect({ to: clusterDns4, port: 53, data, messages: 1 });
  const revision = tandem.appliedRevision();
  await node.setServices(servedBy('dns2'));
  await node.pod('dns').namespace.ip(['link set eth0 down']);
  writeBackends('dns2');
  await tandem.waitForRevision(revision);
  assert.deepEqual(await lookUpAll(client, lookups), { NOERROR: 40 });
  const answer = await open.exchange({ data, messages: 1 });
  assert.deepEqual([...rcodesById(answer.data).values()], ['NOERROR']);
});

for (const isTold of [true, false]) {
  const who = isTold ? 'both members' : 'kube-proxy alone';
  test(`over TCP a SYN that waits for a backend that is gone goes elsewhere when ${who} know of another one`, async () => {
    const revision = tandem.appliedRevision();
    await node.setServices(servedBy('dns'));
    await node.pod('dns').namespace.ip(['link set eth0 down']);
    writeBackends('dns');
    await tandem.waitForRevision(revision);
    const [name = ''] = namesOf('allowed.test', 1);
    const asked = askDns(client, { server: clusterDns4, name, transport: 'tcp', timeoutMs: 9000 });
    // Else the test could end before it is awaited.
    asked.catch(() => undefined);
    await waitFor(async () => (await node.node.run('ss', ['-Htn', 'state', 'syn-sent'])) !== '', {
      what: 'the SYN of a member',
    });
    const next = tandem.appliedRevision();
    await node.setServices(servedBy('dns2'));
    if (isTold) writeBackends('dns2');
    assert.equal((await asked).rcode, 'NOERROR');
    if (!isTold) writeBackends('dns2');
    await tandem.waitForRevision(next);
  });
}

async function denialsWithout(...listed: readonly string[]): Promise<void> {
  const revision = tandem.appliedRevision();
  const none = servedBy();
  await node.setServices(none);
  writeBackends(...listed);
  // Nor is there a pod that the DNS rule selects.
  tandem.write('pods.yaml', [podObject(node.pod('client'))]);
  await tandem.waitForRevision(revision);
  // As kube-proxy does when a Service loses its last backend.
  await tryRun(...node.node.enter('conntrack', ['-D', '-p', 'udp', '--dport', '53']));
  for (const server of [clusterDns4, clusterDns6]) {
    for (const transport of ['udp', 'tcp'] as const) {
      for (const [suffix, rcode] of [
        ['denied.test', 'REFUSED'],
        ['allowed.test', 'SERVFAIL'],
      ] as const) {
        const [name = ''] = namesOf(suffix, 1);
        const reply = await askDns(client, { server, transport, name, timeoutMs: 5000 });
        assert.equal(reply.rcode, rcode, `${name} over ${transport} from ${server}`);
      }
    }
  }
}

test('without any backend, denied names are refused, and allowed ones fail at once', () =>
  denialsWithout());

test('the same while endpoints still name a pod that is gone', () => denialsWithout('dns'));
