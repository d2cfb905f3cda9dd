// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * judge does not grow with the selectors of other tenants at an address, for packets that pass and for packets that are
 * dropped: at most 1.2 times as long with all slots of the address taken as with one. Both cases of a pair run in turn, and the
 * shortest run of each counts, so other load of the machine changes how many rounds it takes and not the result.
 */

import assert from 'node:assert/strict';
import { loadavg } from 'node:os';
import { after, before, test } from 'node:test';
import { buildPacket } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  confirmed,
  conntrack,
  type Facts,
  selector,
  setUpJudge,
  tcp,
  tcpState,
  uplink,
  vethA,
} from './judge-world.ts';
import { learnInto } from './learning.ts';

const fixture = new Fixture({}, true, { quota_namespace: 4096 });
after(() => fixture[Symbol.dispose]());

const ratioMax = 1.2;
const repeat = 20_000;
const rounds = { min: 5, max: 200 } as const;
const slots = 64;
const expires = Math.floor(Number(process.hrtime.bigint() / 1_000_000_000n)) + 100_000;
const fresh = { ifindex: vethA, out: uplink, tracked: 1, info: conntrack.new };
const open = {
  ...{ ifindex: vethA, out: uplink, tracked: 1, info: conntrack.established },
  ...{ status: confirmed, tcp_state: tcpState.established },
};

/** Selectors of other namespaces, then, if it is the pod's own address, the one that its policy names. */
function fill(address: string, foreign: number, isOwn: boolean): void {
  const requests = Array.from({ length: foreign }, (_, i) => ({
    op: 'ADD' as const,
    address,
    selector: selector + 1000 + i,
    expires,
    namespaceId: 160 + (i >> 3),
  }));
  learnInto(fixture, requests);
  if (isOwn) learnInto(fixture, [{ op: 'ADD', address, selector, expires, namespaceId: 150 }]);
}

before(() => {
  setUpJudge(fixture);
  const flags = ['ENFORCE_EGRESS', 'WILD_EGRESS', 'FQDN'];
  for (const address of [a4, a6]) fixture.endpoint(address, { id: 1, ifindex: vethA, flags });
  addRule(fixture, selector, { protocol: 6, port: 443 });
  // a trie as deep as that of a node with policies
  for (let i = 0; i < 2000; i++) {
    addRule(fixture, 100 + (i % 50), { policyId: 10 + (i % 40), protocol: 6, port: 443 + i });
  }
  fill('203.0.113.10', 1, false);
  fill('203.0.113.11', slots, false);
  fill('203.0.113.12', 0, true);
  fill('203.0.113.13', slots - 1, true);
  fill('2001:db8::10', 1, false);
  fill('2001:db8::11', slots, false);
});

interface Case {
  readonly packet: PacketSpec;
  readonly facts: Facts;
  readonly verdict: 'drop' | 'accept';
}

function timeOf({ packet, facts, verdict }: Case): number {
  fixture.facts(facts);
  assert.equal(fixture.hook('judge', 'post-routing', packet).verdict, verdict);
  const data = buildPacket(packet);
  const ctx = new Uint8Array(48); // struct nf_hook_state: hook, pf, pointers
  ctx.set([4, (data[14] ?? 0) >> 4 === 4 ? 2 : 10]);
  const program = fixture.object.program('judge');
  return program.testRun({ data, ctx, repeat, dataOutSize: 0, ctxOutSize: 0 }).durationNs;
}

/** The shortest of both, of as many rounds as it takes, but of no more than `rounds.max`. */
function compare(alone: Case, crowded: Case): { readonly ratio: number; readonly text: string } {
  let [least, most] = [Infinity, Infinity];
  let round = 0;
  const isEnough = (): boolean => round >= rounds.min && most / least <= ratioMax;
  for (; round < rounds.max && !isEnough(); round++) {
    least = Math.min(least, timeOf(alone));
    most = Math.min(most, timeOf(crowded));
  }
  const ratio = most / least;
  const load = loadavg()[0]?.toFixed(1);
  const text = `${least} and ${most} ns, ${ratio.toFixed(2)} times, ${round} rounds, load ${load}`;
  return { ratio, text };
}

const cases: readonly (readonly [name: string, alone: Case, crowded: Case])[] = [
  [
    'a drop, 64 foreign selectors against 1',
    { packet: tcp(a4, '203.0.113.10'), facts: fresh, verdict: 'drop' },
    { packet: tcp(a4, '203.0.113.11'), facts: fresh, verdict: 'drop' },
  ],
  [
    'a drop over IPv6, 64 foreign selectors against 1',
    { packet: tcp(a6, '2001:db8::10'), facts: fresh, verdict: 'drop' },
    { packet: tcp(a6, '2001:db8::11'), facts: fresh, verdict: 'drop' },
  ],
  [
    'a new connection that passes, 63 foreign selectors before its own against none',
    { packet: tcp(a4, '203.0.113.12'), facts: fresh, verdict: 'accept' },
    { packet: tcp(a4, '203.0.113.13'), facts: fresh, verdict: 'accept' },
  ],
  [
    'an open connection, 63 foreign selectors before its own against none',
    { packet: tcp(a4, '203.0.113.12'), facts: open, verdict: 'accept' },
    { packet: tcp(a4, '203.0.113.13'), facts: open, verdict: 'accept' },
  ],
];

for (const [name, alone, crowded] of cases) {
  test(name, (t) => {
    const { ratio, text } = compare(alone, crowded);
    t.diagnostic(text);
    assert.ok(ratio <= ratioMax, text);
  });
}
