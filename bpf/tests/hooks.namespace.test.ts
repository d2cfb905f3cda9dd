// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The shipped object attached to a node of network namespaces: what a test run cannot give, that is
 * conntrack, the mark's way from from_pod to judge, incoming interfaces, VLAN tags and frames of
 * PACKET_TX_RING.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createNode, type Pod, type TestNode } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { buildIp, buildPacket } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import type { HookPlan, HookRequest } from './hook-process.ts';

const selector = 0x80000001;
const web4 = '203.0.113.10';
const web6 = '2001:db8::10';
const named4 = '198.51.100.7';
const dns4 = '203.0.113.53';
const script = fileURLToPath(new URL('./hook-process.ts', import.meta.url));

let node: TestNode;
let podA: Pod;
let podB: Pod;
let podC: Pod;
let probeA: Probe;
let probeC: Probe;
let upstream: Probe;
let child: ReturnType<typeof spawn>;
let lines: AsyncIterableIterator<string>;

async function ask(request: HookRequest): Promise<unknown> {
  child.stdin?.write(`${JSON.stringify(request)}\n`);
  return JSON.parse((await lines.next()).value as string);
}

async function counters(): Promise<Record<string, number>> {
  return (await ask({ kind: 'counters' })) as Record<string, number>;
}

/** Waits until `counter` has moved since `earlier`. */
async function moved(counter: string, earlier: Record<string, number>): Promise<void> {
  await waitFor(async () => ((await counters())[counter] ?? 0) > (earlier[counter] ?? 0), {
    what: counter,
  });
}

before(async () => {
  node = await createNode({
    name: 'hooks',
    pods: [{ name: 'a' }, { name: 'b' }, { name: 'c', kind: 'bridge' }],
  });
  podA = node.pod('a');
  podB = node.pod('b');
  podC = node.pod('c');
  const hookPlan: HookPlan = {
    endpoints: [
      {
        addresses: addressesOf(podA),
        id: 1,
        policyId: 1,
        classId: 51,
        ifindex: podA.hostIfindex,
        flags: ['ENFORCE_EGRESS', 'FQDN', 'DNS'],
      },
      { addresses: addressesOf(podB), id: 2, policyId: 2, classId: 52, ifindex: podB.hostIfindex },
      // Written while the bridge had another address.
      {
        addresses: addressesOf(podC),
        id: 3,
        policyId: 1,
        classId: 53,
        ifindex: podC.hostIfindex,
        l3Ifindex: await node.ifindex(plan.bridge),
        macText: podC.mac,
        flags: ['BRIDGED', 'ENFORCE_EGRESS', 'DNS'],
      },
    ],
    classes: [
      ['10.1.0.0', 24, 20, ['CLUSTER', 'LOCAL_PODS']],
      ['fd00:1::', 64, 20, ['CLUSTER', 'LOCAL_PODS']],
      ['203.0.113.0', 24, 40, []],
      ['2001:db8::', 32, 40, []],
    ],
    policies: [
      { peer: 40, direction: 'egress', verdict: 'ALLOW', protocol: 6, port: 80 },
      { peer: 40, direction: 'egress', verdict: 'ALLOW', protocol: 17, port: 80 },
      { peer: selector, direction: 'egress', verdict: 'ALLOW', protocol: 17, port: 80 },
    ],
    dnsServers: [dns4],
    trusted: [await node.ifindex(plan.upstreamUplink)],
    bridges: [plan.bridge],
  };
  const [command, args] = node.node.enter(process.execPath, [
    '--conditions=@tandem/source',
    script,
    JSON.stringify(hookPlan),
  ]);
  child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  assert.ok(child.stdout !== null);
  lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, '"ready"');
  probeA = node.own(Probe.start(podA.namespace));
  probeC = node.own(Probe.start(podC.namespace));
  upstream = node.own(Probe.start(node.upstream));
  for (const address of ['0.0.0.0', '::']) {
    for (const port of [80, 81]) await upstream.listen({ protocol: 'tcp', address, port });
    await upstream.listen({ protocol: 'udp', address, port: 80 });
  }
});

after(async () => {
  child.stdin?.end();
  await once(child, 'exit');
  await node[Symbol.asyncDispose]();
});

function addressesOf(pod: Pod): string[] {
  return [pod.ipv4, pod.ipv6].filter((address) => address !== null);
}

function frameFromA(
  spec: Omit<PacketSpec, 'ethernet'>,
  ethernet: PacketSpec['ethernet'] = {},
): Uint8Array {
  return buildPacket({
    ...spec,
    ethernet: { source: podA.mac, destination: podA.gatewayMac, ...ethernet },
  });
}

const udpTo = (
  source: string | null,
  destination: string,
  destinationPort: number,
): Omit<PacketSpec, 'ethernet'> => ({
  ip: { source: source ?? '', destination },
  udp: { sourcePort: 4000, destinationPort },
  payload: 'tandem'.repeat(8),
});

describe('connections', () => {
  test('an allowed one passes both ways, IPv4 and IPv6; another port does not', async () => {
    for (const to of [web4, web6]) {
      const result = await probeA.tcp({ to, port: 80, data: 'x', want: 1 });
      assert.ok(result.data.length > 0, to);
      const earlier = await counters();
      await assert.rejects(probeA.tcp({ to, port: 81, timeoutMs: 300 }));
      await moved('DROP_NO_MATCH', earlier);
    }
  });

  test('a name that expires: the open flow lives, a new one does not (rule 15)', async () => {
    const uptime = Number(process.hrtime.bigint() / 1_000_000_000n);
    const request = { op: 'ADD', address: named4, selector } as const;
    assert.deepEqual(
      await ask({ kind: 'learn', requests: [{ ...request, expires: uptime + 2 }] }),
      ['OK'],
    );
    const flow = await probeA.associate({ to: named4, port: 80, data: 'x', want: 1 });
    await waitFor(() => Number(process.hrtime.bigint() / 1_000_000_000n) > uptime + 2, {
      what: 'the expiry',
    });
    const earlier = await counters();
    await assert.rejects(async () => {
      const got = await probeA.udp({ to: named4, port: 80, data: 'x', timeoutMs: 300 });
      assert.ok(got.replies.length > 0);
    });
    await moved('DROP_FQDN_EXPIRED', earlier);
    assert.ok((await flow.exchange({ data: 'y', want: 1 })).data.length > 0, 'the open flow');
    await flow[Symbol.asyncDispose]();
  });
});

test('DNS of a bridged pod goes up to a bridge whose address has changed since its endpoint was written', async () => {
  const query = buildPacket({
    ...udpTo(podC.ipv4, dns4, 53),
    ethernet: { source: podC.mac, destination: podC.gatewayMac },
  });
  // Else a frame for an address that the bridge does not know goes back to the pod, and is judged on the way.
  await node.node.ip(['link set pod-c type bridge_slave hairpin off']);
  await ask({ kind: 'member', state: 'LIVE' });
  const earlier = await counters();
  await probeC.frame(query);
  await moved('REDIRECTED', earlier);
  // Routed, and no rule brings the mark to the local table here.
  await moved('DROP_NOT_REDIRECTED', earlier);
  await ask({ kind: 'member', state: 'DEAD' });
});

describe('attacks', () => {
  test("another pod's source (rule 3)", async () => {
    const earlier = await counters();
    await probeA.frame(frameFromA(udpTo(podB.ipv4, web4, 80)));
    await moved('DROP_SPOOFED', earlier);
  });

  test("a pod's source from the uplink (rule 3)", async () => {
    const earlier = await counters();
    await upstream.raw(podB.ipv4 ?? '', buildIp(udpTo(podA.ipv4, podB.ipv4 ?? '', 80)));
    await moved('DROP_UNVERIFIED', earlier);
  });

  test('a VLAN-0 tag (rule 2)', async () => {
    const earlier = await counters();
    await probeA.frame(frameFromA(udpTo(podA.ipv4, web4, 80), { vlans: [{ id: 0 }] }));
    await moved('DROP_VLAN', earlier);
  });

  test('14 linear bytes: DNS is seen all the same (rule 1)', async () => {
    const query = frameFromA(udpTo(podA.ipv4, dns4, 53));
    const earlier = await counters();
    await probeA.ring(query);
    await moved('DROP_NO_MEMBER', earlier);
    await ask({ kind: 'member', state: 'LIVE' });
    const withMember = await counters();
    await probeA.ring(query);
    await moved('REDIRECTED', withMember);
    // no rule brings the mark to the local table here: what is steered and not delivered is dropped
    await moved('DROP_NOT_REDIRECTED', withMember);
  });

  test('14 linear bytes: an allowed packet passes', async () => {
    const earlier = await counters();
    await probeA.ring(frameFromA(udpTo(podA.ipv4, web4, 80)));
    await moved('FORWARDED', earlier);
  });
});
