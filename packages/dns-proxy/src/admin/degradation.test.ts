// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdGroup } from '@tandem/datapath/abi.gen';
import { type MemberStatus, NodeGroup } from '@tandem/datapath/group';
import { agentMember, type MemberName, proxyMember } from '@tandem/datapath/member';
import { type NodeFacts, nodeCodes, nodeDegradations } from './node-degradations.ts';
import { type ProcessFacts, processDegradations } from './process-degradations.ts';

const nowNs = 5e12;

/** As the group tells it. */
function member(
  role: MemberName,
  { state = 'live', beatAgeMs = 5 }: Partial<Pick<MemberStatus, 'state' | 'beatAgeMs'>> = {},
): MemberStatus {
  const group = new NodeGroup(new ArrayBuffer(tdGroup.size));
  const index = role === 'agent' ? agentMember : proxyMember;
  group.join(index, 10, nowNs - beatAgeMs * 1e6, 1);
  group.setState(index, state);
  group.setRevision(index, 7);
  return group.members(nowNs)[0] as MemberStatus;
}

type Facts = NodeFacts & ProcessFacts;

const well: Facts = {
  role: 'dns-proxy',
  members: [member('agent'), member('dns-proxy')],
  requiredRevision: 7,
  appliedRevision: 7,
  isJudging: true,
  policy: { revision: 7, origin: 'agent' },
  isExchangeConnected: true,
  maps: [{ name: 'fqdn', entries: 90, capacity: 100 }],
  errors: 0,
  warnings: 3,
};

const rows: readonly (readonly [what: string, change: Partial<Facts>, want: readonly string[]])[] =
  [
    ['all is well', {}, []],
    [
      'the agent was killed',
      {
        members: [member('agent', { beatAgeMs: 5000 }), member('dns-proxy')],
        isExchangeConnected: false,
      },
      ['agent-away'],
    ],
    [
      'the agent hangs',
      { members: [member('agent', { beatAgeMs: 150 }), member('dns-proxy')] },
      ['member-stale'],
    ],
    [
      'the agent is stale to the nanosecond',
      { members: [member('agent', { beatAgeMs: 100 }), member('dns-proxy')] },
      ['member-stale'],
    ],
    [
      'the agent is not stale by a microsecond',
      { members: [member('agent', { beatAgeMs: 99.999 }), member('dns-proxy')] },
      [],
    ],
    [
      'the proxy stops',
      { role: 'agent', members: [member('agent'), member('dns-proxy', { state: 'drain' })] },
      ['proxy-away'],
    ],
    ['the proxy never came', { role: 'agent', members: [member('agent')] }, ['proxy-away']],
    [
      'nobody',
      { members: [], policy: { revision: 0, origin: 'none' } },
      ['no-member-serves', 'no-policy'],
    ],
    [
      'from the snapshot, with nobody to tell of changes',
      { policy: { revision: 7, origin: 'snapshot' }, isExchangeConnected: false },
      ['snapshot-only', 'exchange-down'],
    ],
    [
      'from a snapshot that is the newest policy',
      { policy: { revision: 7, origin: 'snapshot' } },
      [],
    ],
    [
      'an agent whose source was not read yet',
      { role: 'agent', policy: { revision: 7, origin: 'snapshot' } },
      ['snapshot-only'],
    ],
    [
      'a newer revision is in the datapath',
      { requiredRevision: 8, appliedRevision: 8 },
      ['policy-behind'],
    ],
    [
      'a newer revision is in no process and not in the datapath',
      { requiredRevision: 8 },
      ['policy-not-applied', 'policy-behind'],
    ],
    [
      'nothing was applied since boot, so judge is not attached',
      { appliedRevision: 0, isJudging: false },
      ['not-enforcing-yet'],
    ],
    ['judge lacks a hook', { isJudging: false }, ['judge-not-attached']],
    ['links that this process may not read', { isJudging: null }, []],
    ['not connected', { isExchangeConnected: false }, ['exchange-down']],
    ['full', { maps: [{ name: 'fqdn', entries: 91, capacity: 100 }] }, ['map-nearly-full']],
    ['broken input', { errors: 2 }, ['diagnostics']],
  ];

for (const [what, change, want] of rows) {
  test(what, () => {
    const facts = { ...well, ...change };
    const ofNode = nodeDegradations(facts);
    const problems = [...ofNode, ...processDegradations(facts)];
    assert.ok(ofNode.every(({ code }) => nodeCodes.has(code)));
    assert.deepEqual(
      problems.map(({ code }) => code),
      want,
    );
    for (const { message, fix } of problems) assert.ok(message.length > 20 && fix.length > 5);
  });
}
