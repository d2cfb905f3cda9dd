// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod sends whatever a grammar of frames gives, in the names of everybody: nothing arrives anywhere that its own
 * policy and address do not allow, its neighbours lose nothing, and no neighbour table or forwarding table takes it
 * for somebody else. Point to point and behind a bridge, known to the datapath and not, with the agent alive and
 * dead. The seed is printed; TANDEM_ATTACK_SEED repeats it, with the same TANDEM_ATTACK_FRAMES if any were given.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { Pod } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket, concatBytes } from '@tandem/testing/packet';
import type { IpSpec } from '@tandem/testing/packet-spec';
import { Probe, type Sightings } from '@tandem/testing/probe';
import { Random } from '../chaos/random.ts';
import { arpClaims, droppedArp } from '../kit/arp-claims.ts';
import { addressOf, assertDropped, frameOf, uplinkMacs } from '../kit/attack.ts';
import { type Cast, FrameGrammar, token } from '../kit/frame-grammar.ts';
import {
  describeFrame,
  headKey,
  mayArrive,
  type Place,
  type Speaker,
  type Stage,
} from '../kit/frame-oracle.ts';
import { falseEntries, linkLocalOf, readTables, trueEntries } from '../kit/neighbour-tables.ts';
import { networkPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';
import { SteadyFlows } from '../kit/steady-flows.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const framesInAll = Number(process.env['TANDEM_ATTACK_FRAMES'] ?? (isFull ? 1_000_000 : 20_000));
const batchFrames = 250;
const seed = Number(process.env['TANDEM_ATTACK_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const friendPort = 9000;
const worldPort = 80;
const world4 = '203.0.113.5';
const world6 = '2001:db8:3::5';

const policyOf = (name: string): object =>
  networkPolicy({
    name,
    selects: { app: name },
    egress: [
      {
        toEndpoints: [{ matchLabels: { app: 'friend' } }],
        toPorts: [{ ports: [{ port: `${friendPort}`, protocol: 'ANY' }] }],
      },
      {
        toCIDR: ['203.0.113.0/24', '2001:db8:3::/48'],
        toPorts: [{ ports: [{ port: `${worldPort}`, protocol: 'ANY' }] }],
      },
    ],
  });
const standard = await startStandardNode({
  clientKind: 'bridge',
  pods: [
    { name: 'friend' },
    { name: 'stranger' },
    { name: 'web', kind: 'bridge' },
    { name: 'aptp' },
    { name: 'abridge', kind: 'bridge' },
  ],
  policies: [standardPolicy, policyOf('aptp'), policyOf('abridge')],
});
after(() => standard[Symbol.asyncDispose]());
const { client, internet, node, tandem } = standard;
const probeOf = (name: string): Probe => node.own(Probe.start(node.pod(name).namespace));
const friend = probeOf('friend');
const web = probeOf('web');
const attackers = { aptp: probeOf('aptp'), abridge: probeOf('abridge') };
const host = node.own(Probe.start(node.node));
const remote = node.own(Probe.start(node.remote));
const friendPod = node.pod('friend');
const friendly = [addressOf(friendPod, '10.'), addressOf(friendPod, 'fd00::')];
for (const address of ['0.0.0.0', '::']) {
  await friend.listen({ protocol: 'tcp', address, port: friendPort, mode: 'echo' });
  await friend.listen({ protocol: 'udp', address, port: friendPort, mode: 'sink' });
}

interface Watched {
  readonly place: Place;
  /** Name of the pod; null: no pod's. */
  readonly pod: string | null;
  readonly sightings: Sightings;
}

const hostProtocols = {
  4: [1, 2, 4, 6, 17, 41, 47, 50, 51, 97, 103, 108, 115, 132, 136, 137],
  6: [4, 6, 17, 41, 47, 50, 58, 97, 103, 108, 115, 132, 136, 137],
} as const;
const watched: Watched[] = [];
const atPods: readonly (readonly [string, Place, Probe])[] = [
  ['friend', 'friend', friend],
  ['stranger', 'stranger', probeOf('stranger')],
  ['dns', 'stranger', probeOf('dns')],
  ['aptp', 'stranger', attackers.aptp],
  ['abridge', 'neighbour', attackers.abridge],
  ['web', 'neighbour', web],
  ['client', 'neighbour', client],
];
for (const [pod, place, probe] of atPods) {
  watched.push({ pod, place, sightings: await probe.sight({ pattern: token }) });
}
for (const family of [4, 6] as const) {
  for (const protocol of hostProtocols[family]) {
    const sightings = await host.sight({ pattern: token, family, protocol });
    watched.push({ pod: null, place: 'node', sightings });
  }
}
watched.push({ pod: null, place: 'remote', sightings: await remote.sight({ pattern: token }) });
watched.push({ pod: null, place: 'world', sightings: await internet.sight({ pattern: token }) });

const wires = [
  await uplinkMacs(node, node.remote, plan.remoteUplink),
  await uplinkMacs(node, node.upstream, plan.upstreamUplink),
];
const podMacs = node.pods.flatMap(({ mac, hostMac }) => [mac, hostMac]);
const macs = [
  ...podMacs,
  ...wires.flatMap(({ source, destination }) => [source, destination]),
  plan.bridgeMac,
  'ff:ff:ff:ff:ff:ff',
  '01:00:5e:00:00:01',
  '01:00:5e:00:00:fb',
  '33:33:00:00:00:01',
  '33:33:ff:00:00:11',
  '01:80:c2:00:00:00',
  '01:80:c2:00:00:0e',
  '00:00:00:00:00:00',
  '02:11:22:33:44:55',
];
const linkLocals = [...podMacs, plan.bridgeMac].map(linkLocalOf);
const ofPods = (family: string): string[] => node.pods.map((pod) => addressOf(pod, family));
const ipv4 = [
  ...ofPods('10.'),
  ...[plan.ptpGateway4, plan.bridgeGateway4, plan.node4, plan.nodeUpstream4],
  ...[plan.remoteNode4, plan.remotePod4, plan.upstream4, world4, '198.18.0.9', clusterDns4],
  ...['10.1.0.250', '10.1.2.250', '10.1.2.255', '10.1.2.0', '255.255.255.255', '224.0.0.1'],
  ...['224.0.0.22', '224.0.0.251', '239.1.1.1', '127.0.0.1', '0.0.0.0', '169.254.169.254'],
];
const ipv6 = [
  ...ofPods('fd00::'),
  ...[plan.ptpGateway6, plan.bridgeGateway6, plan.node6, plan.nodeUpstream6],
  ...[plan.remoteNode6, plan.remotePod6, plan.upstream6, world6, '2001:db8:1::9', clusterDns6],
  ...[
    'fd00:1::250',
    'fd00:1:2::250',
    '::',
    '::1',
    'fe80::bad',
    '::ffff:10.1.0.11',
    '64:ff9b::a01:b',
  ],
  ...['2002:a01:b::1', 'ff02::1', 'ff02::2', 'ff02::16', 'ff02::fb', 'ff02::1:ff00:11', 'ff05::1'],
  ...linkLocals,
];

/** Taken before the attackers that come and go. */
const truth: ReadonlyMap<string, string> = trueEntries(
  node,
  [
    [plan.remoteUplink, wires[0]?.source ?? '', [plan.remoteNode4, plan.remoteNode6]],
    [plan.upstreamUplink, wires[1]?.source ?? '', [plan.upstream4, plan.upstream6]],
  ],
  Object.keys(attackers),
);

/** On its uplinks the node forwards packets of other addresses. */
const isBeyondUplink = new RegExp(`^(${node.remote.name}|${node.upstream.name}) `);
const uplinkOwn = wires.map(({ destination }) => destination);

interface Attack {
  readonly pod: Pod;
  readonly probe: Probe;
  readonly isKnown: boolean;
}

let nextNumber = 1;
let ghosts = 200;

/** Whether the node's ICMP errors and redirects about such packets of a pod of that kind go there. */
function isTold(
  {
    source,
    destination,
    kind,
  }: { readonly source: string; readonly destination: string; readonly kind: Pod['kind'] },
  place: Place,
  name: string | null,
): boolean {
  if (name !== null) return addressesOfPod(node.pod(name)).includes(source);
  if (place === 'remote') return ofRemote.includes(source) || isRouteToRemote.test(source);
  // What the node cannot tell a pod that is gone it tells itself, also about what was not for it.
  if (place === 'node') return ofNode.includes(source) || !isForNode(destination, kind);
  const others = [...ofNode, ...ofRemote, ...node.pods.flatMap(addressesOfPod)];
  return place === 'world' && !others.includes(source);
}

/** Whether it is for the node. A pod's link has one of the node's link-local addresses; those of other links are nobody's there. */
const isForNode = (destination: string, kind: Pod['kind']): boolean =>
  (ofNode.includes(destination) && !destination.startsWith('fe80::')) ||
  destination === (kind === 'ptp' ? plan.ptpGateway6 : linkLocalOf(plan.bridgeMac)) ||
  /^(22[4-9]|23|255|ff)|\.255$|\.0$/.test(destination);

const addressesOfPod = (pod: Pod): string[] => [
  addressOf(pod, '10.'),
  addressOf(pod, 'fd00::'),
  linkLocalOf(pod.mac),
];
const ofRemote: readonly string[] = [
  ...[plan.remoteNode4, plan.remoteNode6, plan.remotePod4, plan.remotePod6],
];
/** A flipped bit makes other addresses, which the node routes there all the same: its pods' prefixes, its link. */
const isRouteToRemote = /^(10\.1\.1\.|192\.168\.50\.|fd00:1:1:(:|0:)|fd00:50:(:|0:))/;
const ofNode: readonly string[] = [
  ...[plan.ptpGateway4, plan.bridgeGateway4, plan.node4, plan.nodeUpstream4, '127.0.0.1'],
  ...[plan.ptpGateway6, plan.bridgeGateway6, plan.node6, plan.nodeUpstream6, '::1'],
  ...[plan.bridgeMac, ...node.pods.map(({ hostMac }) => hostMac)].map(linkLocalOf),
];

/** Sends and checks so many frames; gives how many arrived where they may. */
async function attack({ pod, probe, isKnown }: Attack, count: number): Promise<Map<Place, number>> {
  const own = { mac: pod.mac, ipv4: addressOf(pod, '10.'), ipv6: addressOf(pod, 'fd00::') };
  const speaker: Speaker = { kind: pod.kind, isKnown, ...own };
  const cast: Cast = {
    ...{ macs, ipv4, ipv6, own, gatewayMac: pod.gatewayMac },
    allowed4: [friendly[0] as string, world4],
    allowed6: [friendly[1] as string, world6],
  };
  const grammar = new FrameGrammar(new Random(seed, `${pod.name} ${nextNumber}`), cast);
  const arrived = new Map<Place, number>();
  const before = await readTables(node);
  for (const { sightings } of watched) await sightings.seen();
  for (let sent = 0; sent < count; sent += batchFrames) {
    const frames: Uint8Array[] = [];
    while (frames.length < batchFrames) {
      const number = nextNumber++;
      frames.push(remember(number, grammar.frame(number), speaker, pod.name));
    }
    const missing = new Set<number>();
    for (const destination of isKnown ? friendly : []) {
      const number = nextNumber++;
      frames.push(remember(number, plainFrame(pod, destination, number), speaker, pod.name));
      missing.add(number);
    }
    await probe.frames(frames);
    for (const { place, pod: name, sightings } of watched) {
      for (const number of await sightings.seen()) {
        if (place === 'friend') missing.delete(number);
        const fault = faultOf(number, place, name);
        assert.equal(fault, null, `seed ${seed}`);
        if (name !== pod.name) arrived.set(place, (arrived.get(place) ?? 0) + 1);
      }
    }
    assert.equal(missing.size, 0, `seed ${seed}: what is allowed does not arrive any more`);
  }
  // Of itself a pod may say what it likes: in its own tables, and in the node's of a link that it has alone. What an earlier attack
  // made there ends whenever the kernel asks again.
  const liars = [pod, ...Object.keys(attackers).map((name) => node.pod(name))];
  const free = liars.flatMap(({ namespace, kind, hostInterface }) => [
    `${namespace.name} `,
    ...(kind === 'ptp' ? [`${node.node.name} ${hostInterface} `] : []),
  ]);
  // Behind a bridge a stranger may, at its own port, have any Ethernet address that is nobody's, and neighbours at that port (frames
  // to groups that bridges keep to themselves); a known pod itself there, and a link-local address that is nobody's.
  const isStranger = !isKnown && pod.kind === 'bridge';
  const atPort = `${node.node.name} ${pod.hostInterface} `;
  const isFree = (name: string, value: string): boolean =>
    free.some((start) => name.startsWith(start)) ||
    (isBeyondUplink.test(name) && uplinkOwn.includes(value)) ||
    (isStranger && name.startsWith('fdb ') && value === pod.hostInterface) ||
    (isStranger && name.startsWith(atPort)) ||
    (isKnown && value === pod.mac && [atPort + own.ipv4, atPort + own.ipv6].includes(name)) ||
    (name.startsWith(`${node.node.name} ${plan.bridge} fe80:`) &&
      value === node.pod('abridge').mac);
  assert.deepEqual(falseEntries(truth, before, await readTables(node), isFree), [], `seed ${seed}`);
  return arrived;
}

/** Frame that it may send, in the plainest form. */
function plainFrame(pod: Pod, destination: string, number: number): Uint8Array {
  return buildPacket({
    ethernet: { source: pod.mac, destination: pod.gatewayMac },
    ip: { source: addressOf(pod, destination), destination },
    udp: { sourcePort: 4000, destinationPort: friendPort },
    payload: concatBytes([token, Buffer.from(number.toString(16).padStart(8, '0'), 'hex')]),
  });
}

interface Sent {
  readonly atMs: number;
  readonly frame: Uint8Array;
  readonly speaker: Speaker;
  readonly podName: string;
}

/**
 * Frames that were sent not long ago: some of it waits for a neighbour or for other pieces before it arrives, or is told of by
 * an error. Pieces wait for others for a minute (net.ipv6.ip6frag_time).
 */
const sentFrames = new Map<number, Sent>();
const keptMs = 120_000;
const heads = new Set<string>();

function remember(
  number: number,
  frame: Uint8Array,
  speaker: Speaker,
  podName: string,
): Uint8Array {
  const atMs = performance.now();
  sentFrames.set(number, { atMs, frame, speaker, podName });
  for (const [oldest, sent] of sentFrames) {
    if (atMs - sent.atMs < keptMs) break;
    sentFrames.delete(oldest);
  }
  for (const end of ['friend', 'world'] as const) {
    const key = headKey(frame, speaker, stageOf(speaker, end, null), end);
    if (key !== null) heads.add(key);
  }
  return frame;
}

function stageOf({ mac, kind }: Speaker, place: Place, name: string | null): Stage {
  return {
    friend: friendly,
    world: [world4, world6],
    heads,
    othersLinkLocal: linkLocals.filter((address) => address !== linkLocalOf(mac)),
    isTold: (source, destination) => isTold({ source, destination, kind }, place, name),
  };
}

/** Why the frame may not have arrived there; null: it may. */
function faultOf(number: number, place: Place, name: string | null): string | null {
  const sent = sentFrames.get(number);
  if (sent === undefined) return `frame ${number} of long ago at ${name ?? place}`;
  const { frame, speaker, podName } = sent;
  if (podName === name) return null;
  if (mayArrive(frame, speaker, stageOf(speaker, place, name), place)) return null;
  return `at ${name ?? place} from ${podName}: ${describeFrame(frame)}`;
}

test('no device writes a checksum over the ports that were judged', async () => {
  const pod = node.pod('aptp');
  for (const [destination, start] of [
    [world4, 34],
    [world6, 54],
  ] as const) {
    await using atWorld = await internet.capture({ contains: 'over the ports' });
    const frame = frameOf(pod, {
      ip: { source: addressOf(pod, destination), destination },
      udp: { sourcePort: 4000, destinationPort: worldPort },
      payload: 'over the ports',
    });
    const send = (): Promise<void> => attackers.aptp.partial(frame, { start, offset: 2 });
    await assertDropped({ tandem, reason: 'drop_parse', at: atWorld, send });
    await attackers.aptp.partial(frame, { start, offset: 6 });
    await atWorld.captured({ count: 1 });
  }
});

test('no device writes a checksum over an address that ARP claims', async () => {
  const pod = node.pod('abridge');
  await using atNeighbour = await web.capture({ contains: 'over the claim' });
  const request = frameOf(pod, {
    ethernet: { destination: 'ff:ff:ff:ff:ff:ff' },
    arp: {
      operation: 'request',
      senderMac: pod.mac,
      senderAddress: addressOf(pod, '10.'),
      targetAddress: plan.bridgeGateway4,
    },
  });
  const frame = concatBytes([request, Buffer.from('over the claim')]);
  const send = (): Promise<void> => attackers.abridge.partial(frame, { start: 20, offset: 10 });
  await assertDropped({ tandem, reason: 'drop_parse', at: atNeighbour, send });
  await attackers.abridge.frame(frame);
  await atNeighbour.captured({ count: 1 });
});

test('a piece is delivered with its head, whatever protocol it names in IPv6; without it not', async () => {
  const pod = node.pod('abridge');
  const own = { mac: pod.mac, ipv4: addressOf(pod, '10.'), ipv6: addressOf(pod, 'fd00::') };
  const speaker: Speaker = { kind: pod.kind, isKnown: true, ...own };
  const marked = (number: number): Uint8Array =>
    concatBytes([token, Buffer.from(number.toString(16).padStart(8, '0'), 'hex')]);
  for (const [destination, protocol, isDelivered] of [
    [friendly[0], 17, true],
    [friendly[0], 4, false],
    [friendly[1], 17, true],
    [friendly[1], 4, true],
  ] as const) {
    assert.ok(destination !== undefined);
    const addresses = { source: addressOf(pod, destination), destination };
    const [head, tail, alone] = [nextNumber++, nextNumber++, nextNumber++];
    const whole = buildPacket({
      ethernet: null,
      ip: addresses,
      udp: { sourcePort: 4000, destinationPort: friendPort },
      payload: concatBytes([marked(head), marked(tail)]),
    });
    const datagram = whole.subarray(-24);
    const piece = (offset: number, id: number, of: number, payload: Uint8Array): Uint8Array => {
      const fragment = { offset, more: offset === 0, id };
      const isIpv4 = destination === friendly[0];
      const pieces: Partial<IpSpec> = isIpv4
        ? { fragment }
        : { extensions: [{ kind: 'fragment', ...fragment }] };
      return frameOf(pod, { ip: { ...addresses, ...pieces, protocol: of }, payload });
    };
    const frames = [
      [head, piece(0, head, 17, datagram.subarray(0, 16))],
      [tail, piece(16, head, protocol, datagram.subarray(16))],
      [alone, piece(16, alone, protocol, marked(alone))],
    ] as const;
    for (const [number, frame] of frames) remember(number, frame, speaker, pod.name);
    const what = `${destination} protocol ${protocol}`;
    assert.equal(faultOf(head, 'friend', 'friend'), null, what);
    assert.equal(faultOf(tail, 'friend', 'friend') === null, isDelivered, what);
    assert.notEqual(faultOf(alone, 'friend', 'friend'), null, what);
    await using atFriend = await friend.capture({ contains: marked(tail) });
    await attackers.abridge.frames(frames.map(([, frame]) => frame));
    if (isDelivered) await atFriend.captured({ count: 1 });
    else await assertSent(pod, destination);
    assert.equal((await atFriend.captured()).matched > 0, isDelivered, what);
  }
});

/** Waits until a later frame has arrived: so has what was sent before, if it may. */
async function assertSent(pod: Pod, destination: string): Promise<void> {
  const number = nextNumber++;
  await using arrived = await friend.capture({
    contains: Buffer.from(number.toString(16).padStart(8, '0'), 'hex'),
  });
  await attackers.abridge.frame(plainFrame(pod, destination, number));
  await arrived.captured({ count: 1 });
}

describe(`random frames, seed ${seed}`, () => {
  const each = framesInAll / 8;
  for (const state of ['alive', 'dead'] as const) {
    describe(`agent ${state}`, () => {
      if (state === 'dead') test('it is killed', () => tandem.kill('agent'));
      for (const kind of ['ptp', 'bridge'] as const) {
        test(`a known pod, ${kind}`, async (t) => {
          await using flows = await SteadyFlows.start({
            client,
            web,
            friend: addressOf(friendPod, '10.'),
            port: friendPort,
          });
          const name = kind === 'ptp' ? 'aptp' : 'abridge';
          const pod = node.pod(name);
          const arrived = await attack({ pod, probe: attackers[name], isKnown: true }, each);
          assert.ok((arrived.get('world') ?? 0) > 0 && (arrived.get('friend') ?? 0) > 0);
          await flows.assertUnharmed();
          t.diagnostic(JSON.stringify([...arrived]));
        });
        test(`a pod that no object is known of, ${kind}`, async () => {
          await using flows = await SteadyFlows.start({
            client,
            web,
            friend: addressOf(friendPod, '10.'),
            port: friendPort,
          });
          const pod = await node.addPod({
            ...{ name: `g${kind}${state}`.slice(0, 10), kind },
            ipv4: kind === 'ptp' ? `10.1.0.${ghosts}` : `10.1.2.${ghosts}`,
            ipv6: kind === 'ptp' ? `fd00:1::${ghosts++}` : `fd00:1:2::${ghosts++}`,
          });
          {
            await using probe = Probe.start(pod.namespace);
            const dropped = await droppedArp(node);
            await probe.frames(arpClaims(pod));
            await attack({ pod, probe, isKnown: false }, each);
            if (kind === 'bridge')
              assert.ok((await droppedArp(node)) > dropped, 'no ARP was dropped');
          }
          await node.removePod(pod.name);
          await flows.assertUnharmed();
        });
      }
    });
  }
  test('the agent comes back', async () => {
    await tandem.startProcess('agent');
    await tandem.waitForMembers(['agent', 'proxy']);
  });
});
