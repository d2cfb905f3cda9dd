// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TD_HEARTBEAT_STALE_NS, tdGroup } from '@tandem/datapath/abi.gen';
import { GroupMember, readMembers } from './group.ts';

const second = 1e9;
const bootNs = 3 * 86_400 * second;

function twoMembers(nowNs: number): [GroupMember, GroupMember, ArrayBuffer] {
  const memory = new ArrayBuffer(tdGroup.size);
  const members = [new GroupMember(memory, 0), new GroupMember(memory, 1)] as const;
  for (const member of members) member.join(member.index, nowNs, bootNs + member.index);
  return [...members, memory];
}

describe('a member as the others see it', () => {
  test('times survive their way through the map', () => {
    const [agent, proxy, memory] = twoMembers(5 * second + 1);
    assert.equal(agent.beatNsOf(1), 5 * second + 1);
    assert.equal(agent.epochOf(1), bootNs + 1);
    assert.equal(proxy.epochOf(0), bootNs);
    assert.equal(readMembers(memory, 6_000_000_001n)[1]?.beatAgeMs, 1000);
  });

  test('serves while it is LIVE and beats', () => {
    const [agent, proxy] = twoMembers(second);
    assert.ok(agent.isOtherServing(second));
    assert.ok(agent.isOtherServing(second + TD_HEARTBEAT_STALE_NS - 1));
    assert.ok(!agent.isOtherServing(second + TD_HEARTBEAT_STALE_NS));
    proxy.beat(2 * second);
    assert.ok(agent.isOtherServing(2 * second - 5), 'a beat after our own clock was read is fresh');
    proxy.setState('drain');
    assert.ok(!agent.isOtherServing(2 * second));
  });
});

describe('the drain token', () => {
  test('is given to one of two that stop at once', () => {
    const [agent, proxy] = twoMembers(second);
    assert.ok(agent.takeDrainToken(second));
    assert.ok(agent.takeDrainToken(second), 'it is still its own');
    assert.ok(!proxy.takeDrainToken(second), 'although the agent is still LIVE');
    agent.setState('drain');
    assert.ok(!proxy.takeDrainToken(second));
    agent.setState('dead');
    agent.releaseDrainToken();
    assert.ok(!proxy.takeDrainToken(second), 'nobody else serves');
    agent.join(0, second, bootNs + 9);
    assert.ok(proxy.takeDrainToken(second));
  });

  test('is not given while the other one is stale, and is not kept then', () => {
    const [agent, proxy] = twoMembers(second);
    assert.ok(!agent.takeDrainToken(2 * second));
    agent.beat(2 * second);
    assert.ok(proxy.takeDrainToken(2 * second));
  });

  test('of a member that died with it is free again when the next life joins', () => {
    const [agent, proxy] = twoMembers(second);
    assert.ok(agent.takeDrainToken(second));
    agent.setState('drain');
    assert.ok(!proxy.takeDrainToken(second));
    agent.join(0, 2 * second, bootNs + 9);
    assert.ok(proxy.takeDrainToken(2 * second));
  });

  test('that another member holds is not released', () => {
    const [agent, proxy] = twoMembers(second);
    assert.ok(agent.takeDrainToken(second));
    proxy.releaseDrainToken();
    assert.ok(!proxy.takeDrainToken(second));
  });
});
