// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * judge: a denial (fqdn_denial.h) is believed for its own question alone, and not once anything was added. Whether it is
 * believed is seen by a rule that no count has: with a denial the packet is still dropped. fqdn-hint.fuzz.test.ts has random
 * histories.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildPacket } from '@tandem/testing/packet';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  conntrack,
  expectVerdict,
  otherSelector,
  remote4,
  remote6,
  seenFromA,
  selector,
  setUpJudge,
  tcp,
  udp,
  uplink,
  vethA,
} from './judge-world.ts';
import { learnInto, learnUntold } from './learning.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
const now = (): number => Number(process.hrtime.bigint() / 1_000_000_000n);
const fresh = { ...seenFromA, tracked: 1, info: conntrack.new };
/** A pod without a rule for the selector. */
const c4 = '10.1.0.13';
const vethC = 15;

function setUp(): void {
  setUpJudge(fixture);
  const flags = ['ENFORCE_EGRESS', 'FQDN'];
  for (const address of [a4, a6]) fixture.endpoint(address, { id: 1, ifindex: vethA, flags });
  fixture.endpoint(c4, { id: 3, policyId: 3, ifindex: vethC, flags });
  // so that there is something to search
  for (const address of [remote4, remote6]) learnAt(address, otherSelector);
}

const attemptsMax = 10;
/** Runs the steps while a denial lasts, and once more if the time came between in which it ends. */
function soon(steps: () => void): void {
  const time = (): bigint => process.hrtime.bigint() >> 30n;
  for (let attempt = 1; ; attempt++) {
    setUp();
    const start = time();
    try {
      steps();
      return;
    } catch (error) {
      if (time() === start || attempt === attemptsMax) throw error;
    }
  }
}

const learnAt = (address: string, added: number, expires = now() + 1000): void =>
  learnInto(fixture, [{ op: 'ADD', address, selector: added, expires }]);

type Rule = Parameters<typeof addRule>[2];
/** A rule that the agent has written and not counted yet. */
function addUncounted(peer: number, rule: Rule): void {
  const counted = fixture.groupField('policies');
  addRule(fixture, peer, rule);
  fixture.group({ policies: counted });
}

interface Denial {
  readonly index: Uint8Array;
  readonly bytes: Uint8Array;
}

const denials = (): Denial[] =>
  [...fixture.map('fqdn_denials').entries()]
    .filter(([, value]) => fixture.structs.read('denial', value, 'sequence') !== 0)
    .map(([index, bytes]) => ({ index, bytes }));

function onlyDenial(): Denial {
  const [denial, ...more] = denials();
  assert.ok(denial !== undefined && more.length === 0, `${more.length + 1} denials`);
  return denial;
}

describe('a denial', () => {
  const rule = { protocol: 6, port: 443 };

  test('is believed until the agent says that it added to the policy', () => {
    soon(() => {
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
      addUncounted(otherSelector, rule);
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
      expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
      fixture.group({ policies: fixture.groupField('policies') + 1 });
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'FORWARDED');
    });
  });

  test('ends with what is learned for its address, and not with what is learned for others', () => {
    soon(() => {
      addRule(fixture, selector, rule);
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
      const before = onlyDenial();
      learnAt('203.0.113.77', selector);
      learnAt(remote4, otherSelector, now() + 2000);
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
      assert.deepEqual(onlyDenial(), before, 'no search');
      learnAt(remote4, selector);
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'FORWARDED');
    });
  });

  test('ends with what a learn of the version before fills, and with nothing told it is not made', () => {
    soon(() => {
      addRule(fixture, selector, rule);
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
      const before = onlyDenial();
      const learnByFormer = (address: string): void => {
        const expires = now() + 1000;
        assert.deepEqual(learnUntold(fixture, [{ op: 'ADD', address, selector, expires }]), ['OK']);
      };
      learnByFormer(remote4);
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'FORWARDED');
      learnInto(fixture, [{ op: 'REMOVE', address: remote4, selector }]);
      // a step of this version, after which the former denial must not come back
      learnAt('203.0.113.77', selector);
      addUncounted(otherSelector, rule);
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'FORWARDED');
      assert.deepEqual(onlyDenial(), before);
      learnByFormer('203.0.113.78');
      expectVerdict(fixture, tcp(a4, unnamed4), fresh, 'DROP_NO_MATCH');
      assert.deepEqual(onlyDenial(), before, 'none is made');
      learnAt('203.0.113.79', selector);
      expectVerdict(fixture, tcp(a4, unnamed4), fresh, 'DROP_NO_MATCH');
      assert.equal(denials().length, 2);
    });
  });
  /** Address of no name. */
  const unnamed4 = '203.0.113.99';

  test('is of one question: policy, protocol, port and address', () => {
    soon(() => {
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
      const { bytes } = onlyDenial();
      const map = fixture.map('fqdn_denials');
      // wherever another question looks
      for (let i = 0; i < map.maxEntries; i++) {
        map.update(new Uint8Array(new Uint32Array([i]).buffer), bytes);
      }
      for (const policyId of [1, 3]) {
        for (const protocol of [6, 17]) addUncounted(otherSelector, { protocol, policyId });
      }
      learnUncounted('203.0.113.11', otherSelector);
      const fromC = { ...fresh, ifindex: vethC };
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
      expectVerdict(fixture, tcp(a4, remote4, 80), fresh, 'FORWARDED');
      expectVerdict(fixture, udp(a4, remote4), fresh, 'FORWARDED');
      expectVerdict(fixture, tcp(c4, remote4), fromC, 'FORWARDED');
      expectVerdict(fixture, tcp(a4, '203.0.113.11'), fresh, 'FORWARDED');
      expectVerdict(fixture, tcp(a6, remote6), fresh, 'FORWARDED');
    });
  });

  /** The stamp of every address stays as it is. */
  function learnUncounted(address: string, added: number): void {
    const order = fixture.map('learned_order');
    learnAt(address, added);
    const value = order.lookup(new Uint8Array(4));
    const spaces = fixture.structs.layout('td_order').fields.get('space');
    assert.ok(value !== null && spaces !== undefined);
    const size = fixture.structs.layout('td_space').size;
    for (let i = 0; i < spaces.count; i++) {
      fixture.structs.write('td_space', value.subarray(spaces.offset + i * size), 'filled', 1);
    }
    order.update(new Uint8Array(4), value);
  }

  test('is not believed for longer than a second, nor while it is written', () => {
    soon(() => {
      const change = (field: string, by: number): void => {
        const { index, bytes } = onlyDenial();
        const value = fixture.structs.read('denial', bytes, field) + by;
        fixture.structs.write('denial', bytes, field, value);
        fixture.map('fqdn_denials').update(index, bytes);
      };
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
      addUncounted(otherSelector, rule);
      for (const [field, by] of [
        ['time', -1],
        ['stamp', -1],
        ['sequence', 1],
      ] as const) {
        change(field, by);
        fixture.zero('fqdn_hints');
        expectVerdict(fixture, tcp(a4, remote4), fresh, 'FORWARDED');
        change(field, -by);
      }
      fixture.zero('fqdn_hints');
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_NO_MATCH');
    });
  });

  test('is not made where a name has expired: use makes it valid again', () => {
    soon(() => {
      addRule(fixture, selector, rule);
      learnAt(remote4, selector, now() - 2);
      expectVerdict(fixture, tcp(a4, remote4), fresh, 'DROP_FQDN_EXPIRED');
      assert.deepEqual(denials(), []);
      expectVerdict(fixture, tcp(a4, remote4, 80), fresh, 'DROP_NO_MATCH');
      assert.equal(denials().length, 1);
    });
  });

  test('gives way at once while another process asks the same all the time', async () => {
    setUp();
    addRule(fixture, selector, rule);
    const added = (selectors: readonly number[]) =>
      selectors.map((each) => {
        return { op: 'ADD' as const, address: remote4, selector: each, expires: now() + 1000 };
      });
    const [first, last] = [selector + 2, selector + 3].map((each) => each >>> 0) as [
      number,
      number,
    ];
    const add = added([first, last, selector]);
    // Its slot is another one in each round, so that no hint names it.
    const orders = [add, added([first, selector, last])];
    const remove = add.map((each) => ({ ...each, op: 'REMOVE' as const, expires: 0 }));
    // Their slots come first, and the search takes some time after it has seen them.
    learnInto(fixture, add);
    for (let i = 0; i < 60; i++) learnAt(remote4, selector + 1000 + i);
    learnInto(fixture, remove);
    fixture.facts({ ...fresh, out: uplink });
    const script = fileURLToPath(new URL('./judge-process.ts', import.meta.url));
    const packet = Buffer.from(buildPacket(tcp(a4, remote4))).toString('hex');
    const asking = spawn(process.execPath, ['--conditions=@tandem/source', script, packet], {
      stdio: ['pipe', 'pipe', 'inherit', fixture.object.program('judge').fd],
      timeout: 60_000,
    });
    const closed = new Promise((resolve) => asking.on('close', resolve));
    await new Promise<void>((resolve) => asking.stdout?.once('data', () => resolve()));
    const verdict = (): string => fixture.hook('judge', 'post-routing', tcp(a4, remote4)).verdict;
    // The first fill ends the denial, so that the other CPU searches while the second one is made.
    const wrong = { dropped: 0, passed: 0 };
    for (let round = 0; round < 1000; round++) {
      learnInto(fixture, orders[round & 1] ?? []);
      if (verdict() !== 'accept') wrong.dropped += 1;
      learnInto(fixture, remove);
      if (verdict() !== 'drop') wrong.passed += 1;
    }
    asking.stdin?.end();
    await closed;
    assert.deepEqual(wrong, { dropped: 0, passed: 0 });
    assert.equal(asking.exitCode, 0);
  });
});
