// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { KubeSession } from '@tandem/kube/session';
import { createLogger } from '@tandem/runtime/log';
import { ApiServer, type Fault, respondStatus } from '@tandem/testing/api-server';
import { waitFor } from '@tandem/testing/wait';
import { PolicyStatus } from './policy-status.ts';
import { ciliumKinds } from './resources.ts';
import { emptyWriteCounts, type WriteResult, Writer } from './writer.ts';

let server: ApiServer;
let session: KubeSession;
let isLeader: () => boolean = () => true;
const term = new AbortController();
const counts = emptyWriteCounts();
const log = createLogger({ program: 'test', level: 'error' });

before(async () => {
  server = await ApiServer.start();
  const endpoint = { url: server.url, ca: () => server.ca, authorization: () => null };
  session = new KubeSession({ endpoint, spreadMs: 1 });
});
afterEach(() => {
  server.fault = () => false;
  isLeader = () => true;
  server.requests.length = 0;
});
after(async () => {
  session.close();
  await server.stop();
});

const writer = (): Writer =>
  new Writer({ session, isLeader: () => isLeader(), signal: term.signal }, counts);
const call = { method: 'PATCH', path: '/apis/x', content: {} } as const;

function answering(status: number, body: object, headers: Record<string, string> = {}): Fault {
  return (_, stream) => {
    stream.respond({ ':status': status, 'content-type': 'application/json', ...headers });
    stream.end(JSON.stringify(body));
    return true;
  };
}

test('whoever does not lead sends nothing, also when the lease ended while a connection was waited for', async () => {
  isLeader = () => false;
  assert.equal((await writer().write('condition', call)).result, 'not-leader');
  const endpoint = { url: server.url, ca: () => server.ca, authorization: () => null };
  const fresh = new KubeSession({ endpoint });
  let isHeld = true;
  const late = new Writer({ session: fresh, isLeader: () => isHeld, signal: term.signal }, counts);
  const writing = late.write('condition', call);
  isHeld = false;
  assert.equal((await writing).result, 'not-leader');
  fresh.close();
  assert.deepEqual(server.requests, []);
  assert.equal(counts.condition['not-leader'], 2);
});

const causes = (reason: string): object => ({ details: { causes: [{ reason }] } });
const results: readonly (readonly [status: number, body: object, result: WriteResult])[] = [
  [200, {}, 'written'],
  [201, {}, 'written'],
  [403, {}, 'forbidden'],
  [403, causes('NamespaceTerminating'), 'gone'],
  [404, { details: { name: 'p' } }, 'gone'],
  [404, {}, 'unsupported'],
  [404, { details: 'odd' }, 'unsupported'],
  [405, {}, 'unsupported'],
  [409, { reason: 'Conflict' }, 'changed'],
  [409, { reason: 'AlreadyExists' }, 'exists'],
  [409, { reason: 'Conflict', ...causes('FieldManagerConflict') }, 'foreign'],
  [409, { details: { causes: [null, 'x'] } }, 'changed'],
  [422, {}, 'refused'],
  [401, {}, 'busy'],
  [429, {}, 'busy'],
  [500, {}, 'busy'],
  [503, [], 'busy'],
];
for (const [status, body, result] of results) {
  test(`${status} ${JSON.stringify(body)} is ${result}`, async () => {
    server.fault = answering(status, body);
    const former = counts.taint[result];
    assert.equal((await writer().write('taint', call)).result, result);
    assert.equal(counts.taint[result], former + 1);
  });
}

test('an answer that is cut off, and one that is no JSON, are no success without a status', async () => {
  server.fault = (_, stream) => {
    stream.close(2);
    return true;
  };
  assert.equal((await writer().write('event', call)).result, 'busy');
  server.fault = (_, stream) => {
    stream.respond({ ':status': 502 });
    stream.end('<html>');
    return true;
  };
  assert.equal((await writer().write('event', call)).result, 'busy');
});

test('an API server that asks for time gets it, for the whole kind', async () => {
  const [resource] = ciliumKinds;
  assert.ok(resource !== undefined);
  const status = new PolicyStatus({
    ...{ resource, writer: writer(), log, hasStatus: () => true, onRoom: () => undefined },
    ...{ served: () => resource, hasReasons: false },
  });
  const times: number[] = [];
  server.fault = (_, stream) => {
    times.push(performance.now());
    if (times.length <= 4) respondStatus(stream, 429, 'later', { 'retry-after': '1' });
    else respondStatus(stream, 200, 'fine');
    return true;
  };
  for (let i = 0; i < 30; i++) {
    const metadata = { name: `p${i}`, namespace: 'shop', resourceVersion: '1' };
    const object = { apiVersion: resource.apiVersion, kind: resource.kind, metadata, spec: {} };
    status.set(`shop/p${i}`, object);
  }
  await waitFor(() => status.queue.length === 0, { what: 'all', timeoutMs: 10_000 });
  const [first = 0] = times;
  assert.equal(times.length, 34);
  assert.ok(times.slice(4).every((each) => each - first >= 990));
  assert.equal(status.invalidObjects, 30);
  status.stop();
});

test('a condition that came while the lease was over is written when it is renewed', async () => {
  const [resource] = ciliumKinds;
  assert.ok(resource !== undefined);
  const status = new PolicyStatus({
    ...{ resource, writer: writer(), log, hasStatus: () => true, onRoom: () => undefined },
    ...{ served: () => resource, hasReasons: false },
  });
  server.fault = answering(200, {});
  const former = counts.condition['not-leader'];
  isLeader = () => false;
  const metadata = { name: 'p', namespace: 'shop', resourceVersion: '1' };
  status.set('shop/p', {
    ...{ apiVersion: resource.apiVersion, kind: resource.kind, metadata, spec: {} },
  });
  await waitFor(() => counts.condition['not-leader'] > former, { what: 'the write in vain' });
  isLeader = () => true;
  await waitFor(() => server.requests.length === 1, { what: 'the write' });
  status.stop();
});

test('of an object that changes while it is written the last version is written too', async () => {
  const [resource] = ciliumKinds;
  assert.ok(resource !== undefined);
  const status = new PolicyStatus({
    ...{ resource, writer: writer(), log, hasStatus: () => true, onRoom: () => undefined },
    ...{ served: () => resource, hasReasons: false },
  });
  const bodies: string[] = [];
  server.fault = (_, stream) => {
    let text = '';
    stream.setEncoding('utf8').on('data', (part: string) => (text += part));
    stream.once('end', () => {
      bodies.push(text);
      respondStatus(stream, 200, 'fine');
    });
    return true;
  };
  const object = (
    resourceVersion: string,
    spec: unknown,
    more: object = {},
  ): Record<string, unknown> => ({
    ...{ apiVersion: resource.apiVersion, kind: resource.kind, spec },
    metadata: { name: 'p', namespace: 'shop', resourceVersion, ...more },
  });
  status.set('shop/p', object('1', {}));
  status.set('shop/p', object('2', { endpointSelector: {}, ingress: [{}] }));
  await waitFor(() => status.queue.length === 0, { what: 'both' });
  assert.match(bodies.at(-1) ?? '', /"resourceVersion":"2".*Policy validation succeeded/);
  // Of one that is about to go nothing is said.
  const written = bodies.length;
  status.set('shop/p', object('3', {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }));
  status.set('shop/p', object('4', {}));
  status.delete('shop/p');
  await waitFor(() => status.queue.length === 0, { what: 'the end' });
  assert.ok(bodies.length <= written + 1);
  assert.equal(status.invalidObjects + status.validObjects, 0);
  status.stop();
});
