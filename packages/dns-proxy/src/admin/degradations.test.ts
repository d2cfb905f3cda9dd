// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemberStatus } from '../group.ts';
import { degradationsOf, type NodeFacts } from './degradations.ts';

function member(role: 'agent' | 'dns-proxy', change: Partial<MemberStatus> = {}): MemberStatus {
  const index = role === 'agent' ? 0 : 1;
  return { index, role, state: 'live', pid: 10, epochNs: 1, beatAgeMs: 5, revision: 7, ...change };
}

const well: NodeFacts = {
  role: 'dns-proxy',
  members: [member('agent'), member('dns-proxy')],
  requiredRevision: 7,
  policy: { revision: 7, origin: 'agent' },
  isExchangeConnected: true,
  maps: [{ name: 'fqdn', entries: 90, capacity: 100 }],
  errors: 0,
  warnings: 3,
};

const rows: readonly (readonly [
  what: string,
  change: Partial<NodeFacts>,
  want: readonly string[],
])[] = [
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
    'the proxy stops',
    { role: 'agent', members: [member('agent'), member('dns-proxy', { state: 'drain' })] },
    ['proxy-away'],
  ],
  ['the proxy never came', { role: 'agent', members: [member('agent')] }, ['proxy-away']],
  [
    'nobody',
    { members: [], policy: { revision: 0, origin: 'none' } },
    ['agent-away', 'proxy-away', 'no-member-serves', 'no-policy'],
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
  ['behind', { requiredRevision: 8 }, ['policy-behind']],
  ['not connected', { isExchangeConnected: false }, ['exchange-down']],
  ['full', { maps: [{ name: 'fqdn', entries: 91, capacity: 100 }] }, ['map-nearly-full']],
  ['broken input', { errors: 2 }, ['diagnostics']],
];

for (const [what, change, want] of rows) {
  test(what, () => {
    const problems = degradationsOf({ ...well, ...change });
    assert.deepEqual(
      problems.map(({ code }) => code),
      want,
    );
    for (const { message, fix } of problems) assert.ok(message.length > 20 && fix.length > 5);
  });
}
