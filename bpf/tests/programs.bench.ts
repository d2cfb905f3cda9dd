// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ns per packet of each program by test run, hot caches, with maps of a full node: 250 endpoints, 50,000
 * classes, 20,000 policy entries, 10,000 learned addresses; `learn` replaces also in orders of 1,000 and 98,303 pairs, with `fqdn`
 * of the shipped size. Rounds are interleaved; minimum and median.
 * `--json` prints one array for ./run bench. The loop of a test run itself costs 10 to 30 ns.
 */

import assert from 'node:assert/strict';
import { loadavg } from 'node:os';
import { macBytes } from '@tandem/testing/address';
import { buildPacket } from '@tandem/testing/packet';
import { defaultMac, type PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  batch,
  type FullOrder,
  fullOrder,
  fullOrders,
  measureReplace,
  orderOf,
  usedPairs,
} from './full-order.ts';
import { conntrack, tcpState } from './judge-world.ts';
import { testIfindex } from './kernel-world.ts';
import { type LearnRequest, learnInto } from './learning.ts';

const rounds = 9;
const repeat = 200_000;
const selector = 0x80000001;

using orders = new DisposableStack();
using fixture = new Fixture({ classes: 65536, policy: 32768, fqdn: 16384, quotas: 1024 }, true, {
  pairs: 0,
});
fixture.reset();

const a4 = '10.1.0.1';
const b4 = '10.1.0.2';
const a6 = 'fd00:1::1';
const dns4 = '10.96.0.10';
const remote4 = '8.8.0.1';
const learned4 = '9.9.9.9';
const expired4 = '9.9.9.11';
const closing4 = '9.9.9.12';
const crowded4 = '9.9.9.10';
const shared4 = '9.9.9.13';
const foreign4 = '9.9.9.14';
const oneForeign4 = '9.9.9.15';

for (let i = 3; i < 250; i++) fixture.endpoint(`10.1.0.${i}`, { id: i, ifindex: 100 + i });
const flags = ['ENFORCE_EGRESS', 'WILD_EGRESS', 'FQDN', 'DNS'];
/** Not the loopback, which `judge` takes for the host. */
const vethA = 9;
const vethB = 7;
const uplink = 2;
/** The pod that speaks: on the loopback, the one device of a tc test run, or on a veth. */
function placeA(ifindex: number): void {
  for (const address of [a4, a6]) fixture.endpoint(address, { id: 1, classId: 51, flags, ifindex });
}
fixture.device(uplink, 'TRUSTED');
fixture.device(vethB, 'POD');
const bridged4 = '10.1.2.1';
fixture.endpoint(bridged4, { id: 300, flags: ['BRIDGED'], mac: macBytes(defaultMac.source) });
fixture.endpoint(b4, {
  id: 2,
  policyId: 2,
  ifindex: vethB,
  classId: 52,
  flags: ['ENFORCE_INGRESS'],
});
for (let i = 0; i < 50_000; i++)
  fixture.class(`8.${8 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`, 32, 100 + (i % 500));
for (let i = 0; i < 20_000; i++) {
  fixture.policy({
    policyId: 10 + (i % 40),
    peer: 100 + Math.floor(i / 40),
    direction: 'egress',
    verdict: 'ALLOW',
    protocol: 6,
    port: 443,
  });
}
fixture.policy({ peer: 101, direction: 'egress', verdict: 'ALLOW', protocol: 6, port: 443 });
fixture.policy({ peer: 52, direction: 'egress', verdict: 'ALLOW', protocol: 6, port: 443 });
fixture.policy({ peer: selector, direction: 'egress', verdict: 'ALLOW', protocol: 6, port: 443 });
fixture.policy({
  policyId: 2,
  peer: 51,
  direction: 'ingress',
  verdict: 'ALLOW',
  protocol: 6,
  port: 443,
});
fixture.dnsServer(dns4, 17);
fixture.member(0, 'LIVE');
const expires = 0x7fffffff;
for (let i = 0; i < 10_000; i += 100) {
  learnInto(
    fixture,
    Array.from({ length: 100 }, (_, k) => ({
      op: 'ADD' as const,
      address: `11.0.${(i + k) >> 8}.${(i + k) & 255}`,
      selector: (selector + ((i + k) % 200)) >>> 0,
      expires,
      namespaceId: 1 + Math.floor((i + k) / 100),
    })),
  );
}
const justExpired = Number(process.hrtime.bigint() / 1_000_000_000n) - 5;
learnInto(fixture, [
  { op: 'ADD', address: learned4, selector, expires, namespaceId: 150 },
  { op: 'ADD', address: expired4, selector, expires: justExpired, namespaceId: 150 },
  { op: 'ADD', address: closing4, selector, expires: justExpired, namespaceId: 150 },
]);
learnInto(fixture, [
  ...Array.from({ length: 15 }, (_, i) => ({
    op: 'ADD' as const,
    address: crowded4,
    selector: selector + 900 + i,
    expires,
    namespaceId: 150,
  })),
  { op: 'ADD' as const, address: crowded4, selector, expires, namespaceId: 150 },
]);
/** Selectors at an address that the policy of the pod does not name; 64 fill its slots. */
const foreignAt = (address: string, count: number): LearnRequest[] =>
  Array.from({ length: count }, (_, i) => ({
    op: 'ADD' as const,
    address,
    selector: selector + 1000 + i,
    expires,
    namespaceId: 160 + (i >> 3),
  }));
learnInto(fixture, [
  ...foreignAt(shared4, 63),
  { op: 'ADD', address: shared4, selector, expires, namespaceId: 150 },
]);
learnInto(fixture, foreignAt(foreign4, 64));
learnInto(fixture, foreignAt(oneForeign4, 1));

const tcp = (source: string, destination: string): PacketSpec => ({
  ip: { source, destination },
  tcp: { sourcePort: 4000, destinationPort: 443, flags: ['ack'] },
  payload: 'x'.repeat(64),
});
const dns = (source: string, destination: string): PacketSpec => ({
  ip: { source, destination },
  udp: { sourcePort: 4000, destinationPort: 53 },
  payload: 'x'.repeat(40),
});
const reply: PacketSpec = {
  ip: { source: dns4, destination: a4 },
  udp: { sourcePort: 10053, destinationPort: 4000 },
  payload: 'x'.repeat(80),
};

const small = orderOf(fixture, batch);

interface Subject {
  readonly name: string;
  readonly program: 'from_pod' | 'to_pod' | 'guard_exit' | 'guard_entry' | 'judge' | 'learn';
  readonly packet?: PacketSpec;
  /** The program changes the packet, so that a second run would do something else. */
  readonly isOnce?: boolean;
  readonly facts?: Readonly<Record<string, number>>;
  /** Interface by which the frame of a tcx program came in; 0: the host sent it. */
  readonly ingress?: number;
  /** One of its own, whose namespace is at its limit. */
  readonly order?: FullOrder;
}
const seen = { ifindex: vethA, out: uplink };
/** PACKET_OTHERHOST of linux/if_packet.h: what a bridge switches. */
const otherHost = 3;
const subjects: readonly Subject[] = [
  { name: 'from_pod: TCP IPv4', program: 'from_pod', packet: tcp(a4, remote4) },
  { name: 'from_pod: TCP IPv4, bridged, MAC', program: 'from_pod', packet: tcp(bridged4, remote4) },
  { name: 'from_pod: TCP IPv6', program: 'from_pod', packet: tcp(a6, '2001:db8::1') },
  { name: 'from_pod: DNS redirected', program: 'from_pod', packet: dns(a4, dns4), isOnce: true },
  { name: 'from_pod: spoofed, drop', program: 'from_pod', packet: tcp(b4, remote4) },
  { name: 'to_pod: TCP IPv4', program: 'to_pod', packet: tcp(remote4, a4) },
  {
    name: 'to_pod: reply, port restored',
    program: 'to_pod',
    packet: reply,
    isOnce: true,
  },
  {
    name: 'to_pod: TCP IPv4, switched from a trusted device',
    program: 'to_pod',
    packet: tcp(remote4, a4),
    ingress: uplink,
    facts: { frame_kind: otherHost },
  },
  { name: 'guard_exit: of the host', program: 'guard_exit', packet: tcp(remote4, b4) },
  {
    name: 'guard_exit: of a pod',
    program: 'guard_exit',
    packet: tcp(a4, remote4),
    ingress: vethB,
  },
  {
    name: 'guard_entry: no bridge port',
    program: 'guard_entry',
    packet: tcp(a4, remote4),
    facts: seen,
  },
  {
    name: 'guard_entry: a pod’s bridge port',
    program: 'guard_entry',
    packet: tcp(a4, remote4),
    facts: { ...seen, bridge_port: vethA },
  },
  {
    name: 'judge: no endpoint',
    program: 'judge',
    packet: tcp(remote4, '8.8.1.1'),
    facts: { ifindex: uplink, out: uplink },
  },
  {
    name: 'judge: host to pod',
    program: 'judge',
    packet: tcp(remote4, b4),
    facts: { ifindex: 0, out: vethB },
  },
  {
    name: 'judge: pod to pod, both enforced',
    program: 'judge',
    packet: tcp(a4, b4),
    facts: { ...seen, out: vethB },
  },
  { name: 'judge: pod to a class', program: 'judge', packet: tcp(a4, remote4), facts: seen },
  {
    name: 'judge: pod to a learned address',
    program: 'judge',
    packet: tcp(a4, learned4),
    facts: seen,
  },
  {
    name: 'judge: learned, 16th selector',
    program: 'judge',
    packet: tcp(a4, crowded4),
    facts: seen,
  },
  {
    name: 'judge: learned, 63 foreign selectors before it',
    program: 'judge',
    packet: tcp(a4, shared4),
    facts: seen,
  },
  {
    name: 'judge: 1 foreign selector, drop',
    program: 'judge',
    packet: tcp(a4, oneForeign4),
    facts: seen,
  },
  {
    name: 'judge: 64 foreign selectors, drop',
    program: 'judge',
    packet: tcp(a4, foreign4),
    facts: seen,
  },
  {
    name: 'judge: learned, open connection',
    program: 'judge',
    packet: tcp(a4, learned4),
    facts: { ...seen, tracked: 1, info: conntrack.established, tcp_state: tcpState.established },
  },
  {
    name: 'judge: expired, open connection',
    program: 'judge',
    packet: tcp(a4, expired4),
    facts: { ...seen, tracked: 1, info: conntrack.established, tcp_state: tcpState.established },
  },
  {
    name: 'judge: expired, connection closing',
    program: 'judge',
    packet: tcp(a4, closing4),
    facts: { ...seen, tracked: 1, info: conntrack.established, tcp_state: tcpState.finWait },
  },
  {
    name: 'judge: expired in use, first packet',
    program: 'judge',
    packet: tcp(a4, expired4),
    facts: seen,
  },
  { name: 'judge: denied, drop', program: 'judge', packet: tcp(a4, '12.0.0.1'), facts: seen },
  { name: 'learn: batch of 128, per request', program: 'learn' },
  { name: 'learn: new, replaces the oldest', program: 'learn', isOnce: true },
  ...fullOrders.map(({ pairs, others }): Subject => {
    const all = (pairs + others).toLocaleString('en');
    const name = `learn: replaces, ${all} pairs in the order, ${pairs.toLocaleString('en')} its own`;
    return { name, program: 'learn', order: fullOrder(orders, pairs, others) };
  }),
];

function measure(subject: Subject): number {
  if (subject.program === 'learn') {
    if (subject.order !== undefined) return measureReplace(subject.order);
    return subject.isOnce === true ? measureReplace(small) : measureLearn();
  }
  const data = buildPacket(subject.packet ?? {});
  const hooks = { judge: 4, guard_entry: 0, from_pod: null, to_pod: null, guard_exit: null };
  const hook = hooks[subject.program];
  placeA(hook === null ? testIfindex : vethA);
  fixture.facts(subject.facts ?? {});
  if (hook !== null) {
    const ctx = new Uint8Array(48);
    ctx[0] = hook;
    ctx[1] = (data[14] ?? 0) >> 4 === 4 ? 2 : 10;
    return fixture.object
      .program(subject.program)
      .testRun({ data, ctx, repeat, dataOutSize: 0, ctxOutSize: 0 }).durationNs;
  }
  const ctx = new Uint8Array(fixture.structs.layout('__sk_buff').size);
  fixture.structs.write('__sk_buff', ctx, 'ingress_ifindex', subject.ingress ?? 0);
  const runs = subject.isOnce === true ? 1 : repeat;
  const samples = subject.isOnce === true ? 200 : 1;
  let sum = 0;
  for (let i = 0; i < samples; i++) {
    sum += fixture.object.program(subject.program).testRun({ data, ctx, repeat: runs }).durationNs;
  }
  return sum / samples;
}

/** Extends the same 128 addresses: what repeated answers cost. */
function measureLearn(): number {
  const size = 128;
  const args = fixture.structs.bytes('td_learn_args', { writer: 0, count: size });
  learnInto(
    fixture,
    Array.from({ length: size }, (_, i) => ({
      op: 'ADD' as const,
      address: `11.0.${i >> 8}.${i & 255}`,
      selector: selector + (i % 200),
      expires,
      namespaceId: 1 + Math.floor(i / 100),
    })),
  );
  const program = fixture.object.program('learn');
  const start = process.hrtime.bigint();
  const runs = 200;
  for (let i = 0; i < runs; i++) program.runSyscall(args);
  return Number(process.hrtime.bigint() - start) / runs / size;
}

const samples = new Map<string, number[]>(subjects.map(({ name }) => [name, []]));
for (let round = 0; round < rounds; round++) {
  for (const subject of subjects) samples.get(subject.name)?.push(measure(subject));
}
for (const { order } of subjects)
  if (order !== undefined) assert.equal(usedPairs(order), order.pairs);
const results = [...samples].map(([subject, ns]) => {
  const sorted = ns.toSorted((x, y) => x - y);
  return {
    subject,
    minNs: Math.round(sorted[0] ?? 0),
    medianNs: Math.round(sorted[rounds >> 1] ?? 0),
  };
});
if (process.argv.includes('--json')) console.log(JSON.stringify(results));
else {
  console.log(
    `load average ${loadavg()
      .map((value) => value.toFixed(1))
      .join(' ')}`,
  );
  for (const { subject, minNs, medianNs } of results) {
    console.log(
      `${subject.padEnd(36)} min ${String(minNs).padStart(5)} ns  median ${String(medianNs).padStart(5)} ns`,
    );
  }
}
