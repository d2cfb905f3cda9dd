// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DirectorySource } from '@tandem/agent/source/directory';
import type { SourceObject } from '@tandem/agent/source/read-documents';
import { ownPrefix } from '@tandem/testing/namespace';
import { cli } from '../../test/run-cli.ts';
import { exitCode } from '../exit-codes.ts';
import { readFiles } from './read-files.ts';
import type { Finding } from './validate-objects.ts';

const fixture = (path: string): string =>
  fileURLToPath(new URL(`../../test/fixtures/${path}`, import.meta.url));

async function findings(path: string): Promise<readonly Finding[]> {
  const run = await cli(['policy', 'validate', '-o', 'json', '-f', fixture(path)]);
  assert.equal(run.code, exitCode.problem);
  const report = JSON.parse(run.stdout) as { isValid: boolean; findings: Finding[] };
  assert.equal(report.isValid, false);
  return report.findings;
}

/** "code file:line document field", without the message. */
function placeOf({ code, file, line, document, field }: Finding): string {
  return `${code} ${basename(file)}:${line} ${document} ${field}`.trimEnd();
}

test('good files: exit code 0 and counts', async () => {
  const run = await cli(['policy', 'validate', '-f', fixture('good')]);
  assert.equal(run.stdout, '2 files, 3 objects, 1 valid policy: no errors\n');
  assert.equal(run.code, exitCode.ok);
  const one = await cli(['policy', 'validate', '-f', fixture('good/policy.yml')]);
  assert.equal(one.stdout, '1 file, 1 object, 1 valid policy: no errors\n');
});

test('several -f are one set of files: the last one does not hide the others', async () => {
  const files = ['-f', fixture('bad/policy.yaml'), '-f', fixture('good/policy.yml')];
  const run = await cli(['policy', 'validate', ...files]);
  assert.match(run.stdout, /bad\/policy\.yaml:8.*\n2 files, 4 objects/s);
  assert.equal(run.code, exitCode.problem);
});

test('every error of a policy, with file, line, document and field', async () => {
  const found = await findings('bad/policy.yaml');
  assert.deepEqual(found.map(placeOf), [
    'policy-invalid policy.yaml:8 1 spec.egress[0].toFQDNs[0].matchName',
    'policy-invalid policy.yaml:10 1 spec.egress[0].toPorts[0].ports[0].port',
    'policy-invalid policy.yaml:11 1 spec.egress[1].toGroups',
    'policy-invalid policy.yaml:12 1 spec.egress[1].icmps',
    'duplicate policy.yaml:23 2 metadata.name',
    'policy-warning policy.yaml:27 2 spec.egress[0]',
    'policy-hint policy.yaml:27 2 spec.egress[0]',
  ]);
  for (const { object, message } of found) {
    assert.match(object, /^CiliumNetworkPolicy shop\/(wrong|twice)$/);
    assert.ok(message.length > 10);
  }
});

test('a file that is no YAML does not hide what comes after it', async () => {
  const found = await findings('bad/broken.yaml');
  assert.ok(
    found.some(({ code, document, line }) => code === 'yaml' && document === 2 && line > 5),
  );
  const late = found.filter(({ code }) => code === 'object-invalid').map(placeOf);
  assert.deepEqual(late, ['object-invalid broken.yaml:13 3 status.podIP']);
});

test('faults beside the body of a policy: the field, its line and the fix', async () => {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-validate-`));
  try {
    const text = [
      'apiVersion: cilium.io/v2',
      'kind: CiliumNetworkPolicy',
      'metadata: { name: p, namespace: shop, labels: null }',
      'spec: { endpointSelector: {}, ingress: [{}] }',
    ];
    const write = (name: string, ...lines: readonly string[]): void =>
      writeFileSync(join(directory, name), lines.join('\n'));
    const deny = 'metadata: { name: deny, namespace: shop, labels: null }';
    write('a.yaml', ...text.with(2, deny));
    write('b.yaml', ...text.slice(0, 2), deny, 'spec: { endpointSelector: {}, egress: [{}] }');
    write('c.yaml', ...text.with(2, 'metadata: { name: c, namespace: shop }'), 'egress: [{}]');
    write('d.yaml', ...text.with(2, 'metadata: { name: 5, namespace: shop }'));
    const run = await cli(['policy', 'validate', '-o', 'json', '-f', directory]);
    assert.equal(run.code, exitCode.problem);
    const report = JSON.parse(run.stdout) as { findings: Finding[]; policies: number };
    assert.deepEqual(report.findings.map(placeOf), [
      'duplicate b.yaml:3 1 metadata.name',
      'policy-invalid c.yaml:5 1 egress',
      'policy-invalid d.yaml:3 1 metadata.name',
    ]);
    const [twice, stray, name] = report.findings.map(({ message }) => message);
    assert.match(twice ?? '', /a\.yaml:3 with other contents: none of them is enforced/);
    assert.match(stray ?? '', /stands beside spec, where it has no effect: indent it under spec/);
    assert.match(name ?? '', /is the number 5, but must be a text: .*in quotes/);
    assert.equal(report.policies, 0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('what is no manifest gets one error, with what to do', async () => {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-validate-`));
  const policy = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\n';
  const rows: readonly (readonly [name: string, text: string, message: RegExp])[] = [
    ['np.yaml', `{{- if .Values.on }}\n${policy}{{- end }}\n`, /template: .*helm template CHART/],
    ['name.yaml', policy.replace('name: p', 'name: {{ .Values.a }}'), /template: .*helm template/],
    [
      'kustomization.yaml',
      'resources: [np.yaml]\n',
      /neither apiVersion nor kind.*kustomize build/,
    ],
    ['merge.yaml', `<<<<<<< HEAD\n${policy}=======\n${policy}>>>>>>> x\n`, /marks of a merge/],
    ['stream.json', '{"a": 1}\n{"b": 2}\n', /Put --- between JSON objects/],
    ['twice.yaml', `${policy}kind: NetworkPolicy\nkind: Pod\n`, /unique, and 1 more in this doc/],
  ];
  try {
    for (const [name, text] of rows) writeFileSync(join(directory, name), text);
    for (const [name, , message] of rows) {
      const run = await cli(['policy', 'validate', '-o', 'json', '-f', join(directory, name)]);
      const { findings: found } = JSON.parse(run.stdout) as { findings: readonly Finding[] };
      assert.equal(found.length, 1, `${name}: ${run.stdout}`);
      assert.match(found[0]?.message ?? '', message);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('policies of kinds that are not enforced are errors, other kinds are passed over', async () => {
  const found = await findings('bad/kinds.yaml');
  assert.deepEqual(
    found.map(({ severity, code, object }) => `${severity} ${code} ${object}`),
    ['error kind-unsupported AdminNetworkPolicy np', 'error object-invalid object'],
  );
});

test('a redirect that is none is an error, with field and line', async () => {
  const found = await findings('redirect-bad/policies.yaml');
  assert.deepEqual(found.map(placeOf), [
    'object-invalid policies.yaml:6 1 spec.redirectFrontend.serviceMatcher.namespace',
    'object-invalid policies.yaml:9 1 spec.redirectBackend.overrideIP',
  ]);
});

test('a DNS rule for kube-dns alone, behind a redirect: what Cilium would do is said', async () => {
  assert.deepEqual(await warnings('redirect'), ['dns-redirect-unnamed 19 spec.egress[0]']);
});

/** Warnings of files without an error, as "code line field". */
async function warnings(path: string): Promise<readonly string[]> {
  const run = await cli(['policy', 'validate', '-o', 'json', '-f', fixture(path)]);
  assert.equal(run.code, exitCode.ok, run.stdout);
  const report = JSON.parse(run.stdout) as { findings: Finding[] };
  assert.ok(report.findings.every(({ severity }) => severity === 'warning'));
  return report.findings.map(({ code, line, field }) => `${code} ${line} ${field}`);
}

/** They have DNS rules alone, and one of them by labels alone. */
const dnsHints = [
  'policy-hint 7 spec.egress[0]',
  'policy-hint 22 spec.egress[0]',
  'policy-hint 35 spec.egress[0].toEndpoints[0]',
  'policy-hint 34 spec.egress[0]',
];

test('DNS rules whose servers cannot be listed are warnings, whatever else there is', async () => {
  assert.deepEqual(await warnings('dns'), [
    'dns-servers-not-listed 7 spec.egress[0]',
    'dns-servers-not-listed 11 spec.egress[1]',
    ...dnsHints,
  ]);
});

test('files of a whole cluster tell of DNS rules without a server, and of the wrong port', async () => {
  assert.deepEqual(await warnings('dns-cluster'), [
    'dns-servers-not-listed 7 spec.egress[0]',
    'dns-servers-not-listed 11 spec.egress[1]',
    'dns-backend-port 22 spec.egress[0]',
    'dns-rule-without-server 34 spec.egress[0]',
    ...dnsHints,
  ]);
});

test('the table says the same', async () => {
  const run = await cli(['policy', 'validate', '-f', fixture('bad')], { isTerminal: true });
  assert.match(run.stdout, /policy\.yaml:11, document 1: .*error/);
  assert.match(
    run.stdout,
    /CiliumNetworkPolicy shop\/wrong: spec\.egress\[1\]\.toGroups\n {2}is not supported/,
  );
  assert.match(run.stdout, /3 files, \d+ objects, 0 valid policies: .*\d+ errors.*, 2 warnings/);
  assert.equal(run.code, exitCode.problem);
});

test('objects are those that the agent reads', () => {
  const source = new DirectorySource(fixture('good'), () => undefined);
  source.start();
  source.stop();
  const { objects } = source.state();
  const simple = ({ file, document, raw }: Omit<SourceObject, 'line' | 'damage'>): object => ({
    file: basename(file),
    document,
    raw,
  });
  assert.equal(objects.length, 3);
  assert.deepEqual(readFiles(fixture('good')).objects.map(simple), objects.map(simple));
});

test('a bomb of aliases, a large file and an empty directory are answers', async () => {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-validate-`));
  try {
    const empty = await cli(['policy', 'validate', '-f', directory]);
    assert.equal(empty.code, exitCode.usage);
    const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
    const bomb = names.map((name, i) =>
      i === 0
        ? 'a: &a [x, x, x, x, x, x, x, x, x]'
        : `${name}: &${name} [${Array(9)
            .fill(`*${names[i - 1]}`)
            .join()}]`,
    );
    writeFileSync(join(directory, 'bomb.yaml'), bomb.join('\n'));
    writeFileSync(join(directory, 'large.yaml'), '#'.repeat((8 << 20) + 1));
    const run = await cli(['policy', 'validate', '-f', directory]);
    assert.match(run.stdout, /bomb\.yaml, document 1: error\n {2}.*alias/i);
    assert.match(run.stdout, /large\.yaml: error\n {2}has \d+ bytes, the limit is/);
    const endless = await cli(['policy', 'validate', '-f', '/dev/zero']);
    assert.match(endless.stdout, /has over \d+ bytes, which is the limit/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
