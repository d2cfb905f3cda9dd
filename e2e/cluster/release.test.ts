// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Steps of a release that can be tried without a registry: the workflows are well-formed, the chart of a release names what was pushed. */

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { definitions } from '@tandem/controller/definitions';
import { mergeArchives } from '@tandem/images/merge';
import { imageArchive, layerOf } from '@tandem/images/oci';
import { type RunResult, tryRun } from '@tandem/testing/process';
import { parse } from 'yaml';
import { containersOf, objectsOf, podsOf, repository, runHelm } from './helm-chart.ts';
import { helmPrograms } from './kubectl.ts';
import { binary } from './programs.ts';
import { startRegistry } from './registry.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-release-'));
after(() => rmSync(directory, { recursive: true }));
const workflows = join(repository, '.github/workflows');
const digests = { agent: `sha256:${'ab'.repeat(32)}`, 'dns-proxy': `sha256:${'cd'.repeat(32)}` };

function releaseChart(changes: Readonly<Record<string, string>> = {}): Promise<RunResult> {
  const options = {
    ...{
      output: directory,
      version: '1.2.3-rc.1',
      registry: 'r.example',
      repository: 'team/tandem',
    },
    ...digests,
    ...changes,
  };
  const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const script = join(repository, 'scripts/release-chart.ts');
  return tryRun(process.execPath, [...process.execArgv, script, ...args]);
}

test('actionlint finds nothing in the workflows', async () => {
  const files = readdirSync(workflows).map((name) => join(workflows, name));
  assert.ok(files.length >= 2);
  const { status, stdout, stderr } = await tryRun(binary('actionlint'), files);
  assert.equal(status, 0, stdout + stderr);
});

test('each script that a workflow runs is there', () => {
  for (const name of readdirSync(workflows)) {
    const text = readFileSync(join(workflows, name), 'utf8');
    const scripts = [...text.matchAll(/(?:^|\s)((?:\.\/run|scripts\/\S+\.ts))\b/g)];
    assert.ok(scripts.length > 0, name);
    for (const [, script = ''] of scripts) assert.ok(existsSync(join(repository, script)), script);
  }
});

test('no workflow may write more than its jobs need', () => {
  for (const name of readdirSync(workflows)) {
    const { permissions } = parse(readFileSync(join(workflows, name), 'utf8')) as {
      readonly permissions: unknown;
    };
    assert.deepEqual(permissions, { contents: 'read' }, name);
  }
});

test('the chart of a release runs the images that were pushed, by their digests', async () => {
  const made = await releaseChart();
  assert.equal(made.status, 0, made.stderr);
  const chart = join(directory, 'tandem');
  for (const program of helmPrograms) {
    const args = ['template', 'tandem', chart, '--kube-version', '1.36.3'];
    const { status, stdout, stderr } = await runHelm(program, args);
    assert.equal(status, 0, stderr);
    const images = podsOf(objectsOf(stdout))
      .flatMap(containersOf)
      .map(({ image }) => image);
    assert.deepEqual([...new Set(images)].toSorted(), [
      `r.example/team/tandem/agent:1.2.3-rc.1@${digests.agent}`,
      `r.example/team/tandem/dns-proxy:1.2.3-rc.1@${digests['dns-proxy']}`,
    ]);
    const lint = await runHelm(program, ['lint', '--strict', chart]);
    assert.equal(lint.status, 0, lint.stdout);
    const target = ['--destination', join(directory, program)];
    assert.equal((await runHelm(program, ['package', chart, ...target])).status, 0);
    assert.deepEqual(readdirSync(join(directory, program)), ['tandem-1.2.3-rc.1.tgz']);
  }
  const values = readFileSync(join(chart, 'values.yaml'), 'utf8');
  const before = readFileSync(join(repository, 'charts/tandem/values.yaml'), 'utf8');
  const comments = (text: string): number =>
    text.split('\n').filter((line) => /^\s*#/.test(line)).length;
  assert.equal(comments(values), comments(before), 'comments stay');
  const { annotations } = parse(readFileSync(join(chart, 'Chart.yaml'), 'utf8')) as {
    readonly annotations: Readonly<Record<string, string>>;
  };
  assert.equal(annotations['artifacthub.io/prerelease'], 'true');
  assert.equal((parse(annotations['artifacthub.io/images'] ?? '') as readonly unknown[]).length, 2);
});

test('a release is pushed to a registry as the workflow does it, and installed from there by its digests', async () => {
  await using registry = await startRegistry(directory);
  const { host } = registry;
  const layer = layerOf([{ path: 'etc/it', mode: 0o644, content: Buffer.from('it') }]);
  const version = '1.2.3';
  const pushed: Record<string, string> = {};
  for (const name of ['agent', 'dns-proxy'] as const) {
    const full = `localhost/tandem/${name}:${version}`;
    const archives = ['amd64', 'arm64'].map((architecture) => {
      const path = join(directory, `${name}-${architecture}.tar`);
      const image = { names: [full] as const, layers: [layer], entrypoint: [name], architecture };
      writeFileSync(path, imageArchive(image));
      return path;
    });
    const [merged = '', told = ''] = ['merged', 'digest'].map((each) =>
      join(directory, `${name}-${each}`),
    );
    const digest = mergeArchives(archives, merged, full);
    const target = `docker://${host}/team/tandem/${name}:${version}`;
    const options = ['--all', '--preserve-digests', `--digestfile=${told}`];
    const copied = await tryRun('skopeo', [
      ...['copy', '--dest-tls-verify=false', ...options, `oci:${merged}:${version}`, target],
    ]);
    assert.equal(copied.status, 0, copied.stderr);
    assert.equal(readFileSync(told, 'utf8'), digest, 'what was pushed is what was merged');
    const raw = ['inspect', '--raw', '--tls-verify=false', target];
    const { manifests } = JSON.parse((await tryRun('skopeo', raw)).stdout) as {
      readonly manifests: readonly { readonly platform: { readonly architecture: string } }[];
    };
    assert.deepEqual(
      manifests.map(({ platform }) => platform.architecture),
      ['amd64', 'arm64'],
    );
    pushed[name] = digest;
  }
  const made = await releaseChart({ ...pushed, version, registry: host });
  assert.equal(made.status, 0, made.stderr);
  for (const program of helmPrograms) {
    const into = join(directory, `${program}-pushed`);
    const chart = join(directory, 'tandem');
    await runHelm(program, ['package', chart, '--destination', into]);
    const charts = `oci://${host}/team/tandem/charts`;
    const file = join(into, `tandem-${version}.tgz`);
    const push = await runHelm(program, ['push', file, charts, '--plain-http']);
    assert.equal(push.status, 0, push.stderr);
    // what the workflow signs
    assert.match(push.stdout + push.stderr, /^Digest: sha256:[0-9a-f]{64}$/m);
    const from = ['--version', version, '--plain-http', '--kube-version', '1.36.3'];
    const installed = await runHelm(program, ['template', 'tandem', `${charts}/tandem`, ...from]);
    assert.equal(installed.status, 0, installed.stderr);
    const images = podsOf(objectsOf(installed.stdout)).flatMap(containersOf);
    assert.deepEqual([...new Set(images.map(({ image }) => image))].toSorted(), [
      `${host}/team/tandem/agent:${version}@${pushed['agent']}`,
      `${host}/team/tandem/dns-proxy:${version}@${pushed['dns-proxy']}`,
    ]);
  }
});

for (const [what, changes, message] of [
  ['a tag for a digest', { agent: 'latest' }, /--agent: "latest" is not a digest/],
  ['a version with its v', { version: 'v1.2.3' }, /--version: "v1\.2\.3" is not a version/],
] as const) {
  test(`${what} makes no chart`, async () => {
    const { status, stderr } = await releaseChart(changes);
    assert.equal(status, 2);
    assert.match(stderr, message);
  });
}

test('annotations of the chart name its custom resources as they are', () => {
  const { annotations } = parse(
    readFileSync(join(repository, 'charts/tandem/Chart.yaml'), 'utf8'),
  ) as { readonly annotations: Readonly<Record<string, string>> };
  const named = parse(annotations['artifacthub.io/crds'] ?? '') as readonly {
    readonly name: string;
    readonly kind: string;
  }[];
  assert.deepEqual(
    named.map(({ name }) => name).toSorted(),
    definitions.map(({ name }) => name).toSorted(),
  );
});
