// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Degradations, from the pinned group and the answers of the processes. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { err, ok } from '@tandem/core/result';
import { tdGroup } from '@tandem/datapath/abi.gen';
import { type MemberStatus, NodeGroup } from '@tandem/datapath/group';
import { agentMember, proxyMember } from '@tandem/datapath/member';
import { type LaneStatusInit, Severity, StatusResponse } from '@tandem/proto/gen/messages';
import { healthyStatus } from '../../test/canned-node.ts';
import type { AdminAnswer, ProcessName } from '../admin/connection.ts';
import { nodeReport } from './report.ts';
import type { LanesReport, ReportInputs } from './report-model.ts';

const nowNs = 5e12;

/** As the group tells it. */
function member(
  role: ProcessName,
  { state = 'live', beatAgeMs = 12 }: Partial<Pick<MemberStatus, 'state' | 'beatAgeMs'>> = {},
): MemberStatus {
  const pinned = new NodeGroup(new ArrayBuffer(tdGroup.size));
  const index = role === 'agent' ? agentMember : proxyMember;
  pinned.join(index, 5, nowNs - beatAgeMs * 1e6, 1);
  pinned.setState(index, state);
  pinned.setRevision(index, 7);
  return pinned.members(nowNs)[0] as MemberStatus;
}

const group = (
  members: readonly MemberStatus[],
  required = 7,
  applied = 7,
): ReportInputs['group'] =>
  ok({ abiVersion: 1, requiredRevision: required, appliedRevision: applied, members });

function answer(process: ProcessName, degraded: readonly string[] = []): AdminAnswer {
  const init = {
    ...healthyStatus(process),
    degraded: degraded.map((code) => ({ code, message: `it says ${code}`, fix: 'mend it' })),
  };
  const status = StatusResponse.decode(StatusResponse.encode(init));
  return { process, path: `/run/${process}`, ok: true, status };
}

const silent = (process: ProcessName): AdminAnswer => ({
  ...{ process, path: `/run/${process}`, ok: false },
  reason: 'nobody listens',
});

const both = [member('agent'), member('dns-proxy')];
const answers = [answer('agent'), answer('dns-proxy')];
const stale = { beatAgeMs: 63_000 };

const rows: readonly (Partial<ReportInputs> & { name: string; health: string; codes: string[] })[] =
  [
    { name: 'all is well', health: 'healthy', codes: [] },
    {
      name: 'the agent was killed',
      group: group([member('agent', stale), member('dns-proxy')]),
      answers: [silent('agent'), answer('dns-proxy', ['agent-away'])],
      health: 'degraded',
      codes: ['agent-away'],
    },
    {
      name: 'the proxy was killed',
      group: group([member('agent'), member('dns-proxy', stale)]),
      answers: [answer('agent', ['proxy-away']), silent('dns-proxy')],
      health: 'degraded',
      codes: ['proxy-away'],
    },
    {
      name: 'the proxy never joined',
      group: group([member('agent')]),
      answers: [answer('agent'), silent('dns-proxy')],
      health: 'degraded',
      codes: ['proxy-away'],
    },
    {
      name: 'a process saw one late beat, and it has come since',
      answers: [answer('agent', ['member-stale']), answer('dns-proxy')],
      health: 'healthy',
      codes: [],
    },
    {
      name: 'both drain',
      group: group([member('agent', { state: 'drain' }), member('dns-proxy', { state: 'drain' })]),
      health: 'down',
      codes: ['no-member-serves'],
    },
    {
      name: 'both are dead',
      group: group([member('agent', stale), member('dns-proxy', { state: 'dead' })]),
      answers: [silent('agent'), silent('dns-proxy')],
      health: 'down',
      codes: ['no-member-serves'],
    },
    {
      name: 'nobody ever joined',
      group: group([], 0, 0),
      answers: [silent('agent'), silent('dns-proxy')],
      health: 'down',
      codes: ['no-member-serves', 'not-enforcing-yet'],
    },
    {
      name: 'both serve, one does not answer',
      answers: [silent('agent'), answer('dns-proxy')],
      health: 'degraded',
      codes: ['admin-unreachable'],
    },
    {
      name: 'what a process says is passed on once',
      answers: [answer('agent', ['exchange-down']), answer('dns-proxy', ['exchange-down'])],
      health: 'degraded',
      codes: ['exchange-down'],
    },
    {
      name: 'judge lacks a hook, which the agent reports too: one line',
      isJudging: ok(false),
      answers: [answer('agent', ['judge-not-attached']), answer('dns-proxy')],
      health: 'degraded',
      codes: ['judge-not-attached'],
    },
    {
      name: 'judge lacks a hook, and the agent does not answer',
      isJudging: ok(false),
      answers: [silent('agent'), answer('dns-proxy')],
      health: 'degraded',
      codes: ['judge-not-attached', 'admin-unreachable'],
    },
    {
      name: 'judge lacks a hook, which only the agent can read',
      isJudging: err('run it as root'),
      answers: [answer('agent', ['judge-not-attached']), answer('dns-proxy')],
      health: 'degraded',
      codes: ['judge-not-attached'],
    },
    {
      name: 'judge was put back since the agent answered',
      answers: [answer('agent', ['judge-not-attached']), answer('dns-proxy')],
      health: 'healthy',
      codes: [],
    },
    {
      name: 'the datapath lags',
      group: group(both, 8, 7),
      health: 'degraded',
      codes: ['policy-not-applied'],
    },
    {
      name: 'a full map, counted from the pins',
      maps: [{ name: 'policy', entries: 95, capacity: 100 }],
      health: 'degraded',
      codes: ['map-nearly-full'],
    },
    {
      name: 'pins that may not be read',
      group: err('run it as root'),
      isJudging: err('run it as root'),
      health: 'degraded',
      codes: ['group-unreadable'],
    },
    {
      name: 'pins that were removed under an agent that holds what they were',
      group: err('nothing is pinned'),
      isJudging: err('nothing is pinned'),
      answers: [answer('agent', ['pins-removed']), answer('dns-proxy')],
      health: 'degraded',
      codes: ['pins-removed'],
    },
  ];

for (const { name, health, codes, ...inputs } of rows) {
  test(`report: ${name}`, () => {
    const report = nodeReport({
      group: group(both),
      answers,
      maps: [],
      isJudging: ok(true),
      ...inputs,
    });
    assert.deepEqual(
      report.degraded.map(({ code }) => code),
      codes,
    );
    assert.equal(report.health, health);
    for (const { message, fix } of report.degraded) assert.ok(message !== '' && fix !== '');
  });
}

test('report: a member that select_member passes over is not said to serve, to the nanosecond', () => {
  for (const [beatAgeMs, isServing] of [
    [99.999, true],
    [100, false],
  ] as const) {
    const report = nodeReport({
      group: group([member('agent', { beatAgeMs }), member('dns-proxy')]),
      answers,
      maps: [],
      isJudging: ok(true),
    });
    assert.equal(report.members[0]?.isServing, isServing);
    assert.equal(
      report.degraded.some(({ code }) => code === 'member-stale'),
      !isServing,
    );
  }
});

test('report: the lanes of the node, the buffers of each process, and the pods as the agent knows them', () => {
  const told = (process: ProcessName, lanes: LaneStatusInit | null): AdminAnswer => {
    const status = StatusResponse.decode(
      StatusResponse.encode({ ...healthyStatus(process), lanes }),
    );
    return { process, path: `/run/${process}`, ok: true, status };
  };
  const lanesOf = (...given: AdminAnswer[]): LanesReport | null =>
    nodeReport({ group: group(both), answers: given, maps: [], isJudging: ok(true) }).lanes;
  const node = { selected: 900, selectedHeavy: 30, queriesRefused: 0, connectionsRefused: 2 };
  const noDrop = { queuedBytes: 0, queuedHeavyBytes: 0, dropped: 0, droppedHeavy: 0 };
  const agent = {
    ...{ ...node, knowsPods: true, heavyPods: ['shop/web', 'shop/api'], heavyPodsTotal: 70 },
    ...{ queuedHeavyBytes: 832, droppedHeavy: 5 },
  };
  assert.deepEqual(lanesOf(told('agent', agent), told('dns-proxy', node)), {
    ...node,
    buffers: [
      { process: 'agent', ...noDrop, queuedHeavyBytes: 832, droppedHeavy: 5 },
      { process: 'dns-proxy', ...noDrop },
    ],
    heavyPods: ['shop/web', 'shop/api'],
    heavyPodsTotal: 70,
  });
  const proxyAlone = lanesOf(silent('agent'), told('dns-proxy', node));
  assert.deepEqual([proxyAlone?.heavyPods, proxyAlone?.heavyPodsTotal], [null, null]);
  assert.equal(lanesOf(told('agent', null), silent('dns-proxy')), null, 'an older version');
});

test('report: counts of 0 of learned addresses are 0', () => {
  const [first] = answers;
  assert.ok(first?.ok);
  const init = { ...healthyStatus('agent'), learned: [{ namespace: 'shop', used: 4, share: 9 }] };
  const status = StatusResponse.decode(StatusResponse.encode(init));
  const { learned } = nodeReport({
    group: group(both),
    answers: [{ ...first, status }],
    maps: [],
    isJudging: ok(true),
  });
  const zero = { limit: 0, replaced: 0, yielded: 0, refused: 0 };
  assert.deepEqual(learned, [{ namespace: 'shop', used: 4, share: 9, ...zero }]);
});

test('report: a problem that several objects have is told of each, once', () => {
  const diagnostics = [1, 2, 3].map((i) => ({
    severity: Severity.SEVERITY_WARNING,
    code: 'fqdn-without-dns',
    subject: `CiliumNetworkPolicy/shop/p${i}`,
    message: 'no rules.dns',
  }));
  const told = (process: ProcessName): AdminAnswer => {
    const init = { ...healthyStatus(process), diagnostics };
    const status = StatusResponse.decode(StatusResponse.encode(init));
    return { process, path: `/run/${process}`, ok: true, status };
  };
  const report = nodeReport({
    group: group(both),
    answers: [told('agent'), told('dns-proxy')],
    maps: [],
    isJudging: ok(true),
  });
  assert.deepEqual(
    report.diagnostics.map(({ subject }) => subject),
    diagnostics.map(({ subject }) => subject),
  );
});
