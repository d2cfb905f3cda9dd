// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which files `tandem policy validate -f` reads, and which objects it finds in them. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, test } from 'node:test';
import { ownPrefix } from '@tandem/testing/namespace';
import { readFiles } from './read-files.ts';
import { validateObjects } from './validate-objects.ts';

const directory = mkdtempSync(join(tmpdir(), ownPrefix));
after(() => rmSync(directory, { recursive: true }));

const policy = (name: string): string =>
  `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}}, spec: {endpointSelector: {}, ingress: [{fromEntities: [host]}]}}\n`;

test('-R reads each directory once, whatever links lead to it, and no hidden one', () => {
  const root = join(directory, 'links');
  mkdirSync(join(root, 'a/.git'), { recursive: true });
  for (const file of ['a/one.yaml', 'a/.git/old.yaml', 'two.yaml']) {
    writeFileSync(join(root, file), policy('p'));
  }
  symlinkSync('..', join(root, 'a/back'));
  symlinkSync('a', join(root, 'also'));
  symlinkSync('nowhere', join(root, 'gone.yaml'));
  symlinkSync('self', join(root, 'self'));
  const { files, problems } = readFiles(root, { isRecursive: true });
  assert.deepEqual(
    files.map((file) => relative(root, file)),
    ['a/one.yaml', 'gone.yaml', 'two.yaml'],
  );
  assert.deepEqual(
    problems.map(({ file }) => relative(root, file)),
    ['gone.yaml'],
  );
});

test('a volume of a ConfigMap, whose files are links into a hidden directory, is read once', () => {
  const root = join(directory, 'volume');
  mkdirSync(join(root, '..data_1'), { recursive: true });
  writeFileSync(join(root, '..data_1/p.yaml'), policy('p'));
  symlinkSync('..data_1', join(root, '..data'));
  symlinkSync('..data/p.yaml', join(root, 'p.yaml'));
  const { files } = readFiles(root, { isRecursive: true });
  assert.deepEqual(files, [join(root, 'p.yaml')]);
});

test('a policy in a list counts, whatever the list is called', () => {
  for (const kind of ['List', 'list', 'CiliumNetworkPolicyList', 'Bundle']) {
    const file = join(directory, `${kind}.yaml`);
    writeFileSync(file, `apiVersion: v1\nkind: ${kind}\nitems:\n- ${policy('p')}`);
    const { policies, findings } = validateObjects(readFiles(file));
    assert.deepEqual([policies, findings], [1, []], kind);
  }
  const file = join(directory, 'mapping.yaml');
  writeFileSync(file, `apiVersion: v1\nkind: List\nitems:\n  a: ${policy('p')}`);
  const [finding] = validateObjects(readFiles(file)).findings;
  assert.equal(finding?.severity, 'error');
  assert.match(finding.message, /is a mapping, but must be a list/);
});

test('of a file that a tool fills in or decrypts, what to validate in its place is said', () => {
  const rows: readonly (readonly [text: string, advice: RegExp])[] = [
    [policy('"{{ .Values.name }}"'), /-f <\(helm template CHART\)$/],
    [policy('{{ .Values.name }}'), /-f <\(helm template CHART\)$/],
    [policy('"${APP}-p"'), /-f <\(kustomize build DIRECTORY \| flux envsubst\)$/],
    [policy('${APP:=shop}'), /flux envsubst\)$/],
    [policy('$APP'), /flux envsubst\)$/],
    [policy('"<% app %>"'), /The file is a template: validate what it renders$/],
    [
      policy('p').replace(/}\n$/, ', sops: {mac: x}}\n'),
      /is encrypted: validate -f <\(sops decrypt FILE\)$/,
    ],
  ];
  for (const [text, advice] of rows) {
    const file = join(directory, 'template.yaml');
    writeFileSync(file, text);
    const [finding] = validateObjects(readFiles(file)).findings;
    assert.match(finding?.message ?? '', advice, text);
  }
  const file = join(directory, 'plain.yaml');
  writeFileSync(file, policy('P'));
  assert.match(validateObjects(readFiles(file)).findings[0]?.message ?? '', /digits, - and \.$/);
});

test('a whole repository: files of other tools and objects of other kinds do not count, whatever their names', () => {
  const root = join(directory, 'repository');
  const service = (port: number): string =>
    `{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: ${port}}]}}\n`;
  const calico = policy('p').replace('cilium.io/v2', 'example.com/v1');
  const files: Readonly<Record<string, string>> = {
    'Taskfile.yaml': 'version: 3\ntasks: {}\n',
    'Chart.yaml': 'apiVersion: v2\nname: chart\nversion: 1.0.0\n',
    'patch.yaml': '- {op: remove, path: /spec/replicas}\n',
    'values.json': '{"replicas": 1}',
    'blueprint.yaml': 'version: 1\nmetadata: {name: b}\nentries: []\n',
    'release-1.yaml': '{apiVersion: a.test/v1, kind: Release, metadata: {name: r}, spec: {a: 1}}\n',
    'release-2.yaml': '{apiVersion: a.test/v1, kind: Release, metadata: {name: r}, spec: {a: 2}}\n',
    'policy.yaml': policy('p'),
  };
  mkdirSync(root);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, name), text);
  const found = validateObjects(readFiles(root));
  assert.deepEqual([found.findings, found.policies, found.passedOver], [[], 1, 7]);
  writeFileSync(join(root, 's1.yaml'), service(80));
  writeFileSync(join(root, 's2.yaml'), service(81));
  writeFileSync(join(root, 'kindless.yaml'), policy('q').replace('kind: ', 'Kind: '));
  const { findings } = validateObjects(readFiles(root));
  assert.deepEqual(
    findings
      .map(({ severity, code, file }) => `${severity} ${code} ${relative(root, file)}`)
      .sort(),
    [
      'error policy-invalid kindless.yaml',
      'error policy-invalid kindless.yaml',
      'warning duplicate s2.yaml',
    ],
  );
  // It is named: then it is meant to hold objects.
  const [named] = validateObjects(readFiles(join(root, 'Taskfile.yaml'))).findings;
  assert.match(named?.message ?? '', /is no object of Kubernetes/);
  writeFileSync(join(root, 'policy-2.yaml'), policy('p').replace('host', 'world'));
  writeFileSync(join(root, 'calico.yaml'), calico.replace('CiliumNetworkPolicy', 'NetworkPolicy'));
  const twice = validateObjects(readFiles(root)).findings.find(
    ({ severity, code }) => severity === 'error' && code === 'duplicate',
  );
  assert.match(
    twice?.message ?? '',
    /policy-2.yaml:1 with other contents: none of them is enforced/,
  );
});
