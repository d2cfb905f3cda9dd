// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TD_HEARTBEAT_STALE_NS, tdGroup } from '@tandem/datapath/abi.gen';
import { NodeGroup } from '@tandem/datapath/group';
import { GroupMember } from './group-member.ts';

const second = 1e9;
const bootNs = 3 * 86_400 * second;

function twoMembers(nowNs: number): [GroupMember, GroupMember] {
  const group = new NodeGroup(new ArrayBuffer(tdGroup.size));
  const members = [new GroupMember(group, 0), new GroupMember(group, 1)] as const;
  for (const member of members) member.join(nowNs, bootNs + member.index);
  return [...members];
}

test('another one serves while it is LIVE and beats', () => {
  const [agent, proxy] = twoMembers(second);
  assert.ok(agent.isOtherServing(second));
  assert.ok(agent.isOtherServing(second + TD_HEARTBEAT_STALE_NS - 1));
  assert.ok(!agent.isOtherServing(second + TD_HEARTBEAT_STALE_NS));
  proxy.beat(2 * second);
  assert.ok(agent.isOtherServing(2 * second - 5), 'a beat after our own clock was read is fresh');
  proxy.setState('drain');
  assert.ok(!agent.isOtherServing(2 * second));
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
    agent.join(second, bootNs + 9);
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
    agent.join(2 * second, bootNs + 9);
    assert.ok(proxy.takeDrainToken(2 * second));
  });

  test('that another member holds is not released', () => {
    const [agent, proxy] = twoMembers(second);
    assert.ok(agent.takeDrainToken(second));
    proxy.releaseDrainToken();
    assert.ok(!proxy.takeDrainToken(second));
  });
});
