// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The chart in each of its forms: Helm 3 and Helm 4 make the same objects of it for each version of Kubernetes, and a real API
 * server takes all of them without a field that it does not know.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { definitions } from '@tandem/controller/definitions';
import { parse, stringify } from 'yaml';
import { RealApiServer } from '../kit/real-api-server.ts';
import {
  type ChartObject,
  chart,
  everything,
  forms,
  kubernetesMinors,
  objectsOf,
  runHelm,
} from './helm-chart.ts';
import { type HelmProgram, helmPrograms } from './kubectl.ts';
import { binary, monitoringDefinition } from './programs.ts';

const namespace = 'tandem-system';

async function objects(
  program: HelmProgram,
  minor: number,
  ...args: readonly string[]
): Promise<readonly ChartObject[]> {
  const version = ['--kube-version', `1.${minor}.0`, '--namespace', namespace];
  const { status, stdout, stderr } = await runHelm(program, [
    ...['template', 'tandem', chart, ...version, ...args],
  ]);
  assert.equal(status, 0, stderr);
  return objectsOf(stdout);
}

for (const program of helmPrograms) {
  test(`${program} lint finds nothing in any form`, async () => {
    for (const [form, args] of Object.entries(forms)) {
      const { status, stdout, stderr } = await runHelm(program, [
        'lint',
        '--strict',
        chart,
        ...args,
      ]);
      assert.equal(status, 0, `${form}: ${stdout}${stderr}`);
      assert.doesNotMatch(stdout + stderr, /WARNING|ERROR/, form);
    }
  });
}

test('Helm 3 and Helm 4 make the same objects, for each version of Kubernetes', async () => {
  for (const [form, args] of Object.entries(forms)) {
    const expected = new Map<string, ChartObject>();
    for (const minor of kubernetesMinors) {
      for (const program of helmPrograms) {
        const found = await objects(program, minor, ...args);
        assert.ok(found.length > 8, form);
        for (const object of found) {
          const key = `${object.kind} ${object.metadata.name}`;
          if (!expected.has(key)) expected.set(key, object);
          assert.deepEqual(object, expected.get(key), `${form}: ${key}, ${program}, 1.${minor}`);
        }
        assert.equal(found.length, expected.size, form);
      }
    }
  }
});

describe('a real API server', () => {
  let api: RealApiServer;
  let paths: ReadonlyMap<string, { readonly path: string; readonly isNamespaced: boolean }>;
  const directory = mkdtempSync(join(tmpdir(), 'tandem-chart-programs-'));
  const kubeconfig = join(directory, 'kubeconfig');

  before(async () => {
    symlinkSync(binary('etcd'), join(directory, 'etcd'));
    symlinkSync(binary('kubernetes', 'kube-apiserver'), join(directory, 'kube-apiserver'));
    api = await RealApiServer.start(directory);
    writeFileSync(kubeconfig, stringify(kubeconfigOf(api)));
    for (const name of [namespace, 'restricted']) {
      const labels = name === 'restricted' ? { 'pod-security.kubernetes.io/enforce': name } : {};
      await api.call('POST', '/api/v1/namespaces', { metadata: { name, labels } });
    }
    const defined = [
      ...definitions.map(({ name, spec }) => ({
        ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' },
        ...{ metadata: { name }, spec },
      })),
      ...(await Promise.all(
        ['podmonitors', 'prometheusrules'].map(async (plural) =>
          parse(readFileSync(await monitoringDefinition(plural), 'utf8')),
        ),
      )),
    ];
    for (const each of defined) {
      await api.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', each);
    }
    paths = await readPaths(api);
  });
  after(async () => {
    await api[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  /** Without making it. @throws Error with the server's answer */
  async function create(object: ChartObject): Promise<void> {
    const { kind, apiVersion, metadata } = object;
    const found = paths.get(`${apiVersion} ${kind}`);
    assert.ok(found !== undefined, `${apiVersion} ${kind} is not served`);
    const [group, plural] = found.path.split(' ');
    const scope = found.isNamespaced ? `/namespaces/${metadata.namespace ?? namespace}` : '';
    const query = 'dryRun=All&fieldValidation=Strict';
    await api.call('POST', `${group}${scope}/${plural}?${query}`, object);
  }

  for (const [form, args] of Object.entries(forms)) {
    test(`takes each object, with no field that it does not know: ${form}`, async () => {
      for (const object of await objects('helm', 36, ...args)) await create(object);
    });
  }

  test('takes each object of a release with the longest name', async () => {
    const release = `x${'y'.repeat(51)}z`;
    const args = ['--kube-version', '1.36.3', '--namespace', namespace, ...everything];
    const { status, stdout, stderr } = await runHelm('helm', ['template', release, chart, ...args]);
    assert.equal(status, 0, stderr);
    for (const object of objectsOf(stdout)) await create(object);
  });

  test('a field that it does not know would be refused', async () => {
    const found = (await objects('helm', 36)).find(({ kind }) => kind === 'DaemonSet');
    const { spec } = found as unknown as { readonly spec: object };
    const path = `/apis/apps/v1/namespaces/${namespace}/daemonsets`;
    const query = 'dryRun=All&fieldValidation=Strict';
    const object = { ...found, spec: { ...spec, updatestrategy: {} } };
    await assert.rejects(api.call('POST', `${path}?${query}`, object), /updatestrategy/);
  });

  for (const program of helmPrograms) {
    const install = (into: string, ...args: readonly string[]): ReturnType<typeof runHelm> =>
      runHelm(program, [
        ...['install', 'tandem', chart, '--dry-run=server', '--namespace', into],
        ...['--kubeconfig', kubeconfig, ...args],
      ]);

    test(`${program} finds the cluster fit for it`, async () => {
      const { status, stderr } = await install(namespace);
      assert.equal(status, 0, stderr);
    });

    test(`${program} says that a namespace of restricted pods would start none of its pods`, async () => {
      const { status, stderr } = await install('restricted');
      assert.notEqual(status, 0);
      assert.match(stderr, /pod-security\.kubernetes\.io\/enforce=privileged/);
    });
  }

  test('a second release in the cluster is refused, with the name of the first', async () => {
    const role = {
      metadata: {
        name: 'first-agent',
        labels: {
          'app.kubernetes.io/part-of': 'tandem',
          'app.kubernetes.io/instance': 'first',
        },
      },
    };
    const path = '/apis/rbac.authorization.k8s.io/v1/clusterroles';
    await api.call('POST', path, role);
    try {
      const { status, stderr } = await runHelm('helm', [
        ...['install', 'second', chart, '--dry-run=server', '--namespace', namespace],
        ...['--kubeconfig', kubeconfig],
      ]);
      assert.notEqual(status, 0);
      assert.match(stderr, /release first/);
    } finally {
      await api.call('DELETE', `${path}/first-agent`);
    }
  });

  test('no release is installed while the uninstall of another one waits for nodes, in whatever namespace', async () => {
    const labels = { 'app.kubernetes.io/name': 'tandem-uninstall' };
    const image = 'localhost/tandem/agent:0.1.0';
    const left = {
      metadata: { name: 'first-uninstall', labels },
      spec: {
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: { containers: [{ name: 'removed', image }] },
        },
      },
    };
    const path = '/apis/apps/v1/namespaces/default/daemonsets';
    await api.call('POST', path, left);
    try {
      const { status, stderr } = await runHelm('helm', [
        ...['install', 'second', chart, '--dry-run=server', '--namespace', namespace],
        ...['--kubeconfig', kubeconfig],
      ]);
      assert.notEqual(status, 0);
      assert.match(stderr, /kubectl -n default delete daemonset first-uninstall/);
    } finally {
      await api.call('DELETE', `${path}/first-uninstall`);
    }
  });
});

/** Where the server has each kind: its group's path and its plural. */
async function readPaths(
  api: RealApiServer,
): Promise<ReadonlyMap<string, { readonly path: string; readonly isNamespaced: boolean }>> {
  const found = new Map<string, { path: string; isNamespaced: boolean }>();
  const groups = (
    (await api.call('GET', '/apis')) as unknown as {
      readonly groups: readonly {
        readonly versions: readonly { readonly groupVersion: string }[];
      }[];
    }
  ).groups.flatMap(({ versions }) => versions.map(({ groupVersion }) => groupVersion));
  for (const version of ['v1', ...groups]) {
    const path = version === 'v1' ? '/api/v1' : `/apis/${version}`;
    const { resources } = (await api.call('GET', path)) as unknown as {
      readonly resources: readonly { name: string; kind: string; namespaced: boolean }[];
    };
    for (const { name, kind, namespaced } of resources) {
      if (name.includes('/')) continue;
      found.set(`${version} ${kind}`, { path: `${path} ${name}`, isNamespaced: namespaced });
    }
  }
  return found;
}

const kubeconfigOf = ({ url, ca }: RealApiServer): object => ({
  apiVersion: 'v1',
  kind: 'Config',
  'current-context': 'it',
  contexts: [{ name: 'it', context: { cluster: 'it', user: 'admin' } }],
  clusters: [
    {
      name: 'it',
      cluster: { server: url, 'certificate-authority-data': ca.toString('base64') },
    },
  ],
  users: [{ name: 'admin', user: { token: 'admin' } }],
});
