// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { waitFor } from '@tandem/testing/wait';
import { inClusterEndpoint, type KubeEndpoint } from './endpoint.ts';
import { readKubeconfig } from './kubeconfig.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-kubeconfig-'));
after(() => rmSync(directory, { recursive: true }));
const put = (name: string, content: string): string => {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
};
const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** JSON is YAML. */
function kubeconfig(user: object, cluster: object = {}): string {
  return put(
    'kubeconfig',
    JSON.stringify({
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'c' },
      clusters: [
        {
          name: 'k',
          cluster: {
            server: 'https://192.0.2.1:6443',
            'certificate-authority-data': base64('CA'),
            ...cluster,
          },
        },
      ],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
    }),
  );
}

async function endpointOf(user: object, refreshMs?: number): Promise<KubeEndpoint> {
  const options = refreshMs === undefined ? {} : { refreshMs };
  const endpoint = await readKubeconfig(kubeconfig(user), options);
  assert.ok(endpoint.ok, JSON.stringify(endpoint));
  return endpoint.value;
}

test('server, authority and token', async () => {
  const endpoint = await endpointOf({ token: 't' });
  assert.equal(endpoint.url, 'https://192.0.2.1:6443');
  assert.equal(endpoint.ca()?.toString(), 'CA');
  assert.equal(endpoint.authorization(), 'Bearer t');
});

test('a client certificate', async () => {
  const endpoint = await endpointOf({
    'client-certificate-data': base64('CERT'),
    'client-key-data': base64('KEY'),
  });
  const { cert, key } = endpoint.certificate?.() ?? {};
  assert.deepEqual([cert?.toString(), key?.toString()], ['CERT', 'KEY']);
  assert.equal(endpoint.authorization(), null);
});

test('a token file that is replaced', async () => {
  const tokenFile = put('token', 'one');
  const endpoint = await endpointOf({ tokenFile, token: 'passed over' }, 10);
  assert.equal(endpoint.authorization(), 'Bearer one');
  put('token', 'two');
  await waitFor(() => endpoint.authorization() === 'Bearer two', { what: 'the new token' });
});

test('a clock that is set back keeps no token alive', async (t) => {
  const tokenFile = put('token', 'one');
  const endpoint = await endpointOf({ tokenFile }, 10);
  t.mock.method(Date, 'now', () => 0);
  put('token', 'two');
  await waitFor(() => endpoint.authorization() === 'Bearer two', { what: 'the new token' });
});

test('an authority that is mended is there for the next connection, though no request was made', async () => {
  const endpoint = await endpointOf({ token: 't' }, 10);
  kubeconfig({ token: 't' }, { 'certificate-authority-data': base64('ANOTHER') });
  await waitFor(() => endpoint.ca()?.toString() === 'ANOTHER', { what: 'the new authority' });
});

test('a kubeconfig that breaks later leaves what it said', async () => {
  const endpoint = await endpointOf({ token: 't' }, 0);
  put('kubeconfig', '{');
  endpoint.authorization();
  await new Promise(setImmediate);
  assert.equal(endpoint.authorization(), 'Bearer t');
  assert.equal(endpoint.ca()?.toString(), 'CA');
});

for (const [name, path, problem] of [
  ['no file', () => join(directory, 'absent'), /ENOENT/],
  ['no YAML', () => put('broken', '{'), /broken: /],
  ['no context', () => put('empty', '{"apiVersion":"v1"}'), /no current context/],
  [
    'a server that is not to be verified',
    () => kubeconfig({}, { 'insecure-skip-tls-verify': true }),
    /insecure-skip-tls-verify is not supported/,
  ],
] as const) {
  test(`refused: ${name}`, async () => {
    const endpoint = await readKubeconfig(path());
    assert.ok(!endpoint.ok);
    assert.match(endpoint.error, problem);
  });
}

test('a kubeconfig that is half written shows nothing of its token', async () => {
  const whole = JSON.stringify({ users: [{ name: 'u', user: { token: 'secret-of-the-user' } }] });
  const endpoint = await readKubeconfig(put('half', whole.slice(0, whole.indexOf('-user'))));
  assert.ok(!endpoint.ok);
  assert.doesNotMatch(endpoint.error, /secret/);
});

test('in a pod: the service account, read anew for each request', () => {
  const environment = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
  const missing = inClusterEndpoint({}, directory);
  assert.ok(!missing.ok && /give --kubeconfig/.test(missing.error));
  put('token', 'one\n');
  const without = inClusterEndpoint(environment, directory);
  assert.ok(!without.ok && /ca\.crt/.test(without.error));
  put('ca.crt', 'CA');
  const endpoint = inClusterEndpoint(environment, directory);
  assert.ok(endpoint.ok);
  assert.equal(endpoint.value.url, 'https://[fd00::1]:443');
  assert.equal(endpoint.value.authorization(), 'Bearer one');
  put('token', 'two');
  assert.equal(endpoint.value.authorization(), 'Bearer two');
});

test('without its library, as in the image of the agent, a kubeconfig is a problem with a fix', async () => {
  const endpoint = await readKubeconfig(kubeconfig({ token: 't' }), {
    load: () => import(`@kubernetes/absent-${process.pid}`),
  });
  assert.match(JSON.stringify(endpoint), /is not installed.*leave kubeconfig empty in a pod/);
});
