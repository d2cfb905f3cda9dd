// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  TD_ABI_VERSION,
  TD_HEARTBEAT_STALE_NS,
  TD_MEMBERS_MAX,
  tdGroup,
  tdMember,
  tdMemberState,
} from './abi.gen.ts';
import { NodeGroup } from './group.ts';
import { memberName } from './member.ts';

const second = 1e9;
const bootNs = 3 * 86_400 * second;

function emptyGroup(): { readonly group: NodeGroup; readonly view: DataView } {
  const memory = new ArrayBuffer(tdGroup.size);
  return { group: new NodeGroup(memory), view: new DataView(memory) };
}

describe('a word', () => {
  const member = (index: number, field: number): number =>
    tdGroup.member + index * tdMember.size + field;
  const words: readonly (readonly [
    name: string,
    offset: number,
    read: (group: NodeGroup) => number,
  ])[] = [
    ['abi_version', tdGroup.abi_version, (group) => group.abiVersion],
    ['required_revision', tdGroup.required_revision, (group) => group.requiredRevision],
    ['generation', tdGroup.generation, (group) => group.generation],
    ['policies', tdGroup.policies, (group) => group.policies],
    ['removals', tdGroup.removals, (group) => group.removals],
    ['applied_revision', tdGroup.applied_revision, (group) => group.appliedRevision],
    ['events_lease', tdGroup.events_lease, (group) => group.eventsLease],
    ['events_beat_ms', tdGroup.events_beat_ms, (group) => group.eventsBeatMs],
    ['events_lost_told', tdGroup.events_lost_told, (group) => group.reportedLoss('ring-full')],
    [
      'events_limited_told',
      tdGroup.events_limited_told,
      (group) => group.reportedLoss('rate-limit'),
    ],
    ['loads', tdGroup.loads, (group) => group.loads],
    ['agent_abi', tdGroup.agent_abi, (group) => group.agentAbi],
    ['kept_abi', tdGroup.kept_abi, (group) => group.keptAbi],
    ['member[3].state', member(3, tdMember.state), (group) => group.stateOf(3)],
    ['member[3].revision', member(3, tdMember.revision), (group) => group.revisionOf(3)],
  ];
  for (const [name, offset, read] of words) {
    test(`${name} is read from its offset`, () => {
      const { group, view } = emptyGroup();
      view.setUint32(offset, 0xfedcba98, true);
      assert.equal(read(group), 0xfedcba98);
      assert.equal(read(NodeGroup.copyOf(new Uint8Array(view.buffer))), 0xfedcba98);
      assert.equal(read(NodeGroup.copyOf(new Uint8Array(0))), 0, 'of a shorter value it is 0');
    });
  }

  const writes: readonly (readonly [
    name: string,
    offset: number,
    write: (group: NodeGroup) => void,
    want: number,
  ])[] = [
    ['required_revision', tdGroup.required_revision, (group) => (group.requiredRevision = 9), 9],
    ['applied_revision', tdGroup.applied_revision, (group) => (group.appliedRevision = 9), 9],
    ['generation', tdGroup.generation, (group) => group.stepGeneration(), 1],
    ['policies', tdGroup.policies, (group) => group.countPolicies(), 1],
    ['removals', tdGroup.removals, (group) => group.countRemoval(), 1],
    ['drain_token', tdGroup.drain_token, (group) => group.claimDrainToken(1), 2],
    ['events_lease', tdGroup.events_lease, (group) => group.swapEventsLease(0, 9), 9],
    ['events_beat_ms', tdGroup.events_beat_ms, (group) => (group.eventsBeatMs = 2 ** 32 + 9.5), 9],
    [
      'events_lost_told',
      tdGroup.events_lost_told,
      (group) => group.swapReportedLoss('ring-full', 0, 9),
      9,
    ],
    [
      'events_limited_told',
      tdGroup.events_limited_told,
      (group) => group.swapReportedLoss('rate-limit', 0, 9),
      9,
    ],
    ['member[2].state', member(2, tdMember.state), (group) => group.setState(2, 'drain'), 2],
    ['member[2].revision', member(2, tdMember.revision), (group) => group.setRevision(2, 9), 9],
  ];
  for (const [name, offset, write, want] of writes) {
    test(`${name} alone is written`, () => {
      const { group, view } = emptyGroup();
      write(group);
      assert.equal(view.getUint32(offset, true), want);
      view.setUint32(offset, 0, true);
      assert.ok(new Uint8Array(view.buffer).every((byte) => byte === 0));
    });
  }

  test('that another one changed meanwhile is not swapped', () => {
    const { group } = emptyGroup();
    assert.ok(group.swapEventsLease(0, 5));
    assert.ok(!group.swapEventsLease(0, 6));
    assert.equal(group.eventsLease, 5);
    assert.ok(group.swapReportedLoss('ring-full', 0, 5));
    assert.ok(!group.swapReportedLoss('ring-full', 0, 6));
    assert.equal(group.reportedLoss('ring-full'), 5);
  });
});

test('a load is announced with its ABI versions, and endpoints are looked up anew', () => {
  const { group } = emptyGroup();
  group.announceLoad(TD_ABI_VERSION - 1, { mark: 0x40, port: 10_053, ownerUid: 65_532 });
  assert.deepEqual(
    [group.abiVersion, group.agentAbi, group.keptAbi, group.loads, group.generation],
    [TD_ABI_VERSION, TD_ABI_VERSION, TD_ABI_VERSION - 1, 1, 2],
  );
});

test('a drain token is one member’s until that one gives it up', () => {
  const { group } = emptyGroup();
  assert.ok(group.claimDrainToken(0));
  assert.ok(group.claimDrainToken(0), 'it is still its own');
  assert.ok(!group.claimDrainToken(1));
  group.releaseDrainToken(1);
  assert.ok(!group.claimDrainToken(1), 'what another one holds is not released');
  group.releaseDrainToken(0);
  assert.ok(group.claimDrainToken(1));
});

test('a member that joined is what others read of it', () => {
  const { group, view } = emptyGroup();
  group.join(1, 77, 5 * second + 1, bootNs + 1);
  group.setRevision(1, 8);
  assert.equal(group.beatNsOf(1), 5 * second + 1);
  assert.equal(group.epochOf(1), bootNs + 1);
  const at = tdGroup.member + tdMember.size;
  assert.equal(view.getBigUint64(at + tdMember.beat_ns, true), 5_000_000_001n);
  assert.equal(view.getUint32(at + tdMember.abi_version, true), TD_ABI_VERSION);
  assert.deepEqual(group.members(5 * second + 1_000_001), [
    {
      index: 1,
      role: 'dns-proxy',
      state: 'live',
      pid: 77,
      epochNs: bootNs + 1,
      beatAgeMs: 1,
      isServing: true,
      revision: 8,
    },
  ]);
  assert.deepEqual([0, 1, 3].map(memberName), ['agent', 'dns-proxy', 'member-3']);
});

describe('a member serves', () => {
  const { LIVE, NONE, DRAIN, DEAD } = tdMemberState;
  const rows: readonly (readonly [name: string, state: number, ageNs: number, want: boolean])[] = [
    ['LIVE, it beat just now', LIVE, 0, true],
    ['LIVE, it beat after the clock was read', LIVE, -5, true],
    ['LIVE, not yet stale', LIVE, TD_HEARTBEAT_STALE_NS - 1, true],
    ['LIVE, stale to the nanosecond', LIVE, TD_HEARTBEAT_STALE_NS, false],
    ['LIVE, stale', LIVE, second, false],
    ['NONE', NONE, 0, false],
    ['DRAIN', DRAIN, 0, false],
    ['DEAD', DEAD, 0, false],
  ];
  for (const [name, state, ageNs, want] of rows) {
    test(`${name}: ${want}`, () => {
      const { group, view } = emptyGroup();
      group.join(0, 1, second - ageNs, bootNs);
      view.setUint32(tdGroup.member + tdMember.state, state, true);
      assert.equal(group.isServing(0, second), want);
      if (state !== NONE) assert.equal(group.members(second)[0]?.isServing, want);
    });
  }

  /** The words of bpf/src/select_member.bpf.c, in its integers. */
  function isFreshInKernel(now: bigint, beat: bigint): boolean {
    return !(BigInt.asIntN(64, now - beat) >= BigInt(TD_HEARTBEAT_STALE_NS));
  }

  test('when select_member would choose it, for any clock up to 104 days of uptime', () => {
    const nearby = fc.integer({ min: -2 * TD_HEARTBEAT_STALE_NS, max: 2 * TD_HEARTBEAT_STALE_NS });
    const edge = fc.integer({ min: TD_HEARTBEAT_STALE_NS - 2, max: TD_HEARTBEAT_STALE_NS + 2 });
    const clock = fc.integer({ min: second, max: 2 ** 53 - second });
    fc.assert(
      fc.property(
        clock,
        fc.oneof(nearby, edge),
        fc.nat({ max: TD_MEMBERS_MAX - 1 }),
        fc.nat({ max: DEAD }),
        (now, age, index, state) => {
          const { group, view } = emptyGroup();
          const at = tdGroup.member + index * tdMember.size;
          view.setBigUint64(at + tdMember.beat_ns, BigInt(now - age), true);
          view.setUint32(at + tdMember.state, state, true);
          const want = state === LIVE && isFreshInKernel(BigInt(now), BigInt(now - age));
          assert.equal(group.isServing(index, now), want);
          assert.equal(
            now < group.staleAtNs(index),
            isFreshInKernel(BigInt(now), BigInt(now - age)),
          );
        },
      ),
      { numRuns: 2000 },
    );
  });
});
