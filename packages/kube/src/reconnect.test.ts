// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Many agents of one API server that goes away: they come back spread, and each over one connection. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ApiServer } from '@tandem/testing/api-server';
import { waitFor } from '@tandem/testing/wait';
import { ListWatch } from './list-watch.ts';
import { KubeSession } from './session.ts';

const agents = 200;
const spreadMs = 6000;
/** The last of so many come later than this. */
const widthMinMs = 5000;
const resources = ['pods', 'namespaces'].map((plural) => ({
  ...{ path: `/api/v1/${plural}`, apiVersion: 'v1', kind: plural },
}));

let server: ApiServer;
let sessions: KubeSession[] = [];
let watches: ListWatch[] = [];

before(async () => {
  server = await ApiServer.start();
  for (const { path } of resources) server.put(path, { metadata: { name: 'one' } });
});
after(async () => {
  const stopped = Promise.all(watches.map((watch) => watch.stop()));
  for (const session of sessions) session.close();
  await stopped;
  await server.stop();
});

test(`${agents} agents come back within the spread, not at once`, async () => {
  const endpoint = { url: server.url, ca: () => server.ca, authorization: () => null };
  sessions = Array.from({ length: agents }, () => new KubeSession({ endpoint, spreadMs }));
  const sink = {
    ...{ set: () => undefined, delete: () => undefined },
    ...{ retain: () => undefined, stateChanged: () => undefined },
  };
  watches = sessions.flatMap((session) =>
    resources.map((resource) => new ListWatch({ session, resource, sink })),
  );
  for (const watch of watches) watch.start();
  const isSynced = (): boolean => watches.every(({ state }) => state.kind === 'synced');
  await waitFor(() => isSynced() && server.watching === watches.length, {
    what: 'all lists',
    timeoutMs: 30_000,
  });
  assert.equal(server.connections, agents, 'one connection each');

  server.cut();
  const startMs = performance.now();
  await waitFor(() => performance.now() - startMs >= spreadMs / 2, { what: 'half of it' });
  const early = server.connections - agents;
  assert.ok(early < agents * 0.7, `${early} in the first half`);
  await waitFor(() => performance.now() - startMs >= widthMinMs, { what: 'most of it' });
  assert.ok(server.connections < 2 * agents, `all within ${widthMinMs} ms`);
  await waitFor(() => isSynced() && server.watching === watches.length, {
    what: 'all watches',
    timeoutMs: 30_000,
  });
  assert.equal(server.connections, 2 * agents);
  for (const { counters } of watches) assert.equal(counters.lists, 1, 'no list is read again');
});
