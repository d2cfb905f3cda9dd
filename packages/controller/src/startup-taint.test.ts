// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { Fields } from '@tandem/core/k8s/shape';
import { KubeSession } from '@tandem/kube/session';
import { createLogger } from '@tandem/runtime/log';
import { ApiServer, respondStatus } from '@tandem/testing/api-server';
import { waitFor } from '@tandem/testing/wait';
import { StartupTaint, type StartupTaintOptions } from './startup-taint.ts';
import { emptyWriteCounts, Writer } from './writer.ts';

const key = 'tandem.dev/agent-not-ready';
const taint = { key, effect: 'NoSchedule' };
const other = { key: 'example.com/other', effect: 'NoExecute' };
const notReadyMs = 100;

let server: ApiServer;
let session: KubeSession;
let patches: { readonly path: string; readonly body: readonly Fields[] }[] = [];
/** Answers, one after the other; 200 when there is none. */
let answers: number[] = [];
const taints: StartupTaint[] = [];

before(async () => {
  server = await ApiServer.start();
  const endpoint = { url: server.url, ca: () => server.ca, authorization: () => null };
  session = new KubeSession({ endpoint });
  server.fault = ({ path }, stream) => {
    let text = '';
    stream.setEncoding('utf8').on('data', (part: string) => (text += part));
    stream.once('end', () => {
      patches.push({ path, body: JSON.parse(text) as readonly Fields[] });
      respondStatus(stream, answers.shift() ?? 200, 'answer');
    });
    return true;
  };
});
afterEach(() => {
  for (const each of taints.splice(0)) each.stop();
  patches = [];
  answers = [];
});
after(async () => {
  session.close();
  await server.stop();
});

function startupTaint(options: Partial<StartupTaintOptions> = {}): StartupTaint {
  const signal = new AbortController().signal;
  const made = new StartupTaint({
    ...{ taint: key, setsAgain: false, notReadyMs, isSynced: () => true },
    daemonSets: { agents: 'agent', proxies: 'dns-proxy' },
    writer: new Writer({ session, signal, isLeader: () => true }, emptyWriteCounts()),
    log: createLogger({ program: 'test', level: 'error' }),
    ...options,
  });
  taints.push(made);
  return made;
}

const node = (...given: readonly object[]): Fields => ({ spec: { taints: given } });
function pod(daemonSet: string, isReady: boolean): Fields {
  const owner = { apiVersion: 'apps/v1', kind: 'DaemonSet', name: daemonSet, controller: true };
  return {
    metadata: { ownerReferences: [owner] },
    spec: { nodeName: 'n1' },
    status: { conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }] },
  };
}
function ready(made: StartupTaint): void {
  made.pods.set('t/a', pod('agents', true));
  made.pods.set('t/p', pod('proxies', true));
}
const idle = (made: StartupTaint): Promise<unknown> =>
  waitFor(() => made.queue.length === 0, { what: 'the queue is empty' });

test('the taint goes, whatever its effect, and only while the others are as they were', async () => {
  const made = startupTaint();
  const evicting = { key, effect: 'NoExecute', timeAdded: '2026-01-01T00:00:00Z' };
  made.nodes.set('/n1', node(other, evicting, taint));
  ready(made);
  await waitFor(() => patches.length === 1, { what: 'the patch' });
  assert.deepEqual(patches[0], {
    path: '/api/v1/nodes/n1',
    body: [
      { op: 'test', path: '/spec/taints', value: [other, evicting, taint] },
      { op: 'replace', path: '/spec/taints', value: [other] },
    ],
  });
  await idle(made);
  assert.deepEqual(made.counters, { removed: 1, set: 0 });
  // Nothing of this is a reason for another one.
  made.nodes.set('/n1', node(other));
  made.pods.set('t/a', pod('agents', false));
  made.lookAtAll();
  await idle(made);
  assert.equal(patches.length, 1);
});

test('before pods and nodes are read whole nothing is removed', async () => {
  let isSynced = false;
  const made = startupTaint({ isSynced: () => isSynced });
  made.nodes.set('/n1', node(taint));
  ready(made);
  assert.equal(made.queue.length, 0);
  isSynced = true;
  made.lookAtAll();
  await waitFor(() => patches.length === 1, { what: 'the patch' });
  assert.deepEqual(patches[0]?.body[1], { op: 'remove', path: '/spec/taints' });
});

test('a patch that met other taints is made anew from those', async () => {
  const made = startupTaint();
  answers = [422];
  made.nodes.set('/n1', node(taint));
  ready(made);
  await waitFor(() => patches.length === 1, { what: 'the first' });
  made.nodes.set('/n1', node(taint, other));
  await waitFor(() => patches.length === 2, { what: 'the second' });
  assert.deepEqual(patches[1]?.body[1], { op: 'replace', path: '/spec/taints', value: [other] });
  await idle(made);
});

test('a node that goes, or has taints of odd shape, is left alone', async () => {
  const made = startupTaint();
  ready(made);
  for (const spec of [
    undefined,
    null,
    [],
    { taints: null },
    { taints: 'x' },
    { taints: [null, 1, {}] },
  ]) {
    made.nodes.set('/n1', { spec });
  }
  made.nodes.set('/n2', node(taint));
  made.nodes.delete('/n2');
  made.nodes.retain(new Set());
  await idle(made);
  assert.deepEqual(patches, []);
  assert.equal(made.tainted, 0);
});

test('pods of a former node of the name count when they became ready since, or after a while', async () => {
  const at = (creationTimestamp: string, lastTransitionTime: string, daemonSet: string): Fields => {
    const { metadata, spec } = pod(daemonSet, true);
    return {
      ...{ metadata: { ...(metadata as Fields), creationTimestamp }, spec },
      status: { conditions: [{ type: 'Ready', status: 'True', lastTransitionTime }] },
    };
  };
  const [early, created, late] = ['00', '10', '20'].map((each) => `2026-01-01T00:00:${each}Z`);
  assert.ok(early !== undefined && created !== undefined && late !== undefined);
  const object = { ...node(taint), metadata: { creationTimestamp: created } };
  const cases = [
    { name: 'of before', podTimes: [early, early], isNew: false },
    { name: 'ready again', podTimes: [early, late], isNew: true },
    { name: 'made since, on a node whose clock is behind', podTimes: [late, early], isNew: true },
  ] as const;
  for (const { name, podTimes, isNew } of cases) {
    const made = startupTaint();
    made.pods.set('t/p', at(late, late, 'proxies'));
    made.pods.set('t/a', at(...podTimes, 'agents'));
    made.nodes.set('/n1', object);
    assert.equal(made.queue.length, isNew ? 1 : 0, name);
    // The former one has no taint: the new one of its name has another time, and is looked at anew.
    made.nodes.set('/n1', { ...node(), metadata: { creationTimestamp: early } });
    made.nodes.delete('/n1');
    made.nodes.set('/n1', object);
    assert.equal(made.queue.length, isNew ? 1 : 0, name);
    made.stop();
  }
  patches = [];
  const waiting = startupTaint({ formerPodsMs: 200 });
  waiting.nodes.set('/n1', object);
  waiting.pods.set('t/p', at(early, early, 'proxies'));
  waiting.pods.set('t/a', at(early, early, 'agents'));
  assert.equal(waiting.queue.length, 0);
  await waitFor(() => waiting.counters.removed === 1, { what: 'the taint is removed' });
});

test('only where it is asked for, the taint comes back on a node without a ready agent', async () => {
  const quiet = startupTaint();
  const made = startupTaint({ setsAgain: true });
  for (const each of [quiet, made]) {
    each.nodes.set('/n1', node(other));
    ready(each);
    each.pods.set('t/a', pod('agents', false));
  }
  await waitFor(() => patches.length === 1, { what: 'the patch' });
  assert.deepEqual(patches[0]?.body[1], {
    op: 'replace',
    path: '/spec/taints',
    value: [other, taint],
  });
  await idle(made);
  assert.deepEqual(made.counters, { removed: 0, set: 1 });
  assert.deepEqual(quiet.counters, { removed: 0, set: 0 });
  made.nodes.set('/n1', node(other, taint));
  made.pods.set('t/a', pod('agents', true));
  await waitFor(() => patches.length === 2, { what: 'its end' });
  assert.deepEqual(patches[1]?.body[1], { op: 'replace', path: '/spec/taints', value: [other] });
  await idle(made);
  // One that is away for less than the time, or has no agent at all, gets none.
  made.nodes.set('/n1', node(other));
  made.pods.set('t/a', pod('agents', false));
  made.pods.set('t/a', pod('agents', true));
  made.pods.retain(new Set());
  await idle(made);
  assert.equal(patches.length, 2);
});
