// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { NodeReport } from '../node/report-model.ts';
import { clusterReport, problemsOf, processText } from './cluster-report.ts';
import { askable, nodePods } from './node-pods.ts';

interface PodFacts {
  readonly process?: 'agent' | 'dns-proxy';
  readonly node?: string;
  readonly name?: string;
  readonly state?: object;
  readonly isReady?: boolean;
  readonly isEnding?: boolean;
  readonly restarts?: number;
}

const pod = (facts: PodFacts): unknown => ({
  metadata: {
    name: facts.name ?? `${facts.process ?? 'agent'}-1`,
    namespace: 'kube-system',
    labels: { 'app.kubernetes.io/name': `tandem-${facts.process ?? 'agent'}` },
    ...(facts.isEnding === true ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
  },
  spec: { nodeName: facts.node ?? 'a' },
  status: {
    containerStatuses: [
      {
        state: facts.state ?? { running: {} },
        ready: facts.isReady ?? true,
        restartCount: facts.restarts ?? 0,
      },
    ],
  },
});
const node = (name: string): unknown => ({ metadata: { name } });

const member = (role: 'agent' | 'dns-proxy', isServing: boolean, revision: number) => ({
  ...{ index: role === 'agent' ? 0 : 1, role, isServing, revision },
  ...{ state: isServing ? ('live' as const) : ('dead' as const), heartbeatAgeMs: 1, pid: 1 },
});

function report(changes: Partial<NodeReport>): NodeReport {
  return {
    health: 'healthy',
    members: [member('agent', true, 7), member('dns-proxy', true, 7)],
    degraded: [],
    processes: [{ version: '1.0.0' }, { version: '1.0.0' }],
    policy: { requiredRevision: 7 },
    ...changes,
  } as unknown as NodeReport;
}

const answerOf = (
  name: string,
  changes: Partial<NodeReport> | null,
  pods = [pod({ node: name })],
) => ({
  ...nodePods([], pods)[0]!,
  node: name,
  report: changes === null ? null : report(changes),
  error: changes === null ? 'agent-1: no answer in time' : '',
});

describe('whom of a node to ask', () => {
  test('the ready agent, then the ready proxy, then what is not ready, then what ends', () => {
    const [{ pods } = { pods: [] }] = nodePods(
      [node('a')],
      [
        pod({ name: 'ending', isEnding: true }),
        pod({ name: 'unready', isReady: false }),
        pod({ name: 'proxy', process: 'dns-proxy' }),
        pod({ name: 'waiting', state: { waiting: { reason: 'ImagePullBackOff' } } }),
        pod({ name: 'agent' }),
      ],
    );
    assert.deepEqual(
      askable(pods).map(({ name }) => name),
      ['agent', 'proxy', 'ending', 'unready'],
    );
  });

  test('pods of others, and pods without a node, are none of ours', () => {
    const other = { metadata: { name: 'x', labels: {} }, spec: { nodeName: 'a' } };
    const pending = { ...(pod({}) as object), spec: {} };
    assert.deepEqual(nodePods([node('b'), node('a')], [other, pending, null, 7]), [
      { node: 'a', pods: [] },
      { node: 'b', pods: [] },
    ]);
  });
});

describe('health of the cluster', () => {
  const rows = [
    { what: 'all healthy', answers: [answerOf('a', {}), answerOf('b', {})], health: 'healthy' },
    {
      what: 'one degraded',
      answers: [answerOf('a', {}), answerOf('b', { health: 'degraded' })],
      health: 'degraded',
    },
    {
      what: 'one unreachable',
      answers: [answerOf('a', {}), answerOf('b', null)],
      health: 'degraded',
    },
    {
      what: 'one without Tandem',
      answers: [answerOf('a', {}), { node: 'b', pods: [], report: null, error: '' }],
      health: 'degraded',
    },
    {
      what: 'one down',
      answers: [answerOf('a', { health: 'down' }), answerOf('b', null)],
      health: 'down',
    },
  ] as const;
  for (const { what, answers, health } of rows) {
    test(what, () => assert.equal(clusterReport(answers).health, health));
  }

  test('versions are counted by process', () => {
    const processes = [
      { version: '1.0.0' },
      { version: '1.1.0' },
    ] as unknown as NodeReport['processes'];
    const { versions } = clusterReport([answerOf('a', {}), answerOf('b', { processes })]);
    assert.deepEqual(versions, { '1.0.0': 3, '1.1.0': 1 });
  });
});

describe('what is wrong with a node', () => {
  const problems = (answer: Parameters<typeof clusterReport>[0][number]): readonly string[] => {
    const [found] = clusterReport([answer]).nodes;
    assert.ok(found !== undefined);
    return problemsOf(found);
  };

  test('nothing', () => assert.deepEqual(problems(answerOf('a', {})), []));
  test('no pod there', () => {
    assert.match(
      problems({ node: 'a', pods: [], report: null, error: '' })[0] ?? '',
      /nothing is enforced/,
    );
  });
  test('a member behind the wanted revision', () => {
    const members = [member('agent', true, 7), member('dns-proxy', true, 6)];
    assert.deepEqual(problems(answerOf('a', { members })), ['a member serves an older revision']);
  });
  test('a member that does not serve is not skewed', () => {
    const members = [member('agent', true, 7), member('dns-proxy', false, 6)];
    assert.deepEqual(problems(answerOf('a', { members })), []);
  });
  test('restarts and the reason for no answer', () => {
    assert.deepEqual(problems(answerOf('a', null, [pod({ restarts: 3 })])), [
      'agent-1: no answer in time',
      'agent restarted 3 times',
    ]);
  });

  test('a process whose image is not there says so, but for one that serves beside it', () => {
    const stuck = pod({ name: 'new', state: { waiting: { reason: 'ImagePullBackOff' } } });
    const [down] = clusterReport([
      answerOf('a', { members: [member('dns-proxy', true, 7)] }, [stuck]),
    ]).nodes;
    const [up] = clusterReport([answerOf('a', {}, [stuck, pod({})])]).nodes;
    assert.ok(down !== undefined && up !== undefined);
    assert.equal(processText(down, 'agent'), 'ImagePullBackOff');
    assert.equal(processText(down, 'dns-proxy'), 'serves');
    assert.equal(processText(up, 'agent'), 'serves');
  });
});
