// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The list-watch against Kubernetes' own API server, with the chart's ClusterRole: run when TANDEM_KUBE_PROGRAMS
 * names a directory with `etcd` (3.7, for WatchList) and `kube-apiserver`.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { kubeResources, podsOfOtherNodes } from '@tandem/agent/source/kube-resources';
import { definitions } from '@tandem/controller/definitions';
import type { Fields } from '@tandem/core/k8s/shape';
import { ListWatch } from '@tandem/kube/list-watch';
import type { Resource } from '@tandem/kube/resource';
import { KubeSession } from '@tandem/kube/session';
import { waitFor } from '@tandem/testing/wait';
import { parse } from 'yaml';
import { redirectPolicy } from '../kit/objects.ts';
import { RealApiServer } from '../kit/real-api-server.ts';

const programs = process.env['TANDEM_KUBE_PROGRAMS'] ?? '';
const nodeName = 'n1';
const chartFile = (path: string): string =>
  fileURLToPath(new URL(`../../charts/tandem/${path}`, import.meta.url));

let api: RealApiServer;
let token = '';
const sessions: KubeSession[] = [];
const watches: ListWatch[] = [];

interface Followed {
  readonly objects: Map<string, Fields>;
  readonly watch: ListWatch;
}

function newSession(): KubeSession {
  const session = new KubeSession({
    endpoint: { url: api.url, ca: () => api.ca, authorization: () => `Bearer ${token}` },
    spreadMs: 100,
  });
  sessions.push(session);
  return session;
}

function follow(session: KubeSession, resource: Resource): Followed {
  const objects = new Map<string, Fields>();
  const watch = new ListWatch({
    session,
    resource,
    absentRetryMs: 500,
    sink: {
      set: (key, object) => objects.set(key, object),
      delete: (key) => objects.delete(key),
      retain: (keys) => {
        for (const key of objects.keys()) if (!keys.has(key)) objects.delete(key);
      },
      stateChanged: () => undefined,
    },
  });
  watches.push(watch);
  watch.start();
  return { objects, watch };
}

const followAll = (session: KubeSession): ReadonlyMap<string, Followed> =>
  new Map(
    [
      ...kubeResources(nodeName),
      { list: 'pods of other nodes', ...podsOfOtherNodes(nodeName) },
    ].map((resource) => [resource.list, follow(session, resource)]),
  );

const states = (all: ReadonlyMap<string, Followed>): string =>
  JSON.stringify([...all].map(([list, { watch }]) => [list, watch.state]));

async function becomes(what: string, condition: () => boolean): Promise<void> {
  await waitFor(condition, { what, timeoutMs: 30_000 });
}

const definition = (plural: string, kind: string): object => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: `${plural}.cilium.io` },
  spec: {
    group: 'cilium.io',
    names: { plural, singular: kind.toLowerCase(), kind, listKind: `${kind}List` },
    scope: kind === 'CiliumNetworkPolicy' ? 'Namespaced' : 'Cluster',
    versions: [
      {
        ...{ name: 'v2', served: true, storage: true },
        schema: {
          openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        },
      },
    ],
  },
});

/** Definition of ClusterNetworkPolicy with both versions, of which one is served. */
const versionedDefinition = (served: string): Readonly<Record<string, unknown>> => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: {
    name: 'clusternetworkpolicies.policy.networking.k8s.io',
    annotations: { 'api-approved.kubernetes.io': 'unapproved, of a test' },
  },
  spec: {
    group: 'policy.networking.k8s.io',
    names: {
      ...{ plural: 'clusternetworkpolicies', singular: 'clusternetworkpolicy' },
      ...{ kind: 'ClusterNetworkPolicy', listKind: 'ClusterNetworkPolicyList' },
    },
    scope: 'Cluster',
    versions: ['v1alpha2', 'v1beta1'].map((name) => ({
      ...{ name, served: name === served, storage: name === 'v1alpha2' },
      schema: {
        openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
      },
    })),
  },
});

const pod = (name: string, node: string): object => ({
  ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, labels: { app: name } } },
  spec: { nodeName: node, containers: [{ name: 'c', image: 'i' }] },
});
const podsPath = '/api/v1/namespaces/default/pods';
const definitionsPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

type Rule = Readonly<{ apiGroups?: readonly string[]; resourceNames?: readonly string[] }>;

/** Token of an account with those rules of the chart's ClusterRole that are kept. */
async function createAccount(
  name = 'tandem-agent',
  keep: (rule: Rule) => Rule | null = (rule) => rule,
): Promise<string> {
  const [, yaml = ''] =
    /\n(rules:\n[^{]*?)\n---/.exec(readFileSync(chartFile('templates/rbac.yaml'), 'utf8')) ?? [];
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const { rules: all } = parse(yaml) as { rules: readonly Rule[] };
  const rules = all.flatMap((rule) => keep(rule) ?? []);
  const metadata = { name };
  await api.call('POST', `${rbac}/clusterroles`, { metadata, rules });
  await api.call('POST', `${rbac}/clusterrolebindings`, {
    metadata,
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', ...metadata },
    subjects: [{ kind: 'ServiceAccount', namespace: 'default', ...metadata }],
  });
  const accounts = '/api/v1/namespaces/default/serviceaccounts';
  await api.call('POST', accounts, { metadata });
  const { status } = await api.call('POST', `${accounts}/${name}/token`, { spec: {} });
  return (status as { token: string }).token;
}

describe('the real API server', { skip: programs === '' }, () => {
  before(async () => {
    api = await RealApiServer.start(programs);
    await waitFor(() => api.call('GET', '/api/v1/namespaces/default'), {
      what: 'the namespace',
      timeoutMs: 30_000,
    });
    token = await createAccount();
    for (const [name, node] of [
      ['mine', nodeName],
      ['theirs', 'n2'],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- two
      await api.call('POST', podsPath, pod(name, node));
    }
  });
  afterEach(async () => {
    const stopped = Promise.all(watches.splice(0).map((watch) => watch.stop()));
    for (const session of sessions.splice(0)) session.close();
    await stopped;
  });
  after(() => api[Symbol.asyncDispose]());

  test('every list is whole over one connection, by the ClusterRole of the chart', async () => {
    const session = newSession();
    const all = followAll(session);
    await becomes('all lists', () =>
      [...all.values()].every(({ watch }) => watch.state.kind !== 'waiting'),
    ).catch((error: unknown) => assert.fail(`${String(error)}: ${states(all)}`));
    assert.equal(all.get('ciliumnetworkpolicies')?.watch.state.kind, 'absent');
    assert.equal(session.counters.connections, 1);
    assert.deepEqual([...(all.get('pods of this node')?.objects.keys() ?? [])], ['default/mine']);
    assert.deepEqual(
      [...(all.get('pods of other nodes')?.objects.keys() ?? [])],
      ['default/theirs'],
    );
    for (const { watch } of all.values()) assert.equal(watch.counters.unknown, 0);
    await api.call('POST', podsPath, pod('later', nodeName));
    const own = all.get('pods of this node');
    await becomes('the new pod', () => own?.objects.has('default/later') === true);
    assert.equal(own?.objects.get('default/later')?.['kind'], 'Pod');
    await api.call('DELETE', `${podsPath}/later?gracePeriodSeconds=0`);
    await becomes('its end', () => own?.objects.has('default/later') === false);
    assert.equal(own?.watch.counters.lists, 1);
  });

  test('a kind comes and goes with its definition', async () => {
    const resource = kubeResources(nodeName).find(({ list }) => list === 'ciliumnetworkpolicies');
    assert.ok(resource !== undefined);
    const { objects, watch } = follow(newSession(), resource);
    await becomes('absent', () => watch.state.kind === 'absent');
    const plural = 'ciliumnetworkpolicies';
    await api.call('POST', definitionsPath, definition(plural, 'CiliumNetworkPolicy'));
    const path = `/apis/cilium.io/v2/namespaces/default/${plural}`;
    const policy = {
      ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata: { name: 'p' } },
      spec: { endpointSelector: {} },
    };
    await waitFor(() => api.call('POST', path, policy), { what: 'the kind', timeoutMs: 30_000 });
    await becomes('the policy', () => objects.has('default/p'));
    await api.call('DELETE', `${definitionsPath}/${plural}.cilium.io`);
    await becomes('absent again', () => watch.state.kind === 'absent' && objects.size === 0);
  });

  test('by the ClusterRole of a version that did not know a kind it is absent as long as nobody has it', async () => {
    const group = 'policy.networking.k8s.io';
    const former = token;
    token = await createAccount('older-agent', (rule) => {
      if (rule.apiGroups?.includes(group) === true) return null;
      const { resourceNames } = rule;
      const names = resourceNames?.filter((name) => !name.endsWith(group));
      return names === undefined ? rule : { ...rule, resourceNames: names };
    });
    try {
      const resource = kubeResources(nodeName).find(
        ({ list }) => list === 'clusternetworkpolicies',
      );
      assert.ok(resource !== undefined);
      const { watch } = follow(newSession(), resource);
      await becomes('absent', () => watch.state.kind === 'absent' && watch.state.isForbidden);
      await api.call('POST', definitionsPath, versionedDefinition('v1alpha2'));
      await becomes('refused', () => watch.state.kind === 'waiting' && watch.counters.failures > 1);
      assert.match(JSON.stringify(watch.state), /403: its ClusterRole must allow/);
      await api.call('DELETE', `${definitionsPath}/${resource.definition}`);
      await becomes('absent again', () => watch.state.kind === 'absent');
    } finally {
      token = former;
    }
  });

  test('of the versions of a kind the served one is read', async () => {
    const resource = kubeResources(nodeName).find(({ list }) => list === 'clusternetworkpolicies');
    assert.ok(resource !== undefined);
    const { objects, watch } = follow(newSession(), resource);
    await becomes('absent', () => watch.state.kind === 'absent');
    const name = resource.definition ?? '';
    const made = await api.call('POST', definitionsPath, versionedDefinition('v1alpha2'));
    const path = '/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies';
    const apiVersion = 'policy.networking.k8s.io/v1alpha2';
    const policy = { apiVersion, kind: 'ClusterNetworkPolicy', metadata: { name: 'p' } };
    await waitFor(() => api.call('POST', path, policy), { what: 'the kind', timeoutMs: 30_000 });
    await becomes('the policy', () => objects.get('/p')?.['apiVersion'] === apiVersion);
    const { metadata } = await api.call('GET', `${definitionsPath}/${name}`);
    const changed = { ...made, ...versionedDefinition('v1beta1'), metadata };
    await api.call('PUT', `${definitionsPath}/${name}`, changed);
    const isNew = (): boolean =>
      objects.get('/p')?.['apiVersion'] === 'policy.networking.k8s.io/v1beta1';
    // The server ends watches of a version that it stops to serve.
    await becomes('the other version', isNew);
    assert.equal(watch.state.kind, 'synced');
    await api.call('DELETE', `${definitionsPath}/${name}`);
    await becomes('absent again', () => watch.state.kind === 'absent' && objects.size === 0);
  });

  test('a server that is shut down is left for the next, without a gap', async () => {
    const session = newSession();
    const { objects, watch } = follow(session, podsOfOtherNodes(nodeName));
    await becomes('the list', () => watch.state.kind === 'synced');
    await api.startServer();
    await api.endServer('SIGTERM');
    // Or the one after it: the port is shared until the old server has closed its socket.
    await becomes('the next connection', () => session.counters.connections >= 2);
    await api.call('POST', podsPath, pod('during', 'n2'));
    await becomes('an event', () => objects.has('default/during'));
    assert.equal(watch.counters.failures, 0);
  });

  test('after a restart all versions of before are too old: what went meanwhile goes', async () => {
    const session = newSession();
    const { objects, watch } = follow(session, podsOfOtherNodes(nodeName));
    await becomes('the list', () => objects.has('default/theirs'));
    await api.call('POST', podsPath, pod('gone', 'n2'));
    await becomes('the pod', () => objects.has('default/gone'));
    // Not of this watch, whose version is thereby older than what the next server knows.
    await api.call('POST', podsPath, pod('unseen', nodeName));
    await api.endServer('SIGKILL');
    await api.startServer();
    await api.call('DELETE', `${podsPath}/gone?gracePeriodSeconds=0`);
    await becomes('its end', () => watch.state.kind === 'synced' && !objects.has('default/gone'));
    assert.ok(objects.has('default/theirs'));
    assert.ok(watch.counters.relists > 0);
  });

  test('the definition of CiliumLocalRedirectPolicy: what is redirected cannot be changed', async () => {
    const made = definitions.find(({ spec }) =>
      JSON.stringify(spec).includes('CiliumLocalRedirectPolicy'),
    );
    assert.ok(made !== undefined);
    const { name, spec: served } = made;
    const [apiVersion, kind] = ['apiextensions.k8s.io/v1', 'CustomResourceDefinition'];
    await api.call('POST', definitionsPath, { apiVersion, kind, metadata: { name }, spec: served });
    const path = '/apis/cilium.io/v2/namespaces/default/ciliumlocalredirectpolicies';
    const object = redirectPolicy({ name: 'cache', namespace: 'default' }) as Fields;
    const stored = await waitFor(() => api.call('POST', path, object), {
      what: 'the kind to be served',
      timeoutMs: 30_000,
    });
    assert.deepEqual(stored['spec'], object['spec'], 'nothing of it is lost');
    const change = (spec: object): Promise<unknown> =>
      api.call('PUT', `${path}/cache`, {
        ...stored,
        spec: { ...(stored['spec'] as object), ...spec },
      });
    await change({});
    const frontend = { serviceMatcher: { serviceName: 'other', namespace: 'default' } };
    await assert.rejects(change({ redirectFrontend: frontend }), /immutable/);
    const { redirectBackend } = stored['spec'] as { redirectBackend: object };
    const backend = { ...redirectBackend, localEndpointSelector: { matchLabels: { app: 'x' } } };
    await assert.rejects(change({ redirectBackend: backend }), /immutable/);
  });

  test('a server without watch-lists is listed by pages', async () => {
    await api.endServer('SIGKILL');
    await api.startServer('--feature-gates=WatchList=false');
    const { objects, watch } = follow(newSession(), podsOfOtherNodes(nodeName));
    await becomes('the list', () => watch.state.kind === 'synced' && objects.has('default/theirs'));
    assert.equal(objects.get('default/theirs')?.['kind'], 'Pod');
    assert.equal(watch.counters.lists, 2, 'the watch-list that is refused, the list');
    await api.call('POST', podsPath, pod('paged', 'n2'));
    await becomes('an event', () => objects.has('default/paged'));
  });

  test('an account that is taken away: what was known stays', async () => {
    const session = newSession();
    const { objects, watch } = follow(session, podsOfOtherNodes(nodeName));
    await becomes('the list', () => watch.state.kind === 'synced');
    await api.call('DELETE', '/api/v1/namespaces/default/serviceaccounts/tandem-agent');
    await api.endServer('SIGKILL');
    await api.startServer();
    await becomes(
      'the refusal',
      () => watch.state.kind === 'stale' && / 401/.test(JSON.stringify(watch.state)),
    );
    assert.ok(objects.has('default/theirs'));
  });
});
