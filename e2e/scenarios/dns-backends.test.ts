// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A DNS server's Service gets other backends while nothing else changes: both members have to know, because
 * their lasting sockets to the ClusterIP stay on the backend that conntrack gave them.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { formatAddress } from '@tandem/core/net/ip';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';
import { namespaceObject, nodeObjects, serviceObjects } from '../kit/objects.ts';
import { clusterDns4, startStandardNode } from '../kit/standard-node.ts';

const standard = await startStandardNode({
  pods: [{ name: 'dns2' }],
  podObjects: { dns2: { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } } },
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem, services } = standard;

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

/** The cluster's objects again, with the backends in these pods. */
function writeBackends(...pods: readonly string[]): void {
  const moved = services.map((service) => ({
    ...service,
    backends: pods.map((name) => {
      const { ipv4, ipv6 } = node.pod(name);
      const address = service.clusterIp.includes(':') ? ipv6 : ipv4;
      return { address: address ?? '', port: 53 };
    }),
  }));
  tandem.write('cluster.yaml', [
    ...['default', 'kube-system'].map(namespaceObject),
    ...nodeObjects(),
    ...serviceObjects('kube-dns', 'kube-system', moved),
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
    assert.ok(performance.now() - start < 2000, `${performance.now() - start} ms`);
    assert.notEqual(await digestOf(clusterDns4), last);
  }
  assert.equal(await digestOf(clusterDns4), before, 'the same backends, the same digest');
});
