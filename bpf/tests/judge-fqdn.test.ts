// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: learned addresses and their expiry. Safety rules 5 and 15. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { mappedAddressBytes } from '@tandem/testing/address';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  confirmed,
  conntrack,
  expectVerdict,
  otherSelector,
  remote4,
  remote6,
  seenFromA,
  selector,
  setUpJudge,
  tcp,
  uplink,
  vethA,
} from './judge-world.ts';
import { learnInto } from './learning.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

describe('learned addresses', () => {
  const now = (): number => Number(process.hrtime.bigint() / 1_000_000_000n);
  const established = { ...seenFromA, tracked: 1, info: conntrack.established };

  beforeEach(() => {
    for (const address of [a4, a6]) {
      fixture.endpoint(address, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'FQDN'] });
    }
    addRule(fixture, selector, { protocol: 6, port: 443 });
  });

  test('open what the selector allows, and nothing else', () => {
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'FORWARDED');
    expectVerdict(fixture, tcp(a4, remote4, 80), seenFromA, 'DROP_NO_MATCH');
    expectVerdict(fixture, tcp(a4, '203.0.113.11'), seenFromA, 'DROP_NO_MATCH');
    expectVerdict(
      fixture,
      tcp(remote4, a4, 4000, 443),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'FORWARDED',
    );
    learnInto(fixture, [{ op: 'ADD', address: remote6, selector, expires: now() + 60 }]);
    expectVerdict(fixture, tcp(a6, remote6), seenFromA, 'FORWARDED');
  });

  test('only for policies with selectors, and only where no rule denies', () => {
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    addRule(fixture, 40, { protocol: 6, port: 443, verdict: 'DENY' });
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_POLICY_DENY');
    fixture.reset();
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS'] });
    addRule(fixture, selector, { protocol: 6, port: 443 });
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
  });

  test('never for what the cluster knows (rule 5)', () => {
    const flags = ['CLUSTER', 'NODE', 'SERVICE', 'LINK_LOCAL'] as const;
    for (const [i, flag] of flags.entries()) {
      const address = `198.51.100.${i + 1}`;
      learnInto(fixture, [{ op: 'ADD', address, selector, expires: now() + 60 }]);
      expectVerdict(fixture, tcp(a4, address), seenFromA, 'FORWARDED');
      fixture.class(address, 32, 70 + i, [flag]);
      expectVerdict(fixture, tcp(a4, address), seenFromA, 'DROP_NO_MATCH');
    }
    // a pod of this node, learned before it became one
    learnInto(fixture, [{ op: 'ADD', address: '198.51.100.9', selector, expires: now() + 60 }]);
    fixture.endpoint('198.51.100.9', { id: 3, ifindex: 19 });
    expectVerdict(fixture, tcp(a4, '198.51.100.9'), seenFromA, 'DROP_NO_MATCH');
  });

  test('never for what is delivered to the host, not even before its class is known (F8)', () => {
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'FORWARDED');
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH', 'local-in');
    const loopback = { prefixlen: 128, addr: mappedAddressBytes('::1') };
    fixture.map('classes').delete(fixture.structs.bytes('td_class_key', loopback));
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH', 'local-in');
  });

  test('expiry: new connections end, confirmed ones live (rule 15)', () => {
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() - 2 }]);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_FQDN_EXPIRED');
    expectVerdict(
      fixture,
      tcp(a4, remote4),
      { ...seenFromA, tracked: 1, info: conntrack.new },
      'DROP_FQDN_EXPIRED',
    );
    expectVerdict(
      fixture,
      tcp(a4, remote4),
      { ...seenFromA, info: conntrack.untracked },
      'DROP_FQDN_EXPIRED',
    );
    expectVerdict(
      fixture,
      tcp(a4, remote4),
      { ...seenFromA, tracked: 1, info: conntrack.new, status: confirmed },
      'FORWARDED',
    );
    expectVerdict(fixture, tcp(a4, remote4), established, 'FORWARDED');
    expectVerdict(
      fixture,
      tcp(remote4, a4, 4000, 443),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'FORWARDED',
    );
    learnInto(fixture, [{ op: 'REMOVE', address: remote4, selector }]);
    expectVerdict(fixture, tcp(a4, remote4), established, 'DROP_NO_MATCH');
  });

  test('an expired selector of another policy is no reason', () => {
    learnInto(fixture, [
      { op: 'ADD', address: remote4, selector: otherSelector, expires: now() - 2 },
    ]);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
  });

  test('on any page', () => {
    const filler = Array.from({ length: 63 }, (_, i) => ({
      op: 'ADD' as const,
      address: remote4,
      selector: (0x80000100 + i) >>> 0,
      expires: now() + 60,
    }));
    learnInto(fixture, [...filler, { op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'FORWARDED');
  });

  test('the time of use is kept, at most once a second', () => {
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    const used = (): number => {
      const key = fixture.structs.bytes('td_fqdn_key', { addr: mappedAddressBytes(remote4) });
      const page = fixture.map('fqdn').lookup(key);
      assert.ok(page !== null);
      return fixture.structs.read('td_fqdn', page, 'last_used_ns');
    };
    assert.equal(used(), 0);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'FORWARDED');
    const first = used();
    assert.ok(first > 0);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'FORWARDED');
    assert.equal(used(), first);
  });
});
