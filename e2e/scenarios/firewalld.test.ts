// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * firewalld on the node, with its defaults: it rejects what pods send to the node and through it. `tandem doctor` says so, and what
 * it advises lets pods' DNS pass, also after firewalld has read its configuration again. Policy holds all the time.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { degradedOf } from '../kit/admin.ts';
import { canConnect } from '../kit/attack.ts';
import { doctorOf } from '../kit/doctor.ts';
import { Firewalld } from '../kit/firewalld.ts';
import { dnsPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';

const allowed = [{ matchPattern: '*.allowed.test' }];
let standard: StandardNode;
let firewalld: Firewalld;
let bridged: Probe;
let name = 0;

before(async () => {
  standard = await startStandardNode({
    pods: [{ name: 'bridged', kind: 'bridge' }],
    // firewalld flushes all rules of iptables, and a living kube-proxy would write its own again.
    kubeProxy: 'nftables',
    policies: [
      standardPolicy,
      dnsPolicy({ name: 'bridged', selects: { app: 'bridged' }, dns: allowed, fqdns: allowed }),
    ],
    prepare: async (node) => {
      firewalld = node.own(await Firewalld.start(node.node));
    },
  });
  bridged = standard.node.own(Probe.start(standard.node.pod('bridged').namespace));
});
after(() => standard[Symbol.asyncDispose]());

/** Both pods, families and transports: allowed names and their addresses, and neither of a denied one. */
async function assertServed(): Promise<void> {
  for (const pod of [standard.client, bridged]) {
    for (const server of [clusterDns4, clusterDns6]) {
      for (const transport of ['udp', 'tcp'] as const) {
        const question = { server, transport, name: `n-${++name}.allowed.test` };
        const { rcode, addresses } = await askDns(pod, question);
        assert.equal(rcode, 'NOERROR');
        assert.ok(await canConnect(pod, addresses[0] ?? ''));
        const denied = await askDns(pod, { ...question, name: `n-${name}.denied.test` });
        assert.equal(denied.rcode, 'REFUSED');
      }
    }
    assert.ok(!(await canConnect(pod, '198.19.0.1')));
  }
}

test('with its defaults pods get no DNS: doctor names it, with the command', async () => {
  const question = { server: clusterDns4, name: 'n-1.allowed.test', timeoutMs: 500 };
  await assert.rejects(askDns(standard.client, question));
  const { checks } = await doctorOf(standard.tandem);
  for (const check of ['input4', 'input6']) {
    const finding = checks.get(check);
    assert.equal(finding?.status, 'fail', finding?.why);
    assert.match(finding?.fix ?? '', /firewall-cmd --permanent --zone=trusted --add-source=CIDR/);
  }
});

test('its advice lets DNS pass', async () => {
  for (const cidr of ['10.1.0.0/16', 'fd00:1::/32']) {
    await firewalld.command('--permanent', '--zone=trusted', `--add-source=${cidr}`);
  }
  await firewalld.command('--reload');
  await assertServed();
  const { checks } = await doctorOf(standard.tandem);
  for (const check of ['input4', 'input6', 'output4', 'output6']) {
    assert.equal(checks.get(check)?.status, 'pass', checks.get(check)?.why);
  }
  assert.deepEqual([...(await degradedOf(standard.tandem, 'agent'))], []);
});

for (const how of ['--reload', '--complete-reload']) {
  test(`after firewall-cmd ${how} policy holds and names are answered`, async () => {
    await firewalld.command(how);
    await assertServed();
    assert.deepEqual([...(await degradedOf(standard.tandem, 'agent'))], []);
  });
}
