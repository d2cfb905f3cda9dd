// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Fields } from '@tandem/core/k8s/shape';
import { type ApiObject, ApiServer, respondStatus } from '@tandem/testing/api-server';
import { waitFor } from '@tandem/testing/wait';
import type { KubeEndpoint } from './endpoint.ts';
import { lineBytesMax } from './limits.ts';
import { ListWatch, type ListWatchOptions } from './list-watch.ts';
import type { Resource } from './resource.ts';
import { KubeSession } from './session.ts';

const pods: Resource = { path: '/api/v1/pods', apiVersion: 'v1', kind: 'Pod' };
const policies: Resource = {
  path: '/apis/cilium.io/v2/ciliumnetworkpolicies',
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  definition: 'ciliumnetworkpolicies.cilium.io',
};
const definitionsPath =
  '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ciliumnetworkpolicies.cilium.io';

let server: ApiServer;
let session: KubeSession;
let token = 'one';
const watches: ListWatch[] = [];

const pod = (name: string, labels: Readonly<Record<string, string>> = {}): ApiObject => ({
  ...{ apiVersion: 'v1', kind: 'Pod' },
  metadata: { name, namespace: 'shop', labels },
});

/** Objects by key, as a client of the list-watch has them. */
function follow(
  resource: Resource,
  options: Partial<
    Pick<ListWatchOptions, 'silenceMaxMs' | 'listSilenceMaxMs' | 'pageBytesMax'>
  > = {},
): {
  readonly objects: Map<string, Fields>;
  readonly watch: ListWatch;
} {
  const objects = new Map<string, Fields>();
  const watch = new ListWatch({
    session,
    resource,
    absentRetryMs: 100,
    ...options,
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

type Followed = ReturnType<typeof follow>;
const isSynced = ({ watch }: Followed): boolean => watch.state.kind === 'synced';
const synced = (followed: Followed): Promise<unknown> =>
  waitFor(() => isSynced(followed), { what: 'the list is whole' });
const has = ({ objects }: Followed, ...names: readonly string[]): boolean =>
  [...objects.keys()].sort().join() === names.map((name) => `shop/${name}`).join();
const holds = (followed: Followed, ...names: readonly string[]): Promise<unknown> =>
  waitFor(() => has(followed, ...names), { what: `objects ${names.join()}`, timeoutMs: 15_000 });

before(async () => {
  server = await ApiServer.start();
});
after(() => server.stop());
beforeEach(() => {
  const endpoint: KubeEndpoint = {
    url: server.url,
    ca: () => server.ca,
    authorization: () => `Bearer ${token}`,
  };
  session = new KubeSession({ endpoint, spreadMs: 100, pingIntervalMs: 200, pingTimeoutMs: 300 });
  server.put(pods.path, pod('a'));
  server.put(pods.path, pod('b'));
});
afterEach(async () => {
  const stopped = Promise.all(watches.splice(0).map((watch) => watch.stop()));
  session.close();
  await stopped;
  server.fault = () => false;
  server.hasWatchList = true;
  for (const name of ['a', 'b', 'c', 'd']) server.remove(pods.path, pod(name));
  server.requests.length = 0;
  server.connections = 0;
});

test('all objects of a kind, then each change, over one connection', async () => {
  const first = follow(pods);
  const second = follow(pods);
  await Promise.all([synced(first), synced(second)]);
  assert.ok(has(first, 'a', 'b') && has(second, 'a', 'b'));
  server.put(pods.path, pod('c'));
  server.remove(pods.path, pod('a'));
  server.put(pods.path, pod('b', { app: 'web' }));
  await holds(first, 'b', 'c');
  await waitFor(() => JSON.stringify(second.objects.get('shop/b')).includes('"app":"web"'), {
    what: 'the change',
  });
  assert.equal(server.connections, 1);
  assert.equal(server.requests.length, 2, 'a watch-list is the list and the watch');
});

test('a watch on which nothing happens asks for nothing, and its connection stays', async () => {
  const followed = follow(pods);
  await synced(followed);
  const startMs = performance.now();
  // Ten times the silence after which the connection gets a PING.
  await waitFor(() => performance.now() - startMs > 2000, { what: 'a while' });
  assert.deepEqual([server.requests.length, server.connections], [1, 1]);
  assert.deepEqual([session.counters.requests, session.counters.lost], [1, 0]);
});

test('a server without watch-lists is listed by pages and then watched', async () => {
  server.hasWatchList = false;
  for (let i = 0; i < 1200; i++) server.put(pods.path, pod(`many-${i}`));
  try {
    const followed = follow(pods);
    await synced(followed);
    assert.equal(followed.objects.size, 1202);
    assert.equal(followed.objects.get('shop/a')?.['kind'], 'Pod', 'as a watch tells it');
    const lists = server.requests.filter(({ query }) => query.get('limit') === '500');
    assert.deepEqual(
      lists.map(({ query }) => query.get('continue')),
      [null, '500', '1000'],
    );
    await waitFor(() => server.watching === 1, { what: 'the watch' });
    server.put(pods.path, pod('c'));
    await waitFor(() => followed.objects.has('shop/c'), { what: 'the change' });
  } finally {
    for (let i = 0; i < 1200; i++) server.remove(pods.path, pod(`many-${i}`));
  }
});

test('a page that is too long is asked for with fewer objects, whatever somebody writes into his', async () => {
  server.hasWatchList = false;
  const bytesMax = 1 << 16;
  const annotations = { note: 'x'.repeat(bytesMax / 8) };
  const large = Array.from({ length: 12 }, (_, i): ApiObject => {
    const { metadata, ...rest } = pod(`large-${i}`);
    return { ...rest, metadata: { ...metadata, annotations } };
  });
  for (const each of large) server.put(pods.path, each);
  try {
    const followed = follow(pods, { pageBytesMax: bytesMax });
    await synced(followed);
    assert.equal(followed.objects.size, 14);
    assert.equal(followed.watch.counters.failures, 0);
    const asked = server.requests.flatMap(({ query }) => query.get('limit') ?? []);
    assert.deepEqual(asked.slice(0, 4), ['500', '125', '31', '7']);
  } finally {
    for (const each of large) server.remove(pods.path, each);
  }
});

test('a watch that ends is resumed from where it was', async () => {
  const followed = follow(pods);
  await synced(followed);
  server.bookmark();
  server.endWatches();
  server.put(pods.path, pod('c'));
  await holds(followed, 'a', 'b', 'c');
  assert.equal(followed.watch.counters.lists, 1);
  assert.ok(followed.watch.counters.watches >= 1);
});

for (const how of ['event', 'status'] as const) {
  test(`410 as ${how}: everything is read anew, and what is gone goes`, async () => {
    const followed = follow(pods);
    await synced(followed);
    server.removeSilently(pods.path, pod('a'));
    server.forgetVersions();
    if (how === 'status') {
      server.fault = ({ query }, stream) => {
        if (query.get('resourceVersion') === null) return false;
        respondStatus(stream, 410, 'too old resource version');
        return true;
      };
    }
    server.endWatches();
    await holds(followed, 'b');
    assert.equal(followed.watch.counters.relists, 1);
    assert.equal(followed.watch.state.kind, 'synced');
  });
}

test('while the server refuses what was known stays, and the server’s patience is kept', async () => {
  const followed = follow(pods);
  await synced(followed);
  const refusedAt: number[] = [];
  server.fault = (_, stream) => {
    if (refusedAt.length >= 2) return false;
    refusedAt.push(performance.now());
    respondStatus(stream, 429, 'too many requests', { 'retry-after': '1' });
    return true;
  };
  server.endWatches();
  await waitFor(() => followed.watch.state.kind === 'stale', { what: 'it says so' });
  assert.ok(has(followed, 'a', 'b'));
  server.put(pods.path, pod('c'));
  await holds(followed, 'a', 'b', 'c');
  const [first = 0, second = 0] = refusedAt;
  assert.ok(second - first >= 1000, `asked again after ${second - first} ms`);
});

for (const how of ['event', 'status'] as const) {
  test(`a version at which each watch fails (${how}) is left, and everything is read anew`, async () => {
    const followed = follow(pods);
    await synced(followed);
    server.fault = ({ query }, stream) => {
      if (query.get('resourceVersion') === null) return false;
      if (how === 'status') respondStatus(stream, 400, 'no such version');
      else {
        stream.respond({ ':status': 200, 'content-type': 'application/json' });
        const object = { kind: 'Status', code: 500, reason: 'InternalError' };
        stream.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
      }
      return true;
    };
    server.removeSilently(pods.path, pod('a'));
    server.endWatches();
    await holds(followed, 'b');
    assert.deepEqual([followed.watch.counters.lists, isSynced(followed)], [2, true]);
  });
}

for (const how of ['silent', 'behind'] as const) {
  test(`a server that never ends the list of a watch-list (${how}) is listed by pages`, async () => {
    server.fault = ({ path, query }, stream) => {
      if (path !== pods.path || query.get('sendInitialEvents') === null) return false;
      if (how === 'silent') {
        stream.respond({ ':status': 200, 'content-type': 'application/json' });
        stream.write(`${JSON.stringify({ type: 'ADDED', object: pod('a') })}\n`);
      } else {
        const details = { causes: [{ reason: 'ResourceVersionTooLarge' }] };
        stream.respond({ ':status': 504, 'content-type': 'application/json' });
        stream.end(JSON.stringify({ kind: 'Status', code: 504, details }));
      }
      return true;
    };
    const followed = follow(pods, { listSilenceMaxMs: 300 });
    await synced(followed);
    server.put(pods.path, pod('c'));
    await holds(followed, 'a', 'b', 'c');
  });
}

test('a first list that never ends is not whole', async () => {
  server.fault = ({ path }, stream) => {
    if (path !== pods.path) return false;
    stream.respond({ ':status': 200, 'content-type': 'application/json' });
    stream.end(`${JSON.stringify({ type: 'ADDED', object: pod('a') })}\n{"type":"ADD`);
    return true;
  };
  const followed = follow(pods);
  await waitFor(() => followed.watch.counters.failures > 0, { what: 'the failure' });
  assert.deepEqual(followed.watch.state, {
    kind: 'waiting',
    message: 'the API server ended the list before its end',
    cause: 'server',
  });
  server.fault = () => false;
  await holds(followed, 'a', 'b');
  await synced(followed);
});

for (const kind of ['page', 'list of events'] as const) {
  test(`a ${kind} of which no more comes, though the connection lives, is asked for again`, async () => {
    server.hasWatchList = kind !== 'page';
    let stalled = 0;
    // Not the watch of the test before, which the server may read only now.
    const parameter = kind === 'page' ? 'limit' : 'sendInitialEvents';
    server.fault = ({ path, query }, stream) => {
      if (path !== pods.path || query.get(parameter) === null || stalled > 0) return false;
      stalled += 1;
      stream.respond({ ':status': 200, 'content-type': 'application/json' });
      stream.write('{"items":[');
      return true;
    };
    const followed = follow(pods, { listSilenceMaxMs: 300 });
    await waitFor(() => followed.watch.counters.failures > 0, { what: 'the failure' });
    assert.match(JSON.stringify(followed.watch.state), /the API server sends nothing/);
    await holds(followed, 'a', 'b');
    assert.deepEqual([stalled, session.counters.lost], [1, 0]);
  });
}

test('a line that is cut is no event, a line without end is refused', async () => {
  const followed = follow(pods);
  await synced(followed);
  let isLong = false;
  server.fault = ({ query }, stream) => {
    if (query.get('resourceVersion') === null) return false;
    stream.respond({ ':status': 200, 'content-type': 'application/json' });
    if (isLong) stream.write(Buffer.alloc(lineBytesMax + 1, 'x'));
    else stream.end('{"type":"DELETED","object":{"metadata":{"name":"a","namespa');
    isLong = true;
    return true;
  };
  server.endWatches();
  await waitFor(() => followed.watch.state.kind === 'stale', { what: 'it', timeoutMs: 15_000 });
  assert.match(JSON.stringify(followed.watch.state), /line of the API server is longer/);
  assert.ok(has(followed, 'a', 'b'));
  server.fault = () => false;
  server.put(pods.path, pod('c'));
  await holds(followed, 'a', 'b', 'c');
});

test('a connection on which nothing comes any more is given up', async () => {
  const followed = follow(pods);
  await synced(followed);
  server.freeze();
  server.put(pods.path, pod('c'));
  await holds(followed, 'a', 'b', 'c');
  assert.equal(session.counters.lost, 1);
});

test('a connection is kept while this process is too busy to hear the answer', async () => {
  const followed = follow(pods);
  await synced(followed);
  // Several turns of the event loop pass between a PING and its answer, each longer than what counts as busy.
  for (let turn = 0; turn < 6; turn++) {
    const untilMs = performance.now() + 500;
    while (performance.now() < untilMs);
    // oxlint-disable-next-line no-await-in-loop -- a turn
    await nextTurn();
  }
  server.put(pods.path, pod('c'));
  await holds(followed, 'a', 'b', 'c');
  assert.deepEqual([session.counters.lost, session.counters.connections], [0, 1]);
});

test('a watch on which nothing comes, though the connection lives, is made anew from the beginning', async () => {
  const followed = follow(pods, { silenceMaxMs: 300 });
  await synced(followed);
  server.removeSilently(pods.path, pod('a'));
  await waitFor(() => followed.watch.counters.lists >= 2, { what: 'the list', timeoutMs: 15_000 });
  await holds(followed, 'b');
});

test('a server that shuts down is left before it is gone', async () => {
  const followed = follow(pods);
  await synced(followed);
  server.goaway();
  server.put(pods.path, pod('c'));
  await holds(followed, 'a', 'b', 'c');
  server.cut();
  server.put(pods.path, pod('d'));
  await holds(followed, 'a', 'b', 'c', 'd');
  assert.equal(server.connections, 2);
});

test('after the notice of a shutdown the next connection is there before a watch needs it', async () => {
  const followed = follow(pods);
  await synced(followed);
  server.goaway();
  await waitFor(() => session.counters.connections === 2, { what: 'the next connection' });
  assert.equal(server.watching, 1, 'the open watch is served on');
  server.endWatches();
  server.put(pods.path, pod('c'));
  await holds(followed, 'a', 'b', 'c');
  assert.equal(server.connections, 2);
});

test('a kind that may not be looked for is not taken for absent', async () => {
  const followed = follow(policies);
  server.fault = ({ path }, stream) => {
    if (path !== definitionsPath) return false;
    respondStatus(stream, 403, 'forbidden');
    return true;
  };
  await waitFor(
    () => followed.watch.state.kind === 'waiting' && followed.watch.counters.failures > 0,
    {
      what: 'the refusal',
    },
  );
  assert.match(JSON.stringify(followed.watch.state), /ClusterRole must allow get/);
});

test('a token that was replaced is used for the next request', async () => {
  const followed = follow(pods);
  await synced(followed);
  token = 'two';
  server.endWatches();
  server.put(pods.path, pod('c'));
  await holds(followed, 'a', 'b', 'c');
  assert.deepEqual(
    [...new Set(server.requests.map((each) => each.authorization))],
    ['Bearer one', 'Bearer two'],
  );
  token = 'one';
});

test('a kind that is not there is absent, comes, and goes with its definition alone', async () => {
  const followed = follow(policies);
  const policy: ApiObject = { metadata: { name: 'web', namespace: 'shop' } };
  await waitFor(() => followed.watch.state.kind === 'absent', { what: 'absent' });
  server.put(policies.path, policy);
  server.serve(definitionsPath);
  await holds(followed, 'web');
  // As a server that starts: it does not know the kind yet, but has its definition.
  server.fault = ({ path }, stream) => {
    if (path !== policies.path) return false;
    respondStatus(stream, 404, 'not found');
    return true;
  };
  server.endWatches();
  await waitFor(() => followed.watch.state.kind === 'stale', { what: 'it', timeoutMs: 15_000 });
  assert.ok(has(followed, 'web'));
  // As a proxy in front of the server that has lost its route: 404 for every path, in words of its own.
  const foreign = ['404 page not found', '{"kind":"Status","code":404}', '{"reason":"NotFound"}'];
  for (const text of foreign) {
    const { failures } = followed.watch.counters;
    server.fault = (_, stream) => {
      stream.respond({ ':status': 404 });
      stream.end(text);
      return true;
    };
    server.endWatches();
    const isSeen = (): boolean =>
      followed.watch.counters.failures > failures &&
      /not one of an API server/.test(JSON.stringify(followed.watch.state));
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await waitFor(isSeen, { what: text, timeoutMs: 30_000 });
    assert.ok(has(followed, 'web'), text);
  }
  server.fault = () => false;
  server.unserve(policies.path);
  server.unserve(definitionsPath);
  await waitFor(() => followed.watch.state.kind === 'absent', { what: 'it', timeoutMs: 30_000 });
  assert.ok(has(followed));
});

test('of several versions the first that is served is read, and objects of others alone are no absence', async () => {
  const beta = policies.path.replace('v2', 'v3');
  const newer = {
    ...{ ...policies, path: beta, apiVersion: 'cilium.io/v3' },
    alternatives: [{ path: policies.path, apiVersion: policies.apiVersion }],
  };
  const define = (...versions: readonly string[]): void => {
    server.fault = ({ path }, stream) => {
      if (path !== definitionsPath) return false;
      stream.respond({ ':status': 200 });
      const served = versions.map((name) => ({ name, served: true }));
      stream.end(JSON.stringify({ spec: { versions: served } }));
      return true;
    };
  };
  define('v2', 'v3');
  server.put(policies.path, { metadata: { name: 'old', namespace: 'shop' } });
  const followed = follow(newer);
  await holds(followed, 'old');
  assert.equal(followed.watch.resource.apiVersion, 'cilium.io/v2');
  // The served version changes.
  server.put(beta, { metadata: { name: 'new', namespace: 'shop' } });
  server.unserve(policies.path);
  server.endWatches();
  await holds(followed, 'new');
  // Neither is served: by a definition that names one this may pass.
  server.unserve(beta);
  server.endWatches();
  await waitFor(() => followed.watch.state.kind === 'stale', { what: 'it', timeoutMs: 15_000 });
  assert.ok(has(followed, 'new'));
  // Objects of a version that is not read are objects: nothing is forgotten.
  const unread = policies.path.replace('v2', 'v9');
  server.put(unread, { metadata: { name: 'new', namespace: 'shop' } });
  define('v9');
  const isTold = (): boolean => {
    const { state } = followed.watch;
    return (
      state.kind === 'stale' && /as v9 alone, and this version reads v3, v2/.test(state.message)
    );
  };
  await waitFor(isTold, { what: 'the version', timeoutMs: 30_000 });
  assert.ok(has(followed, 'new'));
  const fresh = follow(newer);
  const isWaiting = (): boolean => {
    const { state } = fresh.watch;
    return state.kind === 'waiting' && /as v9 alone/.test(state.message);
  };
  await waitFor(isWaiting, { what: 'the version', timeoutMs: 30_000 });
  server.remove(unread, { metadata: { name: 'new', namespace: 'shop' } });
  await waitFor(() => followed.watch.state.kind === 'absent', { what: 'it', timeoutMs: 30_000 });
  assert.ok(has(followed));
  await waitFor(() => fresh.watch.state.kind === 'absent', { what: 'it', timeoutMs: 30_000 });
  server.fault = () => false;
});
