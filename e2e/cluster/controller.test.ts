// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The controller against Kubernetes' own API server, with the rights that the chart gives it: who writes, what is written, and what is left to
 * others.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { writesAtOnce } from '@tandem/controller/limits';
import { waitFor } from '@tandem/testing/wait';
import { parse } from 'yaml';
import {
  type Audited,
  ControllerBed,
  definitionsPath,
  type Json,
  leaseMs,
  namespace,
  type RunningController,
} from './controller-bed.ts';
import { clusterPolicyDefinition } from './programs.ts';

const cilium = '/apis/cilium.io/v2';
const policiesPath = `${cilium}/namespaces/default/ciliumnetworkpolicies`;
const clusterwidePath = `${cilium}/ciliumclusterwidenetworkpolicies`;
const networkPath = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';
const apply = 'application/apply-patch+yaml';
const merge = 'application/merge-patch+json';

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly observedGeneration?: number;
  readonly message?: string;
  readonly lastTransitionTime?: string;
}

let bed: ControllerBed;

const goodSpec = { endpointSelector: {}, egress: [{ toCIDR: ['192.0.2.0/24'] }] };
const badSpec = { endpointSelector: {}, egress: [{ toCIDR: ['192.0.2.0/240'] }] };

const policy = (name: string, spec: object): object => ({
  ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata: { name }, spec },
});

async function conditionsOf(path: string): Promise<readonly Condition[]> {
  const { status } = await bed.api.call('GET', path);
  return (status as { readonly conditions?: readonly Condition[] } | undefined)?.conditions ?? [];
}

async function valid(path: string): Promise<Condition | null> {
  return (await conditionsOf(path)).find(({ type }) => type === 'Valid') ?? null;
}

async function becomes(path: string, status: string, message: RegExp): Promise<Condition> {
  const condition = await waitFor(
    async () => {
      const found = await valid(path);
      return found?.status === status && message.test(found.message ?? '') ? found : null;
    },
    { what: `${path} is Valid=${status}`, timeoutMs: 20_000 },
  );
  return condition;
}

/** Objects of a test are not there for the next one. */
async function removeAll(): Promise<void> {
  for (const path of [policiesPath, clusterwidePath, networkPath]) {
    // oxlint-disable-next-line no-await-in-loop -- three
    await bed.api.ask('DELETE', path);
  }
}

describe('the controller', () => {
  before(async () => {
    bed = await ControllerBed.start(['admission.traps=off']);
  });
  afterEach(async () => {
    await bed.stopControllers();
    await removeAll();
  });
  after(() => bed[Symbol.asyncDispose]());

  async function startLeader(name: string, ...args: readonly string[]): Promise<RunningController> {
    const controller = await bed.startController(name, args);
    await bed.ready(controller);
    await waitFor(async () => (await bed.metric(controller, 'tandem_controller_leader')) === 1, {
      what: `${name} leads`,
      timeoutMs: 20_000,
    });
    return controller;
  }

  test('kinds are defined by whoever leads, and ready is who can take over', async () => {
    const first = await bed.startController('first');
    await bed.ready(first);
    const second = await bed.startController('second');
    await bed.ready(second);
    for (const name of ['ciliumnetworkpolicies', 'ciliumclusterwidenetworkpolicies']) {
      const { metadata } = await bed.api.call('GET', `${definitionsPath}/${name}.cilium.io`);
      const { labels } = metadata as { readonly labels: Readonly<Record<string, string>> };
      assert.equal(labels['tandem.dev/definition-version'], '2');
    }
    await bed.metricIs(first, 'tandem_controller_leader', 1);
    await bed.metricIs(second, 'tandem_controller_leader', 0);
    assert.deepEqual(bed.writesOf('second'), []);
    assert.equal((await second.get('/healthz')).slice(0, 3), '200');
  });

  test('each policy has its condition, with what is wrong and where, and only changes are written', async () => {
    const leader = await startLeader('writer');
    await bed.api.call('POST', policiesPath, policy('good', goodSpec));
    await bed.api.call('POST', policiesPath, policy('bad', badSpec));
    await bed.api.call('POST', clusterwidePath, {
      ...policy('wide', { ...goodSpec, egress: [{ toEntities: ['ingress'] }] }),
      kind: 'CiliumClusterwideNetworkPolicy',
    });
    await becomes(`${policiesPath}/good`, 'True', /^Policy validation succeeded$/);
    const bad = await becomes(`${policiesPath}/bad`, 'False', /^spec\.egress\[0\]\.toCIDR\[0\]: /);
    await becomes(`${clusterwidePath}/wide`, 'True', /, with warnings: spec\.egress\[0\]/);
    const series = 'tandem_controller_policies{kind="CiliumNetworkPolicy",valid="false"}';
    await bed.metricIs(leader, series, 1);
    // Counted when the API server has answered.
    const conditions = 'tandem_controller_writes_total{target="condition",result="written"}';
    await bed.metricIs(leader, conditions, 3);
    const written = bed.writesOf('writer').length;
    // A change that says nothing new is not written; one that does keeps or sets the time.
    await bed.api.call('PATCH', `${policiesPath}/bad`, { metadata: { labels: { a: 'b' } } }, merge);
    const worse = { spec: { ...badSpec, ingress: [{ fromCIDR: ['x'] }] } };
    await bed.api.call('PATCH', `${policiesPath}/bad`, worse, merge);
    const still = await becomes(`${policiesPath}/bad`, 'False', /fromCIDR/);
    assert.equal(still.lastTransitionTime, bad.lastTransitionTime);
    await bed.api.call(
      'PATCH',
      `${policiesPath}/bad`,
      { spec: { ...goodSpec, ingress: null } },
      merge,
    );
    await becomes(`${policiesPath}/bad`, 'True', /^Policy validation succeeded$/);
    await bed.metricIs(leader, conditions, 5);
    assert.equal((await bed.writesAre('writer', written + 2)).length, written + 2);
  });

  test("other writers' conditions stay, and so does one of ours that another holds", async () => {
    const leader = await startLeader('guest');
    const path = `${policiesPath}/shared`;
    const statusOf = (conditions: readonly object[]): object => ({
      ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy' },
      ...{ metadata: { name: 'shared', namespace: 'default' }, status: { conditions } },
    });
    await bed.api.call('POST', policiesPath, policy('shared', badSpec));
    await becomes(path, 'False', /toCIDR/);
    const other = { type: 'Audited', status: 'True', message: 'by somebody' };
    await bed.api.call('PATCH', `${path}/status?fieldManager=other`, statusOf([other]), apply);
    await bed.api.call('PATCH', path, { spec: goodSpec }, merge);
    await becomes(path, 'True', /succeeded/);
    assert.deepEqual(
      (await conditionsOf(path)).find(({ type }) => type === 'Audited'),
      other,
    );
    // Cilium's operator takes the condition, and says something else of the policy than we do.
    const theirs = { type: 'Valid', status: 'False', message: 'their opinion' };
    await bed.api.call(
      'PATCH',
      `${path}/status?fieldManager=cilium-operator&force=true`,
      statusOf([theirs]),
      apply,
    );
    const foreign = 'tandem_controller_writes_total{target="condition",result="foreign"}';
    await waitFor(async () => (await bed.metric(leader, foreign)) >= 1, {
      what: 'the conflict',
      timeoutMs: 10_000,
    });
    assert.equal((await valid(path))?.message, 'their opinion');
    const writes = bed.writesOf('guest').length;
    // It is not fought over: the next attempt comes with the next change of the object.
    await bed.api.call('POST', policiesPath, policy('later', goodSpec));
    await becomes(`${policiesPath}/later`, 'True', /succeeded/);
    assert.equal((await bed.writesAre('guest', writes + 1)).length, writes + 1);
  });

  test("a ClusterNetworkPolicy has its condition in Kubernetes' own form, in the version that is served", async () => {
    const api = 'policy.networking.k8s.io';
    const text = readFileSync(await clusterPolicyDefinition('standard'), 'utf8');
    const { status: _, ...definition } = parse(text) as Json;
    const definitionPath = `${definitionsPath}/clusternetworkpolicies.${api}`;
    const leader = await startLeader('ordered');
    await bed.api.call('POST', definitionsPath, definition);
    const pathOf = (version: string): string => `/apis/${api}/${version}/clusternetworkpolicies`;
    const path = pathOf('v1beta1');
    const ingress = [{ action: 'Deny', from: [{ namespaces: {} }] }];
    const make = async (name: string, more: object, version = 'v1beta1'): Promise<void> => {
      const object = {
        ...{ apiVersion: `${api}/${version}`, kind: 'ClusterNetworkPolicy', metadata: { name } },
        spec: { tier: 'Admin', priority: 1, subject: { namespaces: {} }, ...more },
      };
      await waitFor(() => bed.api.call('POST', pathOf(version), object), {
        what: `${name} is made`,
        timeoutMs: 30_000,
      });
    };
    // The API does not ask what a selector says.
    const unread = { namespaces: { matchExpressions: [{ key: 'a', operator: 'In' }] } };
    await make('good', { ingress });
    await make('empty', {});
    await make('bad', { ingress, subject: unread });
    const good = await becomes(`${path}/good`, 'True', /^Policy validation succeeded$/);
    assert.deepEqual([good.reason, good.observedGeneration], ['PolicyValid', 1]);
    const empty = await becomes(`${path}/empty`, 'True', /has no effect/);
    assert.equal(empty.reason, 'PolicyWarning');
    const bad = await becomes(`${path}/bad`, 'False', /^spec\.subject\.namespaces/);
    assert.equal(bad.reason, 'PolicyInvalid');
    const series = 'tandem_controller_policies{kind="ClusterNetworkPolicy",valid="false"}';
    await bed.metricIs(leader, series, 1);
    // Another generation of which the same is to be said: it was read, and nothing changed. Others' conditions stay.
    const other = {
      ...{ type: 'Ready-In-Zone-a', status: 'True', reason: 'SetupSucceeded', message: '' },
      lastTransitionTime: '2026-01-01T00:00:00Z',
    };
    await bed.api.call(
      'PATCH',
      `${path}/good/status?fieldManager=other`,
      {
        ...{ apiVersion: `${api}/v1beta1`, kind: 'ClusterNetworkPolicy' },
        ...{ metadata: { name: 'good' }, status: { conditions: [other] } },
      },
      apply,
    );
    await bed.api.call('PATCH', `${path}/good`, { spec: { priority: 2 } }, merge);
    const again = await waitFor(
      async () => {
        const found = await valid(`${path}/good`);
        return found?.observedGeneration === 2 ? found : null;
      },
      { what: 'the next generation is read', timeoutMs: 20_000 },
    );
    assert.equal(again.lastTransitionTime, good.lastTransitionTime);
    assert.equal((await conditionsOf(`${path}/good`)).length, 2);
    // Where only the earlier version is served, that one is read and written.
    const { spec } = await bed.api.call('GET', definitionPath);
    const { versions } = spec as { readonly versions: readonly { readonly name: string }[] };
    const served = versions.map((each) => ({ ...each, served: each.name === 'v1alpha2' }));
    await bed.api.call('PATCH', definitionPath, { spec: { versions: served } }, merge);
    await make('early', { ingress }, 'v1alpha2');
    await becomes(`${pathOf('v1alpha2')}/early`, 'True', /^Policy validation succeeded$/);
    // It has the rights, and the definition takes what is written; of a version that was read until now 404 may come.
    const refused = bed
      .writesOf('ordered')
      .filter(({ status }) => status === 403 || status === 422);
    assert.deepEqual(refused, []);
    await bed.api.call('DELETE', definitionPath);
  });

  test('a NetworkPolicy that is not carried out as written has one event, however often controllers start', async () => {
    const spec = {
      podSelector: {},
      policyTypes: ['Ingress'],
      egress: [{ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] }],
    };
    await bed.api.call('POST', networkPath, { metadata: { name: 'half' }, spec });
    await bed.api.call('POST', networkPath, {
      metadata: { name: 'whole' },
      spec: { podSelector: {} },
    });
    interface Event {
      readonly note: string;
      readonly reason: string;
      readonly regarding: { readonly name: string; readonly uid: string };
      readonly reportingController: string;
    }
    const events = async (): Promise<readonly Event[]> => {
      const path = '/apis/events.k8s.io/v1/namespaces/default/events';
      return (await bed.api.call('GET', path))['items'] as readonly Event[];
    };
    await startLeader('teller');
    const first = await waitFor(async () => (await events())[0] ?? null, {
      what: 'an event',
      timeoutMs: 20_000,
    });
    assert.equal(first.regarding.name, 'half');
    assert.equal(first.reason, 'PolicyWarning');
    assert.equal(first.reportingController, 'tandem.dev/controller');
    assert.match(first.note, /^spec\.egress: has no effect/);
    await bed.stopControllers();
    const again = await startLeader('teller-again');
    const exists = 'tandem_controller_writes_total{target="event",result="exists"}';
    await waitFor(async () => (await bed.metric(again, exists)) === 1, {
      what: 'the same event',
      timeoutMs: 20_000,
    });
    assert.equal((await events()).length, 1);
  });

  test('a leader that is killed is followed within its lease', async () => {
    const first = await startLeader('killed');
    const second = await bed.startController('heir');
    await bed.ready(second);
    first.process.child.kill('SIGKILL');
    const startMs = performance.now();
    await bed.leads('heir', leaseMs * 3);
    const tookMs = performance.now() - startMs;
    assert.ok(tookMs < leaseMs * 1.5, `${tookMs} ms`);
    await bed.api.call('POST', policiesPath, policy('after', badSpec));
    await becomes(`${policiesPath}/after`, 'False', /toCIDR/);
  });

  test('a leader that is told to end gives the lease away', async () => {
    const first = await startLeader('polite');
    const second = await bed.startController('next');
    await bed.ready(second);
    const startMs = performance.now();
    await first.process.stop();
    await bed.leads('next', leaseMs * 2);
    assert.ok(performance.now() - startMs < leaseMs, 'before its end');
  });

  test('a leader that is stopped and wakes changes nothing, though it had work', async () => {
    const first = await startLeader('sleeper');
    const second = await bed.startController('awake');
    await bed.ready(second);
    // Work that takes it longer than it will be awake.
    const count = 200;
    await Promise.all(
      Array.from({ length: count }, (_, index) =>
        bed.api.call('POST', policiesPath, policy(`p${index}`, badSpec)),
      ),
    );
    await waitFor(() => bed.writesOf('sleeper').length > 5, {
      what: 'its work',
      timeoutMs: 10_000,
    });
    first.process.child.kill('SIGSTOP');
    const stoppedMs = Date.now();
    await bed.leads('awake', leaseMs * 3);
    assert.ok(Date.now() - stoppedMs < leaseMs * 1.5);
    const takenMs = Date.now();
    await waitFor(() => bed.writesOf('awake').length > 5, { what: 'the work', timeoutMs: 10_000 });
    first.process.child.kill('SIGCONT');
    await waitFor(async () => (await bed.metric(first, 'tandem_controller_leader')) === 0, {
      what: 'it knows',
      timeoutMs: 10_000,
    });
    const isDone = async (): Promise<boolean> =>
      (await bed.metric(second, 'tandem_controller_queue_length{kind="CiliumNetworkPolicy"}')) ===
      0;
    await waitFor(isDone, { what: 'all conditions', timeoutMs: 60_000 });
    // What it had handed over when it was stopped, and not sent: at most what is under way at once, and none that the other
    // has written: those are of a version that is gone.
    const late = bed.writesOf('sleeper').filter(({ atMs }) => atMs > takenMs);
    assert.ok(late.length <= writesAtOnce, JSON.stringify(late));
    const writes = (): readonly Audited[] =>
      [...bed.writesOf('sleeper'), ...bed.writesOf('awake')].filter(({ status }) => status === 200);
    // The API server answers a request before it writes the line of its audit log.
    await waitFor(() => writes().length >= count, {
      what: 'the audit log has all writes',
      state: () => `${writes().length} of ${count}`,
      timeoutMs: 30_000,
    });
    const written = writes();
    assert.equal(written.length, count);
    assert.equal(new Set(written.map(({ path }) => path)).size, count, 'each once');
    const { items } = (await bed.api.call('GET', policiesPath)) as unknown as {
      readonly items: readonly { readonly status?: { readonly conditions: readonly object[] } }[];
    };
    assert.equal(items.filter(({ status }) => status?.conditions.length === 1).length, count);
    assert.equal(await bed.holder(), 'awake');
    // The next leader finds nothing to write.
    await bed.stopControllers();
    const next = await startLeader('reader');
    const series = 'tandem_controller_policies{kind="CiliumNetworkPolicy",valid="false"}';
    await waitFor(async () => (await bed.metric(next, series)) === count, {
      what: 'all policies are read',
      timeoutMs: 20_000,
    });
    assert.deepEqual(bed.writesOf('reader'), []);
  });

  test('the taint of a node goes when agent and DNS proxy are ready there, and other taints stay', async () => {
    const other = { key: 'example.com/other', value: 'x', effect: 'NoExecute' };
    const taint = { key: 'tandem.dev/agent-not-ready', effect: 'NoSchedule' };
    for (const [name, taints] of [
      ['n1', [other, taint]],
      ['n2', [taint]],
      ['n3', [{ ...taint, effect: 'NoExecute' }]],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- three
      await bed.api.call('POST', '/api/v1/nodes', { metadata: { name }, spec: { taints } });
    }
    const leader = await startLeader('cleaner');
    const podsPath = `/api/v1/namespaces/${namespace}/pods`;
    const pod = async (daemonSet: string, node: string, isReady: boolean): Promise<void> => {
      const name = `${daemonSet}-${node}`;
      const owner = {
        apiVersion: 'apps/v1',
        kind: 'DaemonSet',
        name: daemonSet,
        uid: 'u',
        controller: true,
      };
      if ((await bed.api.ask('GET', `${podsPath}/${name}`)).status === 404) {
        await bed.api.call('POST', podsPath, {
          metadata: {
            ...{ name, ownerReferences: [owner] },
            labels: { 'app.kubernetes.io/name': daemonSet },
          },
          spec: { nodeName: node, containers: [{ name: 'c', image: 'i' }] },
        });
      }
      const conditions = [{ type: 'Ready', status: isReady ? 'True' : 'False' }];
      await bed.api.call('PATCH', `${podsPath}/${name}/status`, { status: { conditions } }, merge);
    };
    const taintsOf = async (node: string): Promise<readonly unknown[]> => {
      const { spec } = await bed.api.call('GET', `/api/v1/nodes/${node}`);
      const all = ((spec as Json)['taints'] ?? []) as readonly { readonly key: string }[];
      // What the API server gives each new node is not of the test.
      return all.filter(({ key }) => !key.startsWith('node.kubernetes.io/'));
    };
    await pod('tandem-agent', 'n1', true);
    await pod('tandem-agent', 'n2', true);
    await pod('tandem-dns-proxy', 'n2', false);
    await pod('tandem-dns-proxy', 'n1', true);
    const has = (node: string, count: number): Promise<unknown> =>
      waitFor(async () => (await taintsOf(node)).length === count, {
        what: `${node} has ${count} taints`,
        timeoutMs: 20_000,
      });
    await has('n1', 1);
    assert.deepEqual(await taintsOf('n1'), [other]);
    assert.deepEqual(await taintsOf('n2'), [taint], 'its DNS proxy is not ready');
    await pod('tandem-dns-proxy', 'n2', true);
    await has('n2', 0);
    assert.equal((await taintsOf('n3')).length, 1, 'nothing of ours runs there');
    // Agents that fail later take nothing away.
    await pod('tandem-agent', 'n2', false);
    await bed.api.call('PATCH', '/api/v1/nodes/n3', { metadata: { labels: { a: 'b' } } }, merge);
    await bed.api.call('POST', policiesPath, policy('turn', goodSpec));
    await becomes(`${policiesPath}/turn`, 'True', /succeeded/);
    assert.equal((await taintsOf('n2')).length, 0);
    await bed.metricIs(leader, 'tandem_controller_tainted_nodes', 1);
    // By its account nothing else of a node can be changed, whatever the program does.
    for (const body of [
      { metadata: { labels: { evil: 'x' } } },
      { spec: { unschedulable: true } },
      { spec: { taints: [other, { key: 'evil', effect: 'NoSchedule' }] } },
      { spec: { taints: [] } },
    ]) {
      // oxlint-disable-next-line no-await-in-loop -- four
      const { status } = await bed.api.ask('PATCH', '/api/v1/nodes/n1', body, merge, bed.token);
      assert.equal(status, 422, JSON.stringify(body));
    }
    for (const node of ['n1', 'n2', 'n3']) {
      // oxlint-disable-next-line no-await-in-loop -- three
      await bed.api.call('DELETE', `/api/v1/nodes/${node}`);
    }
    await bed.api.call('DELETE', podsPath);
  });
});
