// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Values of the chart: images of any registry, names of any length, and what is refused with which words. */

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { chartValues } from '../kit/chart-readme.ts';
import {
  chart,
  containersOf,
  everything,
  helm,
  objectsOf,
  podsOf,
  rendered,
  template,
} from './helm-chart.ts';

async function imagesOf(...args: readonly string[]): Promise<readonly string[]> {
  const containers = podsOf(await rendered(...everything, ...args)).flatMap(containersOf);
  return [...new Set(containers.map(({ image }) => image))].toSorted();
}

test('what is taken away with null is as if it were empty', async () => {
  const names = [
    ...['global', 'imagePullSecrets', 'agent.options', 'dnsProxy.options', 'agent.image'],
    ...[
      'k8s',
      ...['appArmorProfile', 'seLinuxOptions'],
      'metrics.podMonitor.labels',
      'metrics.rules.labels',
      'metrics.dashboards.annotations',
    ],
  ];
  const set = names.flatMap((name) => ['--set', `${name}=null`]);
  const { status, stderr } = await template(...everything, ...set);
  assert.equal(status, 0, stderr);
});

test('each process has each variable once', async () => {
  for (const container of podsOf(await rendered(...everything)).flatMap(containersOf)) {
    const variables = container.env?.map(({ name }) => name) ?? [];
    assert.deepEqual(variables, [...new Set(variables)], container.name);
  }
});

test('a release or namespace whose name YAML would read as a number has it as text', async () => {
  const named = ['1234', chart, '--namespace', '5678', '--kube-version', '1.34.0'];
  const { status, stdout, stderr } = await helm('template', ...named, ...everything);
  assert.equal(status, 0, stderr);
  const numbers: string[] = [];
  const look = (value: unknown, path: string): void => {
    if (value === 1234 || value === 5678) numbers.push(path);
    if (typeof value !== 'object' || value === null) return;
    for (const [name, inner] of Object.entries(value)) look(inner, `${path}.${name}`);
  };
  for (const object of objectsOf(stdout)) look(object, `${object.kind} ${object.metadata.name}`);
  assert.deepEqual(numbers, []);
  assert.match(stdout, /"1234"/);
});

test('one value moves every image to another registry, for a cluster that reaches no other', async () => {
  const images = await imagesOf('--set', 'global.imageRegistry=harbor.local:5000');
  assert.deepEqual(images, [
    'harbor.local:5000/tandem/agent:0.1.0',
    'harbor.local:5000/tandem/dns-proxy:0.1.0',
  ]);
});

test('an image is named by its parts, by its digest, or whole', async () => {
  const digest = `sha256:${'0f'.repeat(32)}`;
  const agent = `agent.image.registry=a.example,agent.image.repository=x/y,agent.image.tag=t,agent.image.digest=${digest}`;
  const images = await imagesOf('--set', `${agent},dnsProxy.image.override=b.example/z@${digest}`);
  assert.deepEqual(images, [`a.example/x/y:t@${digest}`, `b.example/z@${digest}`]);
});

test('every pod has the secrets to pull with, once each', async () => {
  const set = ['--set', 'imagePullSecrets[0].name=one,imagePullSecrets[1]=two'];
  const pods = podsOf(
    await rendered(...everything, ...set, '--set', 'global.imagePullSecrets={two,three}'),
  );
  assert.ok(pods.length >= 5);
  for (const { imagePullSecrets = [] } of pods) {
    assert.deepEqual(imagePullSecrets.map(({ name }) => name).toSorted(), ['one', 'three', 'two']);
  }
});

test('a changed option replaces the pods of its process, and no others', async () => {
  const templates = async (...args: readonly string[]): Promise<Readonly<Record<string, string>>> =>
    Object.fromEntries(
      (await rendered(...args))
        .filter(({ kind }) => kind === 'DaemonSet')
        .map((each) => [
          each.metadata.name,
          JSON.stringify(
            (each as unknown as { readonly spec: { readonly template: unknown } }).spec.template,
          ),
        ]),
    );
  const former = await templates();
  const changed = await templates('--set', 'agent.options.clusterName=other');
  assert.notEqual(changed['tandem-agent'], former['tandem-agent']);
  assert.equal(changed['tandem-dns-proxy'], former['tandem-dns-proxy']);
});

test('names of the longest release that Helm allows are names of objects, and its labels are labels', async () => {
  const release = `x${'y'.repeat(51)}z`;
  const { status, stdout, stderr } = await helm(
    ...['template', release, chart, '--kube-version', '1.36.3', '--namespace', 'n'.repeat(63)],
    ...everything,
  );
  assert.equal(status, 0, stderr);
  const label = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;
  let seen = 0;
  const visit = (value: unknown, path: string): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, each] of Object.entries(value)) {
      if (['labels', 'matchLabels'].includes(key) && typeof each === 'object' && each !== null) {
        for (const [name, text] of Object.entries(each as Record<string, string>)) {
          seen += 1;
          assert.ok(text.length <= 63 && label.test(text), `${path}.${key}.${name}: ${text}`);
        }
      }
      visit(each, `${path}.${key}`);
    }
  };
  for (const each of parseAllDocuments(stdout)) {
    const object = each.toJS() as { kind: string; metadata: { name: string } } | null;
    if (object === null) continue;
    visit(object, object.kind);
    const { name } = object.metadata;
    // Pods of a Job have its name as a label.
    const limit = object.kind === 'Job' ? 63 : 253;
    assert.ok(
      name.length <= limit && /^[a-z0-9][-a-z0-9.]*[a-z0-9]$/.test(name),
      `${object.kind} ${name}`,
    );
  }
  assert.ok(seen > 100, `${seen}`);
});

test('nothing is in another namespace than that of the release', async () => {
  const { stdout } = await helm(
    ...['template', 'other', chart, '--kube-version', '1.36.3', '--namespace', 'dns-policy'],
    ...everything,
  );
  assert.doesNotMatch(stdout, /namespace: "?kube-system"?$/m);
  const names = [...stdout.matchAll(/^ {2}name: "?([^"\n]+)/gm)].map(([, name = '']) => name);
  assert.ok(names.length > 10);
  for (const name of names) assert.match(name, /^other/);
});

interface Schema {
  readonly $ref?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
}

test('each value has a place in the schema, and each place in the schema a value with a text', () => {
  const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8')) as Schema & {
    readonly definitions: Readonly<Record<string, Schema>>;
  };
  const places = (at: Schema, path: string): readonly string[] => {
    const { properties } =
      at.$ref === undefined ? at : (schema.definitions[at.$ref.split('/').at(-1) ?? ''] ?? {});
    if (properties === undefined) return [path];
    const prefix = path === '' ? '' : `${path}.`;
    return Object.entries(properties).flatMap(([name, each]) => places(each, `${prefix}${name}`));
  };
  const former = ['terminationGracePeriodSeconds'];
  const found = places(schema, '').filter((each) => !former.includes(each));
  const values = chartValues(join(chart, 'values.yaml')).map(({ path }) => path);
  assert.deepEqual(found.toSorted(), values.toSorted());
});

for (const [what, values, message] of [
  [
    'a registry in the repository',
    'image.repository=registry.example.com/tandem',
    /image\.registry=registry\.example\.com,image\.repository=tandem/,
  ],
  [
    'the same, of imported images',
    'image.repository=localhost/tandem',
    /image\.registry=localhost/,
  ],
  ['a value of a former version', 'terminationGracePeriodSeconds=30', /is now drainSeconds/],
  ['a digest that is none', 'agent.image.digest=latest', /digest/],
  ['an image with a blank', 'agent.image.override=a b', /override/],
  ['a tag with a slash', 'image.tag=a/b', /tag/],
  ['a registry with a scheme', 'global.imageRegistry=https://x.example', /imageRegistry/],
  ['text for a switch', 'gate.enabled=sometimes', /gate/],
  ['a number for a list', 'tolerations=3', /tolerations/],
  ['text for options', 'agent.options=clusterName', /options/],
  ['an option that there is not', 'agent.options.clusterNme=prod', /clusterNme is no option/],
  ['an option of the other process', 'dnsProxy.options.clusterName=a', /no option of this process/],
  ['an option that is a value', 'agent.options.runDir=/x', /set runDir/],
  ['another of them', 'dnsProxy.options.metricsAddress=0.0.0.0:1', /set metrics\.address/],
  ['an option that the image decides', 'agent.options.gateProgram=/x', /set by the chart/],
  ['a list for an option', 'agent.options.podBridges={a,b}', /podBridges/],
  ['an option with a dash', 'agent.options.cluster-name=a', /options/],
  ['a cleanup that waits for ever', 'cleanup.timeoutSeconds=0', /timeoutSeconds/],
  ['an empty priority class', 'priorityClassName=3', /priorityClassName/],
  ['a relative directory', 'stateDir=relative', /stateDir/],
  ['a parent directory', 'gate.confDir=/etc/../x', /confDir/],
  ['a directory that YAML would cut off', 'runDir=/run/a\\, b', /runDir/],
  ['a directory that the API refuses', 'runDir=/run/a:b', /runDir/],
  ['one directory for two purposes', 'runDir=/x,stateDir=/x/', /\/x, which is for (run|state)Dir/],
  ['the directory of the pins', 'runDir=/sys/fs/bpf', /which is for the bpffs/],
  [
    'one port of the node for both',
    'agent.metricsPort=9965',
    /dnsProxy\.metricsPort is 9965, which is agent\.metricsPort/,
  ],
  ['the shared port', 'agent.metricsPort=10053', /which is agent\.options\.port/],
  ['the shared port by an option', 'agent.options.port=9965', /dnsProxy\.metricsPort is 9965/],
  ['a toleration that is none', 'controller.tolerations={}', /tolerations/],
  ['a label that is no text', 'nodeSelector.gpu=true', /nodeSelector/],
  ['policy that ends with each agent', 'agent.options.removeOnStop=true', /cleanup\.onUninstall/],
  ['an AppArmor profile with a blank', 'appArmorProfile=a b', /appArmorProfile/],
  ['an SELinux option that there is not', 'seLinuxOptions.kind=x', /seLinuxOptions/],
  ['a URL for the API server', 'k8s.serviceHost=https://x/', /serviceHost/],
  ...['127.0.0.1', '127.1.2.3', 'localhost', 'LOCALHOST.', '::1', '0:0:0:0:0:0:0:1', '0.0.0.0'].map(
    (host) =>
      [
        `${host} for the API server of the controller`,
        `k8s.serviceHost=${host}`,
        /set an address that pods reach/,
      ] as const,
  ),
] as const) {
  test(`${what} is refused, with what to set`, async () => {
    const { status, stderr } = await template('--set', values);
    assert.notEqual(status, 0);
    assert.match(stderr, message);
  });
}

test('one value names the API server, for nodes on which kube-proxy comes later', async () => {
  const set = ['--set', 'k8s.serviceHost=api.example,k8s.servicePort=443'];
  const asks = (await rendered(...set, '--set', 'cleanup.onUninstall=true'))
    .filter(({ kind }) => ['DaemonSet', 'Deployment', 'Job'].includes(kind))
    .map((object) => {
      const env = podsOf([object]).flatMap(containersOf)[0]?.env ?? [];
      const of = (name: string) => env.find((each) => each.name === name)?.value;
      return `${object.metadata.name} ${of('KUBERNETES_SERVICE_HOST')}:${of('KUBERNETES_SERVICE_PORT')}`;
    });
  const none = 'undefined:undefined';
  assert.deepEqual(
    asks.toSorted(),
    [
      'tandem-agent api.example:443',
      'tandem-controller api.example:443',
      `tandem-dns-proxy ${none}`,
      `tandem-uninstall ${none}`,
      'tandem-uninstall api.example:443',
    ].toSorted(),
  );
  // On its loopback interface the node may have a proxy to it, which a pod with its own network does not reach.
  for (const more of ['::a,controller.enabled=true', '127.0.0.1,controller.enabled=false']) {
    const { status, stderr } = await template('--set', `k8s.serviceHost=${more}`);
    assert.equal(status, 0, stderr);
  }
  const variables = podsOf(await rendered())
    .flatMap(containersOf)
    .flatMap(({ env = [] }) => env);
  assert.deepEqual(
    variables.filter(({ name }) => name.startsWith('KUBERNETES_')),
    [],
    'as kubelet says',
  );
});

test('what runs on each node is kept off nodes that are no machines, and values can say otherwise', async () => {
  const affinities = async (...args: readonly string[]): Promise<readonly unknown[]> => {
    const objects = (await rendered(...everything, ...args)).filter(
      ({ kind }) => kind !== 'Deployment',
    );
    return podsOf(objects).map(
      (pod) => (pod as unknown as { readonly affinity?: unknown }).affinity,
    );
  };
  const usual = await affinities();
  // Agent, DNS proxy, what cleans, what waits for it, and the two of `helm test`.
  assert.equal(usual.length, 6);
  for (const each of usual) {
    const matchExpressions = [
      { key: 'eks.amazonaws.com/compute-type', operator: 'NotIn', values: ['fargate'] },
      { key: 'type', operator: 'NotIn', values: ['virtual-kubelet'] },
    ];
    const required = { nodeSelectorTerms: [{ matchExpressions }] };
    assert.deepEqual(each, {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: required },
    });
  }
  assert.deepEqual(
    (await affinities('--set', 'affinity=null')).filter((each) => each !== undefined),
    [],
  );
});

test('build metadata of a version is no fault of a label or an image', async () => {
  const copy = mkdtempSync(join(tmpdir(), 'tandem-chart-'));
  after(() => rmSync(copy, { recursive: true }));
  cpSync(chart, copy, { recursive: true });
  const file = join(copy, 'Chart.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll(/ersion: 0\.1\.0$/gm, '$&+2026.a'));
  const { status, stdout, stderr } = await helm(
    'template',
    'tandem',
    copy,
    '--kube-version',
    '1.36.3',
    ...everything,
  );
  assert.equal(status, 0, stderr);
  assert.match(stdout, /chart: tandem-0\.1\.0_2026\.a\n/);
  assert.match(stdout, /\/agent:0\.1\.0_2026\.a\n/);
  assert.doesNotMatch(stdout, /0\.1\.0\+/);
});

test('no pod has variables of Services, which could be too many or be taken for options', async () => {
  const specs = podsOf(await rendered(...everything));
  assert.ok(specs.length > 5);
  for (const spec of specs) assert.equal(spec.enableServiceLinks, false);
});

test('definitions are no part of the chart: Helm would neither upgrade them nor leave those of others alone', async () => {
  const kinds = (await rendered('--include-crds')).map(({ kind }) => kind);
  assert.ok(!kinds.includes('CustomResourceDefinition'));
});
