// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import type { ClusterState } from '@tandem/core/policy/model/cluster-state';
import type { KubeEndpoint } from '@tandem/kube/endpoint';
import { silentLogger } from '@tandem/runtime/log';
import { Metrics } from '@tandem/runtime/metrics';
import { type ApiObject, ApiServer, respondJson, respondStatus } from '@tandem/testing/api-server';
import { waitFor } from '@tandem/testing/wait';
import { Sandboxes } from '../gate/sandboxes.ts';
import { unenforcedNamesMax } from '../limits.ts';
import { kubeResources } from './kube-resources.ts';
import { KubeSource } from './kube-source.ts';
import { unenforcedKinds } from './unenforced-kinds.ts';

const podsPath = '/api/v1/pods';
const namespacesPath = '/api/v1/namespaces';
const servedPaths = kubeResources('n1')
  .filter(({ definition }) => definition === undefined)
  .map(({ path }) => path);

let server: ApiServer;
let source: KubeSource;
let applied: ClusterState[] = [];

const pod = (name: string, labels: Readonly<Record<string, string>> = {}): ApiObject => ({
  ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'shop', labels } },
  spec: { nodeName: 'n2' },
  status: { podIPs: [{ ip: '10.1.0.5' }] },
});
const last = (): ClusterState => {
  const state = applied.at(-1);
  assert.ok(state !== undefined);
  return state;
};
const createSource = (endpoint: Partial<KubeEndpoint> = {}): KubeSource =>
  new KubeSource({
    endpoint: {
      ...{ url: server.url, ca: () => server.ca, authorization: () => 'Bearer test' },
      ...endpoint,
    },
    nodeName: 'n1',
    sandboxes: new Sandboxes(() => undefined),
    apply: async (state) => void applied.push(state),
    log: silentLogger(),
  });
before(async () => {
  server = await ApiServer.start();
});
after(() => server.stop());
beforeEach(() => {
  applied = [];
  server.serve(...servedPaths);
  server.put(podsPath, pod('a'));
  source = createSource();
});
afterEach(async () => {
  server.fault = () => false;
  await source.stop();
  for (const name of ['a', 'b']) server.remove(podsPath, pod(name));
});

test('nothing is applied before every list is whole', async () => {
  server.fault = ({ path }, stream) => {
    if (path !== namespacesPath) return false;
    respondStatus(stream, 403, 'forbidden');
    return true;
  };
  const started = source.start();
  const problem = (): string => source.degradations[0]?.message ?? '';
  await waitFor(() => server.watching >= 6 && /namespaces: .*403.*ClusterRole/.test(problem()), {
    what: 'the refusal alone',
  });
  assert.equal(applied.length, 0);
  server.fault = () => false;
  await started;
  await waitFor(() => applied.length > 0, { what: 'the first state', timeoutMs: 10_000 });
  assert.deepEqual([...last().pods.keys()], ['shop/a']);
  assert.deepEqual(source.degradations, []);
});

test('the advice is that of the cause', async () => {
  const advice = (): string => source.degradations[0]?.fix ?? '';
  const says = (fix: RegExp): Promise<unknown> =>
    waitFor(() => fix.test(advice()), { what: `${fix.source}` });
  for (const [status, fix] of [
    [401, /token/],
    [403, /ClusterRole/],
    [500, /does not answer as a Kubernetes API/],
  ] as const) {
    source = createSource();
    server.fault = (_, stream) => {
      respondStatus(stream, status, 'refused');
      return true;
    };
    void source.start();
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await says(fix);
    assert.doesNotMatch(advice(), /reachable/);
    // oxlint-disable-next-line no-await-in-loop
    await source.stop();
  }
  source = createSource({ ca: () => null });
  void source.start();
  await says(/authority that signed the certificate/);
  const { message } = source.degradations[0] ?? { message: '' };
  assert.match(message, /certificate is not accepted: .*DEPTH_ZERO_SELF_SIGNED_CERT/);
  assert.doesNotMatch(message, /Node\.js/);
  await source.stop();
  source = createSource({
    ca: () => {
      throw Object.assign(new Error('ENOENT: ca.crt'), { code: 'ENOENT' });
    },
  });
  void source.start();
  await says(/token or client certificate/);
});

test('changes that come together are one, and what changes nothing is none', async () => {
  await source.start();
  const first = applied.length;
  for (const name of ['a', 'b']) server.put(podsPath, pod(name, { app: 'web' }));
  // The maps of a state are those of the next.
  const isApplied = (count: number, app: string): boolean =>
    applied.length >= first + count && last().pods.get('shop/b')?.labels.get('app') === app;
  await waitFor(() => isApplied(1, 'web'), { what: 'the change' });
  assert.equal(applied.length, first + 1);
  const asked = server.requests.length;
  server.put(podsPath, {
    ...pod('b', { app: 'web' }),
    status: { podIPs: [{ ip: '10.1.0.5' }], conditions: [] },
  });
  server.put(podsPath, pod('b', { app: 'db' }));
  await waitFor(() => isApplied(2, 'db'), { what: 'the next' });
  assert.equal(applied.length, first + 2);
  assert.equal(server.requests.length, asked, 'no list was read again');
});

test('a kind without a definition is a note, and no fault', async () => {
  await source.start();
  assert.ok(applied.length > 0);
  assert.match(source.notes.join('\n'), /the API server has no ciliumnetworkpolicies/);
  assert.deepEqual(source.degradations, []);
});

test('a kind that may not be read and that nobody has keeps nothing from being applied, one that is served does', async () => {
  const list = 'clusternetworkpolicies';
  const kind = kubeResources('n1').find((each) => each.list === list);
  assert.ok(kind !== undefined);
  const group = '/apis/policy.networking.k8s.io';
  let versions: Readonly<Record<string, readonly string[]>> | null = { v1beta1: [list] };
  // As the ClusterRole of a version that did not know the kind: neither it nor its definition may be read, discovery may.
  server.fault = ({ path }, stream) => {
    const version = path.slice(group.length + 1);
    if (path.startsWith(`${group}/v`) && path.endsWith(list)) respondStatus(stream, 403, 'no');
    else if (path.endsWith(kind.definition ?? '')) respondStatus(stream, 403, 'no');
    else if (!path.startsWith(group)) return false;
    else if (versions === null) respondStatus(stream, 404, 'not found');
    else if (path === group)
      respondJson(stream, 200, {
        versions: Object.keys(versions).map((each) => ({ version: each })),
      });
    else if (versions[version] === undefined) return false;
    else respondJson(stream, 200, { resources: versions[version].map((name) => ({ name })) });
    return true;
  };
  const problem = (): string => source.degradations[0]?.message ?? '';
  const isNoted = (): boolean =>
    source.notes.some((note) =>
      /no clusternetworkpolicies.*may not read them.*ClusterRole/.test(note),
    );
  void source.start();
  await waitFor(() => /clusternetworkpolicies: .*403/.test(problem()), { what: 'the refusal' });
  await waitFor(() => server.watching >= servedPaths.length, { what: 'the other lists' });
  assert.deepEqual([applied.length, isNoted()], [0, false], 'a Deny could be missed');
  await source.stop();
  for (const none of [null, {}, { v1alpha1: ['adminnetworkpolicies'] }]) {
    versions = none;
    applied = [];
    source = createSource();
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await source.start();
    // oxlint-disable-next-line no-await-in-loop
    await waitFor(() => applied.length > 0, { what: 'the state', timeoutMs: 20_000 });
    assert.ok(isNoted());
    assert.deepEqual(source.degradations, []);
    // oxlint-disable-next-line no-await-in-loop
    if (none !== null && 'v1alpha1' in none) break;
    // oxlint-disable-next-line no-await-in-loop
    await source.stop();
  }
  // The kind comes: said by its name, and the rest is followed.
  versions = { v1beta1: [list] };
  await waitFor(
    () => /^the Kubernetes API cannot be read: clusternetworkpolicies: /.test(problem()),
    {
      what: 'the kind that came',
      timeoutMs: 60_000,
    },
  );
  assert.match(problem(), /the others are followed; pods that start now are held/);
  assert.equal(source.unread, list);
  server.put(podsPath, pod('b'));
  await waitFor(() => last().pods.has('shop/b'), { what: 'the pod', timeoutMs: 20_000 });
  // It may be read, and has no objects: pods that wait are looked at again.
  const seen = applied.length;
  server.serve(...servedPaths, kind.path);
  server.fault = () => false;
  await waitFor(() => source.unread === '' && applied.length > seen, {
    what: 'the kind to be read',
    timeoutMs: 90_000,
  });
});

test('metrics tell each list', async () => {
  const metrics = new Metrics();
  source.addMetrics(metrics);
  await source.start();
  await waitFor(
    async () => /tandem_kube_objects\{list="pods of other nodes"\} 1/.test(await metrics.text()),
    {
      what: 'the pod',
    },
  );
  const text = await metrics.text();
  assert.match(text, /tandem_kube_connections_total 1\n/);
  assert.match(text, /tandem_kube_stale_seconds\{list="namespaces"\} 0\n/);
});

test('objects of kinds that are not enforced are named, and nothing waits for them', async () => {
  const [admin, baseline] = unenforcedKinds;
  assert.ok(admin !== undefined && baseline !== undefined);
  const object = (name: string): ApiObject => ({
    ...{ apiVersion: admin.apiVersion, kind: admin.kind, metadata: { name } },
  });
  server.fault = ({ path }, stream) => {
    const isDiscovery = path === '/apis/policy.networking.k8s.io';
    if (path !== baseline.path && !isDiscovery) return false;
    respondStatus(stream, 403, 'forbidden');
    return true;
  };
  server.serve(admin.path);
  for (let i = 0; i < unenforcedNamesMax + 3; i++) server.put(admin.path, object(`p${100 + i}`));
  await source.start();
  await waitFor(() => applied.length > 0, { what: 'the state', timeoutMs: 10_000 });
  assert.deepEqual(source.degradations, []);
  const subjects = (): readonly string[] => source.diagnostics.map(({ subject }) => subject);
  await waitFor(() => subjects().length === unenforcedNamesMax + 1, { what: 'the names' });
  assert.equal(subjects()[0], 'AdminNetworkPolicy p100');
  assert.equal(subjects().at(-1), 'AdminNetworkPolicy and 3 more');
  const [first] = source.diagnostics;
  assert.match(first?.message ?? '', /write it as a ClusterNetworkPolicy of .* tier: Admin/);
  await waitFor(() => source.notes.some((note) => /BaselineAdminNetworkPolicy.*403/.test(note)), {
    what: 'the kind that may not be read',
  });
  for (let i = 0; i < unenforcedNamesMax + 3; i++) server.remove(admin.path, object(`p${100 + i}`));
  await waitFor(() => subjects().length === 0, { what: 'none' });
});
